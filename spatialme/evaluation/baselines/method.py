"""What every compared method is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from torch import Tensor

from spatialme.types import WarpedClip


class Method(Protocol):
    """Makes finished right views of clips that have been warped, by the same disparity for every method."""

    needs_motion: bool  # the clips must have their `motion`

    def stream(self, clips: Iterable[WarpedClip]) -> Iterator[Tensor]:
        """Yield one view per clip, (T, 3, H, W) RGB in [0, 1]."""
