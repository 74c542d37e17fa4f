"""What every inpainting branch is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from spatialme.types import FilledView, WarpedClip


class Branch(Protocol):
    """A temporal stage that makes a view without holes of every warped clip."""

    @property
    def name(self) -> str:
        """As in the table of branches."""

    @property
    def lookback(self) -> int:
        """Frames before a frame that its result depends on."""

    @property
    def lookahead(self) -> int:
        """Frames after it."""

    @property
    def needs_motion(self) -> bool:
        """The clips must have their `motion`."""

    def stream(self, clips: Iterable[WarpedClip]) -> Iterator[FilledView]:
        """Yield one filled view per clip, of the same frames."""
