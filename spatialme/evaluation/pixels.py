"""Metrics that compare pixels: differences, detail and brightness.

Greys are Rec. 601 luma of the gamma-encoded picture.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from spatialme.evaluation.sample import Sample, Scored, dilate

PSNR_CEILING_DB = 100.0  # of equal pictures, so that means over frames stay finite
LEVELS = 255.0  # brightness differences are told in levels of 8-bit video
LUMA = (0.299, 0.587, 0.114)


def absolute_error(sample: Sample, frames: slice) -> Scored:
    """Mean over the channels of the absolute difference, in [0, 1]."""
    return Scored((sample.prediction[frames] - sample.truth[frames]).abs().mean(1, keepdim=True))


def squared_error(sample: Sample, frames: slice) -> Scored:
    """Mean over the channels of the squared difference."""
    return Scored((sample.prediction[frames] - sample.truth[frames]).square().mean(1, keepdim=True))


def peak_signal_to_noise(mean_squared_error: Tensor) -> Tensor:
    """dB for a peak of 1, at most `PSNR_CEILING_DB`."""
    return (-10 * torch.log10(mean_squared_error)).clamp(max=PSNR_CEILING_DB)


def detail_ratio(sample: Sample, frames: slice) -> Scored:
    """Variance of the Laplacian of the right view outside the holes, over that of the whole left view.

    Counted are the right view's pixels whose four neighbours are known, too. Undefined where the left view is flat.
    """
    counted = None if sample.hole is None else ~dilate(sample.hole[frames], 1)[..., 1:-1, 1:-1]
    right = laplacian_variance(luma(sample.prediction[frames]), counted)
    left = laplacian_variance(luma(sample.left[frames]), None)
    return Scored(whole=torch.where(left > 0, right / left, torch.nan))


def laplacian_variance(grey: Tensor, counted: Tensor | None) -> Tensor:
    """Variance of the four-neighbour Laplacian: (n, 1, H, W), (n, 1, H - 2, W - 2) bool -> (n,) float64."""
    kernel = grey.new_tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
    edges = F.conv2d(grey, kernel).double()
    weight = torch.ones_like(edges) if counted is None else counted.double()
    total = weight.sum((1, 2, 3))
    mean = (edges * weight).sum((1, 2, 3)) / total
    return ((edges - mean[:, None, None, None]).square() * weight).sum((1, 2, 3)) / total


def level_shift(sample: Sample, frames: slice) -> Scored:
    """Absolute difference of the mean luma of the right and the left view, in levels of 255.

    Of whole frames: the right view's holes show what the left view's own half-occluded pixels resemble.
    """
    right = luma(sample.prediction[frames]).mean((1, 2, 3), dtype=torch.float64)
    left = luma(sample.left[frames]).mean((1, 2, 3), dtype=torch.float64)
    return Scored(whole=(right - left).abs() * LEVELS)


def luma(colour: Tensor) -> Tensor:
    """Grey of RGB: (n, 3, H, W) -> (n, 1, H, W)."""
    return (colour * colour.new_tensor(LUMA).view(3, 1, 1)).sum(1, keepdim=True)
