"""Backward warp: each right pixel reads the left view where the *left* view's disparity at the same place sends it.

What fast converters do (iw3's `grid_sample`, Deep3D's selection layer): no holes, but edges stand in the wrong place
and what lies beside a near surface is drawn out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from spatialme.types import WarpedClip


class BackwardWarp:
    """Bilinear look-up; the frame's edge is repeated."""

    needs_motion = False

    def stream(self, clips: Iterable[WarpedClip]) -> Iterator[Tensor]:
        """Yield the looked-up views."""
        return (look_up(clip.clip.frames, clip.source_disparity) for clip in clips)


def look_up(frames: Tensor, disparity: Tensor) -> Tensor:
    """Read frames (T, 3, H, W) at ``x + disparity`` (T, 1, H, W) px."""
    height, width = frames.shape[2:]
    x = torch.arange(width, device=frames.device) + 0.5 + disparity[:, 0]
    y = (torch.arange(height, device=frames.device) + 0.5)[:, None].expand_as(x)
    there = torch.stack((x / width * 2 - 1, y / height * 2 - 1), -1).to(frames.dtype)
    return F.grid_sample(frames, there, mode="bilinear", padding_mode="border", align_corners=False)
