"""What both back ends of the forward warp share: the result, the thresholds and the checks.

The surface of one row. Column i is a vertex at its displaced centre ``i + 0.5 - d_i``. Neighbours are joined by a
straight segment while the surface is continuous; where the disparity jumps by more than `TEAR_PX`, and at the frame's
edge, it is torn, and each side ends with a flat half pixel::

    near   |-.-.-.-|                      . vertices, - segments, | flat ends at a tear
    far             ( hole )  |-.-.-.-    where disparity falls from left to right; where it rises, near covers far

A stretch of at most `CHIP_PX` columns with a falling tear on both sides is the ramp of a blurred border, not a surface:
it lands nowhere, where otherwise its mixed colours would be strewn over the hole.

At the centre of every output pixel the nearest piece (largest disparity) wins, ties go to the smaller source column,
and no piece means a hole. On every piece ``x_left = x_right + disparity`` holds exactly, and the colour is the source
row sampled once at x_left, never across a tear.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# Disparity step per source pixel beyond which two neighbours are two surfaces. A slope, so it needs no scaling with the
# width. Measured on motorcycle_cc0 (true disparity, true right view): the pixels that thresholds of 2, 3 and 5 cover
# beyond this one's are wrong by 30 to 37 of 255 rms (all pixels: 8), pixels of no surface. At 1, on sharpened depth of
# real clips, two to five times as many holes are a single pixel wide.
TEAR_PX = 1.5

# Source columns. On sharpened depth of real clips this removes 86 to 99 % of the lone pixels inside holes, and adds
# 0.04 to 0.09 % of the frame to them; longer stretches are rare.
CHIP_PX = 2

# A segment stretches over at most 1 + TEAR_PX px, so it covers at most this many pixel centres.
SEGMENT_CENTRES = 3


class ForwardWarp(NamedTuple):
    """A synthesised right view; the fields of the same names in `spatialme.types.WarpedClip`."""

    view: Tensor  # (T, 3, H, W) RGB in [0, 1]; zero inside holes
    disparity: Tensor  # (T, 1, H, W) float32 px, in the synthesised view; zero inside holes
    hole: Tensor  # (T, 1, H, W) bool


class NotFiniteError(ValueError):
    """Some disparity is NaN or infinite."""

    def __init__(self) -> None:
        super().__init__("disparity holds NaN or infinite values; check the depth it was made from")


def check_shapes(frames: Tensor, disparity: Tensor) -> None:
    """Raise ValueError unless `disparity` is (T, 1, H, W) for frames of (T, 3, H, W)."""
    if frames.ndim != 4 or frames.shape[1] != 3:
        raise ValueError(f"frames must be (T, 3, H, W), got {tuple(frames.shape)}")
    if disparity.shape != frames[:, :1].shape:
        raise ValueError(f"disparity must be {tuple(frames[:, :1].shape)}, got {tuple(disparity.shape)}")


def check_finite(disparity: Tensor) -> None:
    """Raise ValueError if any disparity is NaN or infinite; on a GPU this waits for the device."""
    # the extremes are NaN if any value is, and finding them is several times faster than looking at each
    if not bool(torch.isfinite(torch.stack(disparity.aminmax())).all()):
        raise NotFiniteError


def landing_shift(disparity: Tensor) -> Tensor:
    """Disparity as float32, with what lands far outside (or is not finite) moved to one place there: same shape.

    Keeps every column that is computed from it within the range of exact float32 integers.
    """
    width = disparity.shape[-1]
    shift = disparity.float()
    return torch.where(shift.abs() < 2 * width, shift, 3.0 * width)
