"""StereoCrafter's soft splatting, an option beside the exact warp (arXiv 2409.07447; ALGORITHMS.md section 2).

Each source pixel is shared bilinearly between two output pixels, weighted by sqrt(2) to the power of its disparity, so
that the nearest surface dominates without a hard border: a step of 2 px still lets a third of the background through.
Only ratios of weights on one output pixel matter, so each output pixel's own nearest surface is the reference: nothing
overflows, and nothing depends on what else is in the batch (the original takes the batch's minimum). Sums are integers
(fixed point), which every order of addition gives alike.
"""

from __future__ import annotations

import torch
from torch import Tensor

from spatialme.warp.surface import ForwardWarp, check_shapes, landing_shift

_FIXED_POINT = 2.0**40  # leaves 2**23 for the sum of one output pixel's shares
_COVERED = 0.5  # of an output pixel's area; less is a hole. A surface stretched to twice its width still covers half


def forward_warp_soft(frames: Tensor, disparity: Tensor) -> ForwardWarp:
    """Warp left frames to the right view with soft weights, on any device, without waiting for it.

    Args:
        frames: (T, 3, H, W) float in [0, 1].
        disparity: (T, 1, H, W) signed px, finite (not checked here; a pixel that is not finite lands nowhere).

    Raises:
        ValueError: Shapes that do not fit.
    """
    check_shapes(frames, disparity)
    shift = landing_shift(disparity)
    width = shift.shape[-1]
    position = torch.arange(width, device=shift.device, dtype=torch.float32) - shift
    target = position.floor()
    share = torch.stack([1 - (position - target), position - target])  # (2, T, 1, H, W)
    target = torch.stack([target, target + 1])
    share = torch.where((target >= 0) & (target < width), share, 0.0)
    index = target.clamp(0, width - 1).long()

    nearest = torch.full_like(shift, -torch.inf)
    for part in range(2):
        proposal = torch.where(share[part] > 0, shift, -torch.inf)
        nearest.scatter_reduce_(-1, index[part], proposal, "amax")
    behind = shift - torch.stack([nearest.gather(-1, index[part]) for part in range(2)])
    weight = torch.where(share > 0, share * torch.exp2(behind / 2), 0.0)

    coverage = _scatter(share, index)
    total = _scatter(weight, index).clamp(min=1 / _FIXED_POINT)
    hole = coverage < _COVERED
    view = _scatter(weight * frames.float(), index) / total
    seen = _scatter(torch.where(share > 0, weight * shift, 0.0), index) / total
    return ForwardWarp(
        torch.where(hole, 0.0, view).clamp(0, 1).to(frames.dtype), torch.where(hole, 0.0, seen).float(), hole
    )


def _scatter(values: Tensor, index: Tensor) -> Tensor:
    """Sum values (2, T, C, H, W) into their output columns `index` (2, T, 1, H, W): (T, C, H, W) float64."""
    fixed = (values.double() * _FIXED_POINT).round().long()
    total = torch.zeros_like(fixed[0])
    for part in range(2):
        total.scatter_add_(-1, index[part].expand_as(total), fixed[part])
    return total.double() / _FIXED_POINT
