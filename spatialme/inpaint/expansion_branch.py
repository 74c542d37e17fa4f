"""The `expansion` branch: warp again with the expanded disparity (Algorithm 1 of the paper), then inpaint as usual.

A rim of background travels with the foreground's edge, so that the holes have background on both sides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from spatialme.inpaint.branch import Branch
from spatialme.levels import resting_warp, to_colours, to_pixels
from spatialme.types import FilledView, WarpedClip
from spatialme.warp import forward_warp
from spatialme.warp.expansion import expand_disparity


class Expansion:
    """Gives an inpainter the expanded warp instead of the base warp; its hole mask is the wider one."""

    name = "expansion"

    def __init__(self, inpainter: Branch):
        """Compose the branch of an inpainter, which fills the expanded warp's holes."""
        self.inpainter = inpainter
        self.lookback, self.lookahead = inpainter.lookback, inpainter.lookahead
        self.needs_motion = inpainter.needs_motion

    def stream(self, clips: Iterable[WarpedClip]) -> Iterator[FilledView]:
        """Yield one filled view per clip.

        Raises:
            ValueError: A clip without `range_px`, the scale on which edges of its disparity are found.
        """
        return self.inpainter.stream(self._expanded(clip) for clip in clips)

    def _expanded(self, clip: WarpedClip) -> WarpedClip:
        if clip.range_px is None:
            raise ValueError("expansion needs the clip's range_px, the disparity of nearness 0 and 1")
        low_px, high_px = clip.range_px.unbind(1)
        disparity = expand_disparity(to_pixels(clip.source_disparity), low_px=low_px, high_px=high_px)
        warped = forward_warp(to_colours(clip.clip.frames), disparity)
        expanded = replace(
            clip, source_disparity=disparity, view=warped.view, disparity=warped.disparity, hole=warped.hole
        )
        return resting_warp(expanded)
