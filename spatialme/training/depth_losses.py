"""What depth networks are trained on. Functions of tensors; every map is (B, 1, H, W), larger = nearer.

Scale and offset of inverse depth are arbitrary, so predictions and truths are both brought to median 0 and mean
deviation 1 first (R. Ranftl et al., "Towards robust monocular depth estimation", TPAMI 2022).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

SMALLEST_DEVIATION = 1e-4  # of a map in its own units, under which it is taken as constant
GRADIENT_SCALES = 4  # each half as fine as the one before
TRIMMED = 0.1  # share of the known pixels, the worst, that do not count: labels from matching have outliers


@dataclass(frozen=True)
class DepthLossWeights:
    """Weights of the terms; 0 switches a term off, and what only that term needs."""

    label: float = 1.0
    teacher: float = 0.0
    gradient: float = 0.5  # of the gradient part of both, against their value part
    temporal: float = 0.0


def normalised(values: Tensor, known: Tensor) -> Tensor:
    """The maps at median 0 and mean absolute deviation 1 over their known pixels.

    Args:
        values: (B, 1, H, W).
        known: (B, 1, H, W) bool; where it is False the result has no meaning.
    """
    hidden = torch.where(known, values, values.new_tensor(torch.nan))
    median = hidden.flatten(1).nanmedian(1).values.nan_to_num().view(-1, 1, 1, 1)
    count = known.sum((1, 2, 3), keepdim=True).clamp_min(1)
    deviation = torch.where(known, (values - median).abs(), values.new_zeros(())).sum((1, 2, 3), keepdim=True) / count
    return (values - median) / deviation.clamp_min(SMALLEST_DEVIATION)


def value_loss(predicted: Tensor, truth: Tensor, known: Tensor, *, trimmed: float = TRIMMED) -> Tensor:
    """Mean absolute difference of two normalised maps over the known pixels, the worst of each picture left out."""
    error = torch.where(known, (predicted - truth).abs(), predicted.new_zeros(())).flatten(1)
    kept = (known.flatten(1).sum(1) * (1 - trimmed)).long()
    ranked = error.sort(dim=1, descending=False).values  # unknown pixels are zeros, and come first
    unknown = error.shape[1] - known.flatten(1).sum(1)
    place = torch.arange(error.shape[1], device=error.device)
    counts = (place < (unknown + kept).unsqueeze(1)).to(error.dtype)
    return ((ranked * counts).sum(1) / kept.clamp_min(1)).mean()


def gradient_loss(predicted: Tensor, truth: Tensor, known: Tensor, *, scales: int = GRADIENT_SCALES) -> Tensor:
    """Mean absolute difference of the slopes of two normalised maps, from fine to coarse, so that steps stay steep."""
    difference = predicted - truth
    total = predicted.new_zeros(())
    for scale in range(scales):
        step = 2**scale
        seen, there = difference[..., ::step, ::step], known[..., ::step, ::step]
        for dim in (-1, -2):
            length = seen.shape[dim] - 1
            both = there.narrow(dim, 1, length) & there.narrow(dim, 0, length)
            slope = (seen.narrow(dim, 1, length) - seen.narrow(dim, 0, length)).abs()
            total = total + (slope * both).sum() / both.sum().clamp_min(1)
    return total / scales


def depth_loss(predicted: Tensor, truth: Tensor, known: Tensor, *, gradient: float, trimmed: float = TRIMMED) -> Tensor:
    """Value and gradient part of a prediction against labels or a teacher, both up to scale and offset."""
    own, wanted = normalised(predicted, known), normalised(truth, known)
    loss = value_loss(own, wanted, known, trimmed=trimmed)
    return loss + gradient * gradient_loss(own, wanted, known) if gradient else loss


def temporal_loss(first: Tensor, second: Tensor, flow: Tensor, trusted: Tensor) -> Tensor:
    """How much nearness changes along the motion between two consecutive frames.

    Both are brought to one scale and offset, those of the first, so that a wandering scale costs, too.

    Args:
        first: (B, 1, H, W) prediction of the earlier frame.
        second: (B, 1, H, W) of the later one.
        flow: (B, 2, H, W) px from the first frame to the second.
        trusted: (B, 1, H, W) bool: the flow is right there.
    """
    height, width = first.shape[-2:]
    rows, columns = (torch.arange(side, device=first.device, dtype=first.dtype) + 0.5 for side in (height, width))
    x = 2 * (columns + flow[:, 0]) / width - 1
    y = 2 * (rows.unsqueeze(1) + flow[:, 1]) / height - 1
    there = F.grid_sample(second, torch.stack((x, y), -1), padding_mode="border", align_corners=False)
    count = trusted.sum((1, 2, 3), keepdim=True).clamp_min(1)
    mean = torch.where(trusted, first, first.new_zeros(())).sum((1, 2, 3), keepdim=True) / count
    deviation = torch.where(trusted, (first - mean).abs(), first.new_zeros(())).sum((1, 2, 3), keepdim=True) / count
    change = torch.where(trusted, (there - first).abs(), first.new_zeros(())).sum((1, 2, 3), keepdim=True) / count
    return (change / deviation.detach().clamp_min(SMALLEST_DEVIATION)).mean()
