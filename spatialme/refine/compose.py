"""Putting a filled view into the holes of the warped one."""

from __future__ import annotations

import torch
from torch import Tensor

from spatialme.refine.seam import soften_seams
from spatialme.settings import RefineMode


def compose(
    warped_view: Tensor, hole: Tensor, filled: Tensor, *, mode: RefineMode = "holes", soft: bool = False
) -> Tensor:
    """Make the finished view: the filling in the holes only, or everywhere.

    No pixel outside the holes ever changes in mode ``holes``.

    Args:
        warped_view: (T, 3, H, W), the base warp.
        hole: (T, 1, H, W) bool, its holes.
        filled: (T, 3, H, W), a view without holes.
        mode: ``everywhere`` returns `filled` as it is (SpatialMe, equations 1-3).
        soft: In mode ``holes``, smooth the filling near its seams; see `soften_seams`.

    Raises:
        ValueError: Unknown mode.
    """
    if mode not in ("holes", "everywhere"):
        raise ValueError(f"mode must be 'holes' or 'everywhere', got {mode!r}")
    if mode == "everywhere":
        return filled
    finished = torch.where(hole, filled, warped_view)
    return soften_seams(finished, hole) if soft else finished
