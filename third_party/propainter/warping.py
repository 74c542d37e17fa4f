"""Backward warping by optical flow, and the check that two opposite flows agree."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def warp(image: Tensor, flow: Tensor, *, mode: Literal["bilinear", "nearest"] = "bilinear") -> Tensor:
    """Look up, for every pixel, the image at the place where its flow leads; zero outside the image.

    Coordinates are float32 whatever the input: half precision cannot tell apart neighbouring pixels beyond 2048.

    Args:
        image: (N, C, H, W) floating point.
        flow: (N, 2, H, W) pixels, (u, v); (0, 0) reads the pixel itself.
        mode: Interpolation of `torch.nn.functional.grid_sample`.

    Returns:
        (N, C, H, W) in the image's dtype.
    """
    height, width = image.shape[-2:]
    rows = torch.arange(height, device=flow.device, dtype=torch.float32)[:, None]
    columns = torch.arange(width, device=flow.device, dtype=torch.float32)
    across = 2.0 * (columns + flow[:, 0].float()) / max(width - 1, 1) - 1.0
    down = 2.0 * (rows + flow[:, 1].float()) / max(height - 1, 1) - 1.0
    grid = torch.stack((across, down), dim=-1)
    sampled = F.grid_sample(image.float(), grid, mode=mode, padding_mode="zeros", align_corners=True)
    return sampled.to(image.dtype)


def flows_agree(flow: Tensor, opposite: Tensor) -> Tensor:
    """Where following a flow and then the opposite one leads back, within 1 % of the motion plus half a pixel.

    The test is |f + b(w)|^2 < 0.01 (|f|^2 + |b(w)|^2) + 0.5 with b(w) the opposite flow, looked up where f leads
    (Sundaram et al., "Dense point trajectories by GPU-accelerated large displacement optical flow", 2010).

    Args:
        flow: (B, T, 2, H, W) pixels, from T frames to their neighbours.
        opposite: (B, T, 2, H, W) pixels, from the neighbours back.

    Returns:
        (B, T, 1, H, W) bool.
    """
    flow = flow.float()
    there = warp(opposite.float().flatten(0, 1), flow.flatten(0, 1)).view_as(flow)
    squared_error = (flow + there).square().sum(2, keepdim=True)
    squared_motion = flow.square().sum(2, keepdim=True) + there.square().sum(2, keepdim=True)
    return squared_error < 0.01 * squared_motion + 0.5
