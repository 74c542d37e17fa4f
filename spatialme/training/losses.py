"""What the refiner is trained on (SpatialMe, III.D, equations 8-11; METHOD.md section 4). Functions of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

AdversarialKind = Literal["wasserstein", "hinge"]


@dataclass(frozen=True)
class LossWeights:
    """The paper's weights; 0 switches a term off, and what only that term needs."""

    hole: float = 10.0  # alpha of equation 8: of hole pixels, against 1 outside
    content: float = 10.0
    perceptual: float = 2.0
    adversarial: float = 0.1
    # equation 8 for the generated content C alone; not in the paper. M3 = 0.9975 hides C at the start, and as long as
    # C is worse than the branches M3 only grows, until nothing reaches C any more: docs/training.md
    generated: float = 0.0
    # divide each sample's equation 8 by that of its branches' mean, so that hard samples do not outvote easy ones
    relative: bool = False
    # equation 8 of squared differences, which PSNR is made of
    squared: bool = False
    # LPIPS on AlexNet where equation 8 looks, not in the paper: what tables measure, for a twentieth of VGG19's cost
    lpips: float = 0.0

    def __post_init__(self) -> None:
        for name, weight in vars(self).items():
            if weight < 0:
                raise ValueError(f"the weight of {name} must not be negative, got {weight}")


LEAST_REFERENCE = 1 / 255  # of a sample's loss that others are divided by; its square of squared differences


def content_loss(
    view: Tensor,
    truth: Tensor,
    hole: Tensor,
    hole_weight: float,
    *,
    reference: Tensor | None = None,
    squared: bool = False,
) -> Tensor:
    """Equation 8 as a mean: absolute difference, hole pixels counted `hole_weight` times.

    Args:
        view: (B, 3, H, W) in [0, 1].
        truth: The same.
        hole: (B, 1, H, W) bool.
        hole_weight: Alpha.
        reference: (B, 3, H, W), another view, by whose loss each sample's is divided.
        squared: Of squared differences instead.
    """
    power = 2 if squared else 1
    weight = _weight(hole.to(view.dtype), hole_weight)
    samples = (weight * (view - truth).abs() ** power).mean((1, 2, 3))
    if reference is not None:
        others = (weight * (reference - truth).abs() ** power).mean((1, 2, 3))
        samples = samples / others.clamp(min=LEAST_REFERENCE**power)
    return samples.mean()


def distance_loss(distance: Tensor, hole: Tensor, hole_weight: float) -> Tensor:
    """Mean of a map of distances, hole pixels counted `hole_weight` times.

    Args:
        distance: (B, 1, H, W), such as of LPIPS.
        hole: (B, 1, H, W) bool.
        hole_weight: Alpha.
    """
    weight = _weight(hole.to(distance.dtype), hole_weight)
    return (weight * distance).sum() / weight.sum()


def _weight(hole: Tensor, hole_weight: float) -> Tensor:
    return 1 + (hole_weight - 1) * hole


def perceptual_loss(features: Sequence[Tensor], truth_features: Sequence[Tensor]) -> Tensor:
    """Equation 9: mean absolute difference of each layer's features, summed over the layers."""
    terms = [(mine - true).abs().mean() for mine, true in zip(features, truth_features)]
    return torch.stack(terms).sum()


def critic_loss(real_scores: Tensor, fake_scores: Tensor, kind: AdversarialKind) -> Tensor:
    """What the critic minimises: equation 10, or the hinge form, which stops at a margin of 1."""
    if kind == "hinge":
        return F.relu(1 - real_scores).mean() + F.relu(1 + fake_scores).mean()
    return fake_scores.mean() - real_scores.mean()


def generator_loss(fake_scores: Tensor) -> Tensor:
    """The refiner's term in equation 11, for both kinds: it wants its views scored as real."""
    return -fake_scores.mean()
