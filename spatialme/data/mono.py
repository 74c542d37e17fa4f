"""Pairs from 2D material: a frame is taken as the *right* view, warped to the left and back.

    frame, nearness --warp away, at the frame's size--> left view --fill, halve--> left view of the sample
    frame           --------------------------halve--------------------------> truth
    left view of the sample --warp back and branches, as in a conversion--> holes exactly where pixels were lost

The trip away runs at twice the samples' resolution and both eyes are averaged down, so that its own sampling leaves no
blur behind: the branches have been sampled once, as in a conversion, and there is no blur of ours to learn to undo.
What the left view shows and the frame does not is filled in; it lies behind the surface that hides it, so the way back
does not show it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from spatialme.data.clip_files import read_frame
from spatialme.data.disturb import disturb_disparity
from spatialme.data.manifest import CachedClip
from spatialme.data.sample import Budget, Pair, Sample, build_sample, draw_budget
from spatialme.errors import OptionError
from spatialme.inpaint.background import fill_background
from spatialme.inpaint.trace import background_points
from spatialme.types import mirror
from spatialme.warp import forward_warp

REDUCTION = 2  # the frame's resolution over the samples'
PLACES = 4  # of which the one with the most depth steps is taken: most of a random frame has no holes to learn from


class MonoClips:
    """Samples from cached 2D frames and their nearness."""

    def __init__(self, clips: Sequence[CachedClip], crop: int, disturbance: float = 0.0):
        """Check that every clip is large enough.

        Args:
            clips: Of kind ``mono``.
            crop: Side of the samples in px.
            disturbance: Share of the samples whose disparity has errors on the way back.

        Raises:
            OptionError: A clip is smaller than the crop needs.
        """
        for clip in clips:
            if min(clip.width, clip.height) < REDUCTION * crop:
                raise OptionError(
                    f"clip {clip.name} is {clip.width}x{clip.height}, a crop of {crop} needs {REDUCTION * crop} px on "
                    "each side as frames are halved; use a smaller crop or leave the clip out"
                )
        self.clips = clips
        self.crop, self.disturbance = crop, disturbance

    def sample(self, random: np.random.Generator) -> Sample:
        """Draw a frame, a place in it and a depth budget; half of the samples are mirrored, frame and all."""
        clip = self.clips[int(random.integers(len(self.clips)))]
        index = int(random.integers(clip.frames))
        budget = draw_budget(random, self.crop)
        frame, nearness = (read_frame(clip.path(name), index) for name in ("frames", "nearness"))
        top, start = self._place(nearness, random)
        # the margins end where the frame does, so that its edges open holes as they do in a conversion
        first = max(0, start - budget.margin_px)
        last = min(clip.width // REDUCTION, start + self.crop + budget.margin_px)
        rows, columns = slice(top, top + REDUCTION * self.crop), slice(REDUCTION * first, REDUCTION * last)
        frame, nearness = frame[:, rows, columns], nearness[:, rows, columns]
        kept = start - first
        if random.random() < 0.5:
            frame, nearness, kept = mirror(frame), mirror(nearness), last - start - self.crop
        pair = round_trip(frame, nearness, budget)
        if random.random() < self.disturbance:
            pair = pair._replace(disparity=disturb_disparity(pair.disparity, random))
        return build_sample(pair, budget, kept, self.crop)

    def _place(self, nearness: Tensor, random: np.random.Generator) -> tuple[int, int]:
        """First row in the frame, first column in the reduced one, of the liveliest of a few random places."""
        side = REDUCTION * self.crop
        steps = nearness[0].diff(dim=1).abs()
        tops = random.integers(nearness.shape[1] - side + 1, size=PLACES)
        starts = random.integers(nearness.shape[2] // REDUCTION - self.crop + 1, size=PLACES)
        places = list(zip(tops.tolist(), starts.tolist()))
        return max(places, key=lambda place: _depth_steps(steps, place[0], REDUCTION * place[1], side))


def round_trip(frame: Tensor, nearness: Tensor, budget: Budget) -> Pair:
    """Make a pair whose right view is the frame.

    Args:
        frame: (3, H, W) RGB in [0, 1], sides multiples of `REDUCTION`.
        nearness: (1, H, W) in [0, 1], of the frame.
        budget: Depth budget, in px of the reduced size.

    Returns:
        Both eyes and the left view's disparity at the reduced size.
    """
    disparity = REDUCTION * budget.span_px * (nearness - budget.convergence)
    # a left view is the mirrored right view of the mirrored frame
    away = forward_warp(mirror(frame)[None], mirror(disparity)[None])
    view = fill_background(away.view[0], away.hole[0], away.disparity[0])
    surface = away.disparity[0].clone()
    points = background_points(surface, away.hole[0])
    surface[0, points.row, points.column] = points.surface
    return Pair(_halved(mirror(view)), _halved(frame), _halved_surface(mirror(surface)))


def _depth_steps(steps: Tensor, top: int, left: int, side: int) -> float:
    return float(steps[top : top + side, left : left + side].sum())


def _halved(view: Tensor) -> Tensor:
    return F.avg_pool2d(view[None], REDUCTION)[0]


def _halved_surface(disparity: Tensor) -> Tensor:
    """Never the mean of two surfaces: of each block the second largest value, the front where it fills half."""
    blocks = F.unfold(disparity[None], REDUCTION, stride=REDUCTION)[0]
    height, width = disparity.shape[1] // REDUCTION, disparity.shape[2] // REDUCTION
    return torch.topk(blocks, 2, dim=0).values[1].reshape(1, height, width) / REDUCTION
