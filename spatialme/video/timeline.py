"""Time stamps that every later stage can trust: present and strictly increasing."""

from __future__ import annotations

from fractions import Fraction

_GLITCH_FRAMES = 2  # a step back beyond it means that the stream was joined from parts with clocks of their own


class Timeline:
    """Repairs the time stamps of one stream, in the order shown.

    A missing stamp follows its predecessor by one frame, and so does a repeated one (some files say 0 throughout).
    A stamp that falls back a little is a glitch: half a frame after its predecessor, so that the next one can be on
    time again. One that falls back by more than two frames starts another part, whose clock is moved behind
    the part before.
    """

    def __init__(self, *, frame_rate: Fraction, time_base: Fraction, first_pts: int) -> None:
        self.missing = 0
        self.repaired = 0
        self._frame_ticks = 1 / (frame_rate * time_base)
        self._anchor = Fraction(first_pts) - self._frame_ticks  # the last stamp, unrounded while stamps are missing
        self._last: int | None = None
        self._last_stated: int | None = None
        self._part_offset = 0

    def stamp(self, pts: int | None) -> int:
        """Give the time stamp to use for a picture whose stream says `pts`."""
        if pts is None:
            self.missing += 1
            return self._settle(self._anchor + self._frame_ticks)
        stuck = pts == self._last_stated
        self._last_stated = pts
        if self._last is None or pts > self._last:
            self._part_offset = 0
            return self._settle(Fraction(pts))
        self.repaired += 1
        if stuck:
            return self._settle(self._anchor + self._frame_ticks)
        if pts + self._part_offset > self._last:
            return self._settle(Fraction(pts + self._part_offset))
        if self._last - pts > _GLITCH_FRAMES * self._frame_ticks:
            self._part_offset = round(self._last + self._frame_ticks) - pts
            return self._settle(Fraction(pts + self._part_offset))
        return self._settle(self._last + self._frame_ticks / 2)

    def _settle(self, wanted: Fraction) -> int:
        lowest = self._last + 1 if self._last is not None else None
        self._last = round(wanted) if lowest is None else max(lowest, round(wanted))
        self._anchor = wanted if self._last == round(wanted) else Fraction(self._last)
        return self._last
