"""Converting a stretch of a film, from anywhere, to the very segments that one run over the whole film makes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

from spatialme.depth.sidecar import DepthVideoWriter
from spatialme.film.eyes import Eyes, converted
from spatialme.film.film import Film
from spatialme.film.journal import SegmentRecord
from spatialme.film.recorder import Recorder
from spatialme.film.reentry import KnownFrames, OtherReadingError, pictures_from
from spatialme.pipeline import Converter
from spatialme.report import Tally
from spatialme.video.picture import Picture


@dataclass(frozen=True)
class Stretch:
    """Frames to convert; the first begins a segment."""

    start: int  # number of the first frame
    shot_start: int  # of the first frame of its shot
    known: KnownFrames  # from the first frame that must be read on
    stop: int | None = None  # one past the last frame; None: the film's end
    read_stop: int | None = None  # one past the last frame that must be read


@dataclass(frozen=True)
class StretchOutcome:
    """What became of a stretch."""

    segments: int  # made
    notes: list[str]  # what the source has to say, one line each


def convert_stretch(
    film: Film,
    converter: Converter,
    stretch: Stretch,
    tally: Tally,
    *,
    has_segment: Callable[[int], bool] = lambda _: False,
    on_frames: Callable[[int], None] = lambda _: None,
    depth_writer: DepthVideoWriter | None = None,
) -> StretchOutcome:
    """Convert frames, and record their segments in the film's journal.

    Args:
        film: What to convert.
        converter: Made of the film's settings.
        stretch: Which frames.
        tally: Counts what passes.
        has_segment: Whether the segment that begins with this frame exists already; the stretch then ends before it.
        on_frames: Called with the number of frames just encoded.
        depth_writer: Gets the depth on its way.
    """
    for seek in (True, False):
        run = _Run(film, converter, stretch, tally, has_segment, on_frames, depth_writer)
        try:
            return run(seek=seek)
        except OtherReadingError:  # only after a jump
            continue
    raise AssertionError("without a jump it raises InputError instead")


@dataclass(frozen=True)
class _Run:
    film: Film
    converter: Converter
    stretch: Stretch
    tally: Tally
    has_segment: Callable[[int], bool]
    on_frames: Callable[[int], None]
    depth_writer: DepthVideoWriter | None

    def __call__(self, *, seek: bool) -> StretchOutcome:
        stretch, film = self.stretch, self.film
        context = self.converter.context_start(stretch.start, stretch.shot_start)
        with pictures_from(film, stretch.known, seek=seek) as (source, pictures):
            watched = _Watched(pictures)
            length = None if stretch.read_stop is None else stretch.read_stop - stretch.known.first
            needed = islice(watched, context - stretch.known.first, length)
            eyes = converted(
                self.converter,
                self.tally,
                needed,
                film.info,
                film.plan,
                first_index=context,
                depth_writer=self.depth_writer,
            )
            recorder = Recorder(film, shot_start=stretch.shot_start, stops_at=self._stops_at, read=watched)
            with recorder, closing(eyes):
                self._record(eyes, recorder)
            return StretchOutcome(recorder.segments, source.warnings)

    def _record(self, eyes: Iterable[Eyes], recorder: Recorder) -> None:
        for clip in eyes:
            wanted = 0
            for i, (picture, left, right) in enumerate(clip.frames()):
                if picture.index < self.stretch.start:
                    continue
                with self.tally.clock.charge("encode"):
                    if not recorder.write(picture, left, right, starts_shot=clip.starts_shot and i == 0):
                        return
                wanted += 1
            self.on_frames(wanted)
        with self.tally.clock.charge("encode"):
            recorder.finish()

    def _stops_at(self, index: int) -> bool:
        return index == self.stretch.stop or self.has_segment(index)


class _Watched:
    """Passes pictures on, and knows how far the film has been read."""

    def __init__(self, pictures: Iterator[Picture]) -> None:
        self.exhausted = False
        self.last_pts = 0
        self._pictures = pictures

    def __iter__(self) -> Iterator[Picture]:
        for picture in self._pictures:
            self.last_pts = picture.pts
            yield picture
        self.exhausted = True


def stretch_after(converter: Converter, film: Film, records: Sequence[SegmentRecord]) -> Stretch:
    """The stretch that begins where consecutive records, from the film's beginning on, end."""
    if not records:
        return Stretch(0, 0, KnownFrames(0))
    last = records[-1]
    start, shot_start = last.stop, last.next_shot_start
    first = min(converter.context_start(start, shot_start), start - 1)
    stamps: list[int] = []
    for record in reversed(records):
        stamps = [stamp + film.start_pts_offset for stamp in record.segments[0].stamps] + stamps
        if record.start <= first:
            break
    known = KnownFrames(first, tuple(stamps[first - start :]), start - 1, last.last_picture)
    return Stretch(start, shot_start, known)
