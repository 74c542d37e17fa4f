"""Putting a filled view into the holes of the warped one."""

from __future__ import annotations

import torch
from torch import Tensor

from spatialme.settings import RefineMode


def compose(
    warped_view: Tensor, hole: Tensor, filled: Tensor, *, mode: RefineMode = "holes", border_px: int = 0
) -> Tensor:
    """Make the finished view: the filling in the holes only, or everywhere.

    No pixel outside the holes ever changes in mode ``holes``: a soft border lies inside the hole, along its right
    side, where the background is in a right view. There the warped view's border pixel, repeated to the left, fades
    into the filling over `border_px` pixels.

    Args:
        warped_view: (T, 3, H, W), the base warp.
        hole: (T, 1, H, W) bool, its holes.
        filled: (T, 3, H, W), a view without holes.
        mode: ``everywhere`` returns `filled` as it is (SpatialMe, equations 1-3).
        border_px: Width of the soft border in mode ``holes``.

    Raises:
        ValueError: Unknown mode, or a negative border.
    """
    if mode not in ("holes", "everywhere"):
        raise ValueError(f"mode must be 'holes' or 'everywhere', got {mode!r}")
    if border_px < 0:
        raise ValueError(f"border_px must be at least 0, got {border_px}")
    if mode == "everywhere":
        return filled
    if border_px:
        filled = _fade_from_right(warped_view, hole, filled, border_px)
    return torch.where(hole, filled, warped_view)


def _fade_from_right(warped_view: Tensor, hole: Tensor, filled: Tensor, border_px: int) -> Tensor:
    """Mix into `filled` the known pixel next on the right, the less the farther away it is."""
    width = hole.shape[-1]
    faded = filled.clone()
    waiting = hole.clone()  # hole pixels whose known neighbour has not been met yet
    for distance in range(1, min(border_px, width - 1) + 1):
        met = waiting[..., : width - distance] & ~hole[..., distance:]
        mixed = torch.lerp(warped_view[..., distance:], filled[..., : width - distance], distance / (border_px + 1))
        faded[..., : width - distance] = torch.where(met, mixed, faded[..., : width - distance])
        waiting[..., : width - distance] &= ~met
    return faded
