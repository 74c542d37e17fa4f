"""Brings warped clips into the form that ProPainter's networks take: sizes, masks, flow on a grid that fits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from spatialme.levels import to_colours
from spatialme.types import Motion, WarpedClip

MULTIPLE = 8  # sides that both networks take
RIM_PX = 2.0  # how far masks reach beyond holes at the reference width: a warp's border pixels are mixed colours
REFERENCE_WIDTH = 1920


@dataclass(frozen=True)
class NetworkInput:
    """Frames of one clip, padded to multiples of 8."""

    colour: Tensor  # (T, 3, H, W) in [-1, 1], zero where `hole`
    hole: Tensor  # (T, 1, H, W) bool, with its rim
    flow_forward: Tensor  # (T, 2, h, w) float32 in pixels of a grid that covers the padded frame
    flow_backward: Tensor  # (T, 2, h, w)
    flow_hole: Tensor  # (T, 1, h, w) bool: flow pixels that touch a hole, and a ring around them


def prepare_input(clip: WarpedClip, motion: Motion, *, dtype: torch.dtype, flow_at_frame_size: bool) -> NetworkInput:
    """Prepare a clip.

    Args:
        clip: Its view is to be inpainted.
        motion: Of the synthesised view, on any grid.
        dtype: Of the colours.
        flow_at_frame_size: Enlarge the flow to the frame's size, as published, instead of completing it on a grid
            about its own size, which is up to nine times less work at 1080p.
    """
    height, width = clip.view.shape[2:]
    hole = _padded(_with_rim(clip.hole).to(dtype))
    colour = (_padded(to_colours(clip.view).to(dtype)) * 2 - 1) * (1 - hole)
    padded_size = (hole.shape[2], hole.shape[3])
    size = padded_size if flow_at_frame_size else _padded_size(*motion.forward.shape[2:])
    shares = (padded_size[0] / height, padded_size[1] / width)
    forward, backward = (_fit_flow(flow, size, shares) for flow in (motion.forward, motion.backward))
    flow_hole = F.adaptive_max_pool2d(hole, size) if size != padded_size else hole
    return NetworkInput(colour, hole > 0, forward, backward, F.max_pool2d(flow_hole, 3, 1, 1) > 0)


def _with_rim(hole: Tensor) -> Tensor:
    """(T, 1, H, W) bool to float with a rim of at least one pixel."""
    rim = max(1, round(RIM_PX * hole.shape[3] / REFERENCE_WIDTH))
    return F.max_pool2d(hole.float(), 2 * rim + 1, 1, rim)


def _padded_size(height: int, width: int) -> tuple[int, int]:
    return -(-height // MULTIPLE) * MULTIPLE, -(-width // MULTIPLE) * MULTIPLE


def _padded(image: Tensor) -> Tensor:
    """Repeat the last row and column until both sides fit: no pixel is resampled or lost."""
    height, width = _padded_size(*image.shape[2:])
    return F.pad(image, (0, width - image.shape[3], 0, height - image.shape[2]), mode="replicate")


def _fit_flow(flow: Tensor, size: tuple[int, int], shares: tuple[float, float]) -> Tensor:
    """Resample a flow that covers the frame to a grid that covers the padded frame.

    Args:
        flow: (T, 2, h, w) in pixels of its own grid.
        size: Of the result.
        shares: Height and width of the padded frame in those of the frame.

    Returns:
        (T, 2, *size) float32 in pixels of the new grid; what lies beyond the frame repeats the border.
    """
    flow = flow.float()
    if size == tuple(flow.shape[2:]) and shares == (1.0, 1.0):
        return flow
    steps = [share / side for share, side in zip(shares, size)]  # of a new pixel, in heights and widths of the frame
    y, x = ((torch.arange(side, device=flow.device) + 0.5) * step * 2 - 1 for side, step in zip(size, steps))
    where = torch.stack((x.expand(size), y[:, None].expand(size)), dim=-1).float()
    u, v = F.grid_sample(flow, where.expand(len(flow), *size, 2), "bilinear", "border", align_corners=False).unbind(1)
    return torch.stack((u / (flow.shape[3] * steps[1]), v / (flow.shape[2] * steps[0])), dim=1)
