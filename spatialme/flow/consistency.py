"""The forward-backward check: a flow is trusted where the way back leads home."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

RELATIVE = 0.01  # of the squared lengths
ABSOLUTE_PX2 = 0.5


def forward_backward_valid(forward: Tensor, backward: Tensor) -> Tensor:
    """Where ``|f + b(x + f)|^2 < 0.01 (|f|^2 + |b(x + f)|^2) + 0.5`` and x + f lies in the picture.

    The test of Sundaram, Brox and Keutzer (ECCV 2010), with the constants of ALGORITHMS.md section 4.

    Args:
        forward: (T, 2, h, w) px of this grid, (u, v), from a frame to another.
        backward: (T, 2, h, w) px, from that other frame to this one.

    Returns:
        (T, 1, h, w) bool.
    """
    _, _, height, width = forward.shape
    x, y = _target(forward)
    there = torch.stack((x / width * 2 - 1, y / height * 2 - 1), dim=-1)
    back = F.grid_sample(backward, there, mode="bilinear", padding_mode="border", align_corners=False)
    error = (forward + back).square().sum(1)
    lengths = forward.square().sum(1) + back.square().sum(1)
    inside = (x >= 0) & (x <= width) & (y >= 0) & (y <= height)
    return ((error < RELATIVE * lengths + ABSOLUTE_PX2) & inside)[:, None]


def _target(flow: Tensor) -> tuple[Tensor, Tensor]:
    """Where the flow leads, in pixel coordinates (a pixel's centre is at + 0.5): two of (T, h, w)."""
    _, _, height, width = flow.shape
    x = torch.arange(width, device=flow.device, dtype=flow.dtype) + 0.5
    y = torch.arange(height, device=flow.device, dtype=flow.dtype)[:, None] + 0.5
    return x + flow[:, 0], y + flow[:, 1]
