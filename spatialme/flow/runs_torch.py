"""The PyTorch twin of `runs`: per pixel instead of per run, any device, no synchronisation."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

NO_BORDER = -1


class Sides(NamedTuple):
    """For every pixel of a hole, the borders of its run; (T, 1, H, W) int64, meaningless outside holes."""

    left: Tensor  # nearest known column to the left, -1 if there is none
    right: Tensor  # nearest known column to the right, the width if there is none
    border: Tensor  # the background's border column, -1 if the row has none
    step: Tensor  # leads from there into the background: -1 or 1, 0 if the row has no border


def hole_sides(hole: Tensor, disparity: Tensor) -> Sides:
    """Find both borders of every run and choose the background's.

    Args:
        hole: (T, 1, H, W) bool.
        disparity: (T, 1, H, W) px, in the same view; read beside holes only.
    """
    width = hole.shape[-1]
    column = torch.arange(width, device=hole.device).expand(hole.shape)
    left = torch.where(hole, -1, column).cummax(-1).values
    right = torch.where(hole, width, column).flip(-1).cummin(-1).values.flip(-1)
    left_disparity = disparity.gather(-1, left.clamp(min=0))
    right_disparity = disparity.gather(-1, right.clamp(max=width - 1))
    to_right = (right < width) & ((left < 0) | (right_disparity <= left_disparity))
    border = torch.where(to_right, right, left)
    step = torch.where(to_right, 1, torch.where(left < 0, 0, -1))
    return Sides(left, right, border, step)
