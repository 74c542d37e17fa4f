"""From a stream of eyes to finished segments in the journal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from spatialme.film.film import Film
from spatialme.film.journal import SegmentRecord
from spatialme.film.reentry import picture_checksum
from spatialme.video.eyes import EyeImage
from spatialme.video.picture import Picture
from spatialme.video.writer import SegmentWriter


class Progress(Protocol):
    """How far a film has been read."""

    last_pts: int  # time stamp of the last picture read
    exhausted: bool  # it was the film's last


class Recorder:
    """Encodes a stretch of the film and switches the encoder where segments end; use as a context manager.

    Finished segments are in the journal at once; leaving without `finish` drops the one at hand.
    """

    def __init__(self, film: Film, *, shot_start: int, stops_at: Callable[[int], bool], read: Progress) -> None:
        """Wait for the first picture.

        Args:
            film: What is converted.
            shot_start: First frame of the shot in which the stretch begins.
            stops_at: Whether nothing is to be written from this frame on, which begins a segment.
            read: How far the film has been read, which is all that a segment finished now can depend on.
        """
        self.segments = 0  # finished so far
        self._film = film
        self._journal = film.journal
        self._boundaries = film.boundaries
        self._shot_start = shot_start
        self._stops_at = stops_at
        self._read = read
        self._writer: SegmentWriter | None = None
        self._start = 0  # of the segment at hand
        self._shots = 0  # that begin in it
        self._last: Picture | None = None

    def write(self, picture: Picture, left: EyeImage | None, right: EyeImage | None, *, starts_shot: bool) -> bool:
        """Encode one frame; False, and nothing done with it, where the stretch ends before it."""
        if self._writer is not None and self._boundaries.ends(self._writer.frames, cut_follows=starts_shot):
            self._close(next_shot_start=picture.index if starts_shot else self._shot_start, last=False)
            if self._stops_at(picture.index):
                return False
        if self._writer is None:
            self._begin(picture.index)
        if starts_shot:
            self._shot_start = picture.index
            self._shots += 1
        assert self._writer is not None
        self._writer.write(picture, left, right)
        self._last = picture
        return True

    def finish(self) -> None:
        """End the last segment: the film is over."""
        if self._writer is not None:
            self._close(next_shot_start=self._shot_start, last=True)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.abandon()

    def _begin(self, start: int) -> None:
        paths = self._journal.segment_paths(start)
        offset = self._film.start_pts_offset
        self._writer = SegmentWriter(self._film.plan, self._film.info, paths, start_pts_offset=offset)
        self._start, self._shots = start, 0

    def _close(self, *, next_shot_start: int, last: bool) -> None:
        assert self._writer is not None
        assert self._last is not None
        read_pts, read_all = self._read.last_pts, self._read.exhausted
        self._journal.announce(self._start)
        record = SegmentRecord(
            start=self._start,
            stop=self._last.index + 1,
            segments=tuple(self._writer.finish()),
            shots=self._shots,
            next_shot_start=next_shot_start,
            last=last,
            read_seconds=float(read_pts * self._film.info.time_base - self._film.origin_seconds),
            read_all=read_all,
            last_picture=picture_checksum(self._last),
        )
        self._writer = None
        self._journal.add(record)
        self.segments += 1
