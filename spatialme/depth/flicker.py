"""How much a shot's depth flickers: the second difference of nearness over three frames, where nothing moves.

A steady change, as of a zoom, is no flicker; a jump there and back is. Measured on every eighth pixel or so, so that
the report of every conversion can afford it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from spatialme.depth import motion
from spatialme.types import DepthClip

SHORT_SIDE = 90  # samples along the frame's shorter side, about
STILL = 0.03  # largest difference of colours (of 1), within a 3 x 3 square of samples, of what did not move


@dataclass
class FlickerMeter:
    """Takes in clips in order and keeps two frames' samples."""

    total: Tensor | float = 0.0  # stays on the device: reading it would make the host wait for a GPU
    count: Tensor | float = 0.0
    _frames: Tensor | None = field(default=None, repr=False)  # (at most 2, 3, h, w)
    _nearness: Tensor | None = field(default=None, repr=False)

    def restart(self) -> None:
        """What comes next does not follow what came last."""
        self._frames = self._nearness = None

    def feed(self, depth_clip: DepthClip) -> None:
        """Measure one clip together with the end of the one before it in its shot."""
        step = max(1, min(depth_clip.nearness.shape[-2:]) // SHORT_SIDE)
        frames, nearness = (
            values[..., step // 2 :: step, step // 2 :: step]
            for values in (depth_clip.clip.frames, depth_clip.nearness)
        )
        if self._frames is not None and self._nearness is not None and not depth_clip.clip.starts_shot:
            frames, nearness = torch.cat((self._frames, frames)), torch.cat((self._nearness, nearness))
        self._frames, self._nearness = frames[-2:].clone(), nearness[-2:].clone()
        if len(frames) >= 3:
            still = still_parts(frames)
            self.total = self.total + (second_difference(nearness) * still).sum(dtype=torch.float64)
            self.count = self.count + still.sum(dtype=torch.float64)

    @property
    def percent(self) -> float | None:
        """Mean second difference in percent of the depth's range; None where nothing stood still for three frames."""
        count = float(self.count)
        return 100 * float(self.total) / count if count else None


def second_difference(nearness: Tensor) -> Tensor:
    """(T, 1, h, w) -> (T - 2, 1, h, w): how far each frame lies from the middle of its neighbours, times two."""
    return (nearness[:-2] - 2 * nearness[1:-1] + nearness[2:]).abs()


def still_parts(frames: Tensor) -> Tensor:
    """(T, 3, h, w) -> (T - 2, 1, h, w) float: 1 where neither neighbouring frame differs, nor do the samples around."""
    change = (frames[1:] - frames[:-1]).abs().mean(1, keepdim=True)
    moved = F.max_pool2d(torch.maximum(change[1:], change[:-1]), 3, 1, 1)
    return (moved <= STILL).to(frames.dtype)


def aligned_second_difference(nearness: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
    """The second difference along the motion, where that can be followed.

    Args:
        nearness: (T, 1, h, w).
        frames: (T, 3, h, w) RGB in [0, 1].

    Returns:
        (T - 2, 1, h, w) absolute values, and (T - 2, 1, h, w) float: 1 where both neighbours' colours agree along it.
    """
    grey = frames.mean(1, keepdim=True)
    parts, trusted = [], torch.ones_like(nearness[1:-1])
    for there in (slice(0, -2), slice(2, None)):
        flow = motion.flow(grey[1:-1], grey[there])
        seen = motion.sample(torch.cat((nearness[there], frames[there]), 1), flow)
        change = motion.box((seen[:, 1:] - frames[1:-1]).abs().mean(1, keepdim=True), 1)
        trusted = trusted * (change <= STILL) * motion.inside(flow)
        parts.append(seen[:, :1])
    return (parts[0] - 2 * nearness[1:-1] + parts[1]).abs(), trusted
