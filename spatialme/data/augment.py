"""Branches made worse and better at random, so that a refiner does not learn one inpainter by heart.

Weights trained with the weight-free branches also have to serve ProPainter, and `propagation` on videos, where it finds
what other frames show: `reveal` stands for both, the others for branches that fail or are missing.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from spatialme.data.sample import Sample

BRANCH_FIELDS = ("poly", "expansion", "dl")
LARGEST_BLUR_PX = 4.0  # standard deviation
LARGEST_TINT = 0.1  # of the range, per channel
LARGEST_NOISE = 0.05


@dataclass(frozen=True)
class Augmentation:
    """Chances in [0, 1], each drawn once per sample."""

    drop: float = 0.1  # one branch is replaced by another
    swap: float = 0.1  # two branches change places
    degrade: float = 0.2  # one branch is blurred, tinted and made noisy inside the holes
    reveal: float = 0.4  # dl, and mostly expansion, show a part of the truth inside the holes

    def __post_init__(self) -> None:
        for name, chance in vars(self).items():
            if not 0 <= chance <= 1:
                raise ValueError(f"{name} is a chance in [0, 1], got {chance}")


def augment(sample: Sample, settings: Augmentation, random: np.random.Generator) -> Sample:
    """Change a sample's branches, never its truth, holes or base warp."""
    if random.random() < settings.reveal:
        sample = _reveal(sample, random)
    if random.random() < settings.degrade:
        name = BRANCH_FIELDS[random.integers(3)]
        sample = sample._replace(**{name: _degraded(getattr(sample, name), sample.hole, random)})
    if random.random() < settings.swap:
        first, second = random.choice(3, 2, replace=False)
        sample = _exchanged(sample, BRANCH_FIELDS[first], BRANCH_FIELDS[second])
    if random.random() < settings.drop:
        lost, kept = random.choice(3, 2, replace=False)
        sample = sample._replace(**{BRANCH_FIELDS[lost]: getattr(sample, BRANCH_FIELDS[kept])})
    return sample


def _reveal(sample: Sample, random: np.random.Generator) -> Sample:
    """Part of the holes shows the truth as another frame would: a little off its place and its brightness."""
    part = sample.hole & _patch(random, *sample.hole.shape[-2:])
    shown = _shifted(sample.right, *random.uniform(-0.7, 0.7, 2)) * random.uniform(0.97, 1.03)
    shown = shown.clamp(0, 1)
    changed = {"dl": torch.where(part, shown, sample.dl)}
    if random.random() < 0.7:
        changed["expansion"] = torch.where(part, shown, sample.expansion)
    return sample._replace(**changed)


def _degraded(view: Tensor, hole: Tensor, random: np.random.Generator) -> Tensor:
    picture = np.ascontiguousarray(view.permute(1, 2, 0).numpy())
    blurred = cv2.GaussianBlur(picture, (0, 0), random.uniform(0.5, LARGEST_BLUR_PX))
    tint = random.uniform(-LARGEST_TINT, LARGEST_TINT, 3)
    noise = random.normal(0, random.uniform(0, LARGEST_NOISE), picture.shape)
    spoiled = torch.from_numpy((blurred + tint + noise).clip(0, 1).astype(np.float32)).permute(2, 0, 1)
    return torch.where(hole, spoiled, view)


def _exchanged(sample: Sample, first: str, second: str) -> Sample:
    return sample._replace(**{first: getattr(sample, second), second: getattr(sample, first)})


def _patch(random: np.random.Generator, height: int, width: int) -> Tensor:
    """A random region with smooth outlines, of any share of the picture: (1, H, W) bool."""
    field = cv2.resize(random.random((6, 6), dtype=np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    return torch.from_numpy(field > np.quantile(field, random.random()))[None]


def _shifted(view: Tensor, right_px: float, down_px: float) -> Tensor:
    picture = np.ascontiguousarray(view.permute(1, 2, 0).numpy())
    matrix = np.array([[1, 0, right_px], [0, 1, down_px]])
    size = picture.shape[1], picture.shape[0]
    moved = cv2.warpAffine(picture, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    return torch.from_numpy(moved).permute(2, 0, 1)
