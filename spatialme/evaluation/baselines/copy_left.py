"""The left view as it is: what every method must beat."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor

from spatialme.types import WarpedClip


class CopyLeft:
    """No stereo at all."""

    needs_motion = False

    def stream(self, clips: Iterable[WarpedClip]) -> Iterator[Tensor]:
        """Yield the source frames."""
        return (clip.clip.frames for clip in clips)
