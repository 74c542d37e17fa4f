"""Which frames are worked on together: windows, their references, and sub-videos. Arithmetic only.

Everything is counted from the shot's first frame, so that a result never depends on how the shot arrived.

```
flow completion    pieces of `flow_length` flows, `flow_padding` flows of context on each side
image propagation  pieces of `image_length` frames, `image_padding` frames of context on each side
windows            around frames 0, 5, 10, ...: eleven neighbours, and every tenth frame around as a reference
```
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")

WINDOW_STEP = 5  # frames between the centres of windows, and from a centre to its window's end
REFERENCE_STEP = 10
REFERENCE_REACH = 40


@dataclass(frozen=True)
class Schedule:
    """Lengths of pieces. The default's are short, for bounded memory and delay; `PUBLISHED` has the published ones."""

    flow_length: int = 10
    flow_padding: int = 5
    image_length: int = 10
    image_padding: int = 10
    whole_up_to: int = 0  # shots of at most so many frames take references from everywhere

    def __post_init__(self) -> None:
        if min(self.flow_length, self.image_length) < 1 or min(self.flow_padding, self.image_padding) < 0:
            raise ValueError(f"pieces must have at least one frame and no negative padding, got {self}")

    @property
    def lookback(self) -> int:
        """Frames before a frame that its result depends on."""
        return max(t - self._first_needed(t) for t in self._one_period())

    @property
    def lookahead(self) -> int:
        """Frames after it."""
        return max(self._last_needed(t) - t for t in self._one_period())

    def _one_period(self) -> range:
        """Frames after which everything repeats, the shot's irregular start included."""
        start = max(self.whole_up_to, 2 * REFERENCE_REACH)
        return range(start + 2 * math.lcm(WINDOW_STEP, self.flow_length, self.image_length))

    def _first_needed(self, t: int) -> int:
        centre = WINDOW_STEP * max(0, -(-t // WINDOW_STEP) - 1)
        seen = min(*neighbours(centre), *references(centre)) if t >= self.whole_up_to else 0
        image = max(0, seen // self.image_length * self.image_length - self.image_padding)
        return max(0, image // self.flow_length * self.flow_length - self.flow_padding)

    def _last_needed(self, t: int) -> int:
        centre = WINDOW_STEP * (t // WINDOW_STEP + 1)
        seen = max(*neighbours(centre), *references(centre), self.whole_up_to)
        image = (seen // self.image_length + 1) * self.image_length + self.image_padding - 1
        return (image // self.flow_length + 1) * self.flow_length + self.flow_padding


PUBLISHED = Schedule(flow_length=80, flow_padding=5, image_length=80, image_padding=10, whole_up_to=80)


def neighbours(centre: int, num_frames: int | None = None) -> range:
    """The frames that a window inpaints; of a shot without end when its length is not given."""
    stop = centre + WINDOW_STEP + 1
    return range(max(0, centre - WINDOW_STEP), stop if num_frames is None else min(num_frames, stop))


def references(centre: int, num_frames: int | None = None, *, whole: bool = False) -> list[int]:
    """The frames that a window looks at besides; `whole` takes them from all of the shot (whose length is needed)."""
    if whole:
        assert num_frames is not None
        candidates = range(0, num_frames, REFERENCE_STEP)
    else:
        stop = centre + REFERENCE_REACH
        stop = stop if num_frames is None else min(num_frames, stop)
        candidates = range(max(0, centre - REFERENCE_REACH), stop, REFERENCE_STEP)
    return [frame for frame in candidates if frame not in neighbours(centre, num_frames)]


def sub_videos(items: Iterable[Item], length: int, padding: int) -> Iterator[tuple[list[Item], slice]]:
    """Cut a stream into pieces of `length`, each shown with up to `padding` items of context on both sides.

    Yields every piece with its context, and which part of it is the piece. Takes from the stream no more than the piece
    at hand needs, and holds ``length + 2 * padding`` items.
    """
    source = iter(items)
    held: list[Item] = []
    before = 0  # items of context at the head
    while True:
        wanted = before + length + padding
        held.extend(itertools.islice(source, wanted - len(held)))
        stop = min(before + length, len(held))
        if before < stop:
            yield list(held), slice(before, stop)
        if len(held) < wanted and stop == len(held):
            return
        surplus = max(0, stop - padding)
        del held[:surplus]
        before = stop - surplus
