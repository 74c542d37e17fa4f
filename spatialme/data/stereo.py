"""Samples from cached clips of real stereo pairs, whose branches were computed once, as for a conversion.

They are not mirrored: mirroring swaps the eyes, so a mirrored clip needs its own warp and branches. `prepare` may cache
both directions of a pair as two clips.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spatialme.data.clip_files import read_frame
from spatialme.data.manifest import CachedClip
from spatialme.data.sample import Sample
from spatialme.errors import OptionError

FIELDS = {"left": "left", "right": "right", "warped": "warped", "poly": "poly", "expansion": "de", "dl": "dl"}


class StereoClips:
    """Random crops of random frames."""

    def __init__(self, clips: Sequence[CachedClip], crop: int):
        """Check that every clip is large enough.

        Args:
            clips: Of kind ``stereo``.
            crop: Side of the samples in px.

        Raises:
            OptionError: A clip is smaller than the crop.
        """
        for clip in clips:
            if min(clip.width, clip.height) < crop:
                raise OptionError(
                    f"clip {clip.name} is {clip.width}x{clip.height}, smaller than the crop of {crop} px; use a "
                    "smaller crop or leave the clip out"
                )
        self.clips = clips
        self.crop = crop

    def sample(self, random: np.random.Generator) -> Sample:
        """Draw a clip, a frame and a place."""
        clip = self.clips[int(random.integers(len(self.clips)))]
        index = int(random.integers(clip.frames))
        top = int(random.integers(clip.height - self.crop + 1))
        start = int(random.integers(clip.width - self.crop + 1))

        def crop_of(name: str):
            return read_frame(clip.path(name), index)[:, top : top + self.crop, start : start + self.crop].contiguous()

        return Sample(**{field: crop_of(name) for field, name in FIELDS.items()}, hole=crop_of("hole") > 0.5)
