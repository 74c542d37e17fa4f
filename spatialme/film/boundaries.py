"""Where a film is cut into segments: at cuts, and inside long shots on a fixed grid."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

SHORTEST_SECONDS = 2  # cuts that come sooner share a segment: each one costs a restart of the encoder
LONGEST_SECONDS = 10


@dataclass(frozen=True)
class Boundaries:
    """Tells where segments end. It depends on cuts and numbers of frames alone, and on nothing that comes later."""

    shortest_frames: int
    longest_frames: int

    @classmethod
    def at(cls, frame_rate: Fraction) -> Boundaries:
        """The usual ones, for a film of so many frames per second."""
        return cls(max(1, round(SHORTEST_SECONDS * frame_rate)), max(1, round(LONGEST_SECONDS * frame_rate)))

    def ends(self, frames: int, *, cut_follows: bool) -> bool:
        """Whether a segment that has so many frames ends here."""
        return frames >= (self.shortest_frames if cut_follows else self.longest_frames)
