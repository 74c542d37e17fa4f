"""The forward warp with its holes left black."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor

from spatialme.types import WarpedClip


class NoFill:
    """The warp alone."""

    needs_motion = False

    def stream(self, clips: Iterable[WarpedClip]) -> Iterator[Tensor]:
        """Yield the warped views."""
        return (clip.view for clip in clips)
