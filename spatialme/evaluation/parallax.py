"""Where the screen stands between two eyes: shifting one against the other, and keeping what both still show."""

from __future__ import annotations

from torch import Tensor


def median_shift(agreed: Tensor) -> int:
    """The whole number of px next to the median of the known disparities."""
    return round(float(agreed[agreed.isfinite()].median()))


def cut_shared(left: Tensor, right: Tensor, disparity: Tensor, shift_px: int) -> tuple[Tensor, Tensor, Tensor]:
    """Shift the eyes so that a disparity of `shift_px` becomes 0: (..., W) -> (..., W - |shift_px|) each."""
    return left_part(left, shift_px), right_part(right, shift_px), left_part(disparity, shift_px) - shift_px


def left_part(left: Tensor, shift_px: int) -> Tensor:
    """Columns of the left view that remain."""
    return left[..., max(shift_px, 0) : left.shape[-1] + min(shift_px, 0)]


def right_part(right: Tensor, shift_px: int) -> Tensor:
    """Columns of the right view that remain."""
    return right[..., max(-shift_px, 0) : right.shape[-1] - max(shift_px, 0)]
