"""Finding a film's segments before any is converted, so that several workers can share them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from spatialme.film.film import Film
from spatialme.film.reentry import KnownFrames, picture_checksum
from spatialme.film.stretch import Stretch
from spatialme.pipeline import Converter
from spatialme.shots import CutDetector, find_cuts
from spatialme.stream import prefetch
from spatialme.video.picture import Picture

# A worker's share at a time: long enough that seeking and context cost little, short enough that all end together
SHARE_SECONDS = 30
LONGEST_SHARE_SECONDS = 60


@dataclass(frozen=True)
class ScannedSegment:
    """A segment to be made."""

    start: int  # number of its first frame
    shot_start: int  # of the first frame of that frame's shot
    stamps: tuple[int, ...]  # the source's time stamps of its frames
    last_picture: int  # checksum of its last picture
    cut_follows: bool
    last: bool  # the film ends with it

    @property
    def stop(self) -> int:
        """One past its last frame."""
        return self.start + len(self.stamps)


def scan(film: Film) -> Iterator[ScannedSegment]:
    """Decode the film and find its cuts; yield its segments on the way, and keep them in the journal at the end."""
    planned = film.journal.read_plan()
    if planned is not None:
        yield from (ScannedSegment(**{**values, "stamps": tuple(values["stamps"])}) for values in planned)
        return
    found = []
    for segment in _scanned(film):
        found.append(asdict(segment))
        yield segment
    film.journal.write_plan(found)


def _scanned(film: Film) -> Iterator[ScannedSegment]:
    boundaries = film.boundaries
    stamps: list[int] = []  # of the segment at hand
    start = shot_start = segment_shot_start = 0
    before: Picture | None = None
    with film.open() as source:
        for picture, _, starts_shot in prefetch(find_cuts(source, Picture.rgb), depth=2, name="scan"):
            if before is not None and boundaries.ends(len(stamps), cut_follows=starts_shot):
                checksum = picture_checksum(before)
                yield ScannedSegment(start, segment_shot_start, tuple(stamps), checksum, starts_shot, False)
                start, stamps = picture.index, []
            shot_start = picture.index if starts_shot else shot_start
            if not stamps:
                segment_shot_start = shot_start
            stamps.append(picture.pts)
            before = picture
    if before is not None:
        yield ScannedSegment(start, segment_shot_start, tuple(stamps), picture_checksum(before), True, True)


def shares(
    segments: Iterable[ScannedSegment], converter: Converter, film: Film, *, is_done: Callable[[int], bool]
) -> Iterator[Stretch]:
    """Put consecutive segments that are not done together to stretches, one worker's share at a time each.

    A share ends at a cut, where a worker needs no context, or after a minute.

    Args:
        segments: All of the film, in order.
        converter: Says how much context it needs.
        film: What is converted.
        is_done: Whether the segment that begins with this frame is finished.
    """
    rate = film.info.frame_rate
    stamps: list[int] = []  # of all frames so far
    checksum = 0  # of the last picture before the share
    share: list[ScannedSegment] = []
    checksum_before = 0

    def take() -> Stretch:
        made = _stretch(share, stamps, checksum_before, converter)
        share.clear()
        return made

    for segment in segments:
        if is_done(segment.start):
            if share:
                yield take()
        else:
            if not share:
                checksum_before = checksum
            share.append(segment)
        stamps.extend(segment.stamps)
        checksum = segment.last_picture
        frames = sum(len(each.stamps) for each in share)
        enough = SHARE_SECONDS if segment.cut_follows else LONGEST_SHARE_SECONDS
        if share and frames >= enough * rate:
            yield take()
    if share:
        yield take()


def _stretch(
    share: Sequence[ScannedSegment], stamps: Sequence[int], checksum_before: int, converter: Converter
) -> Stretch:
    first, last = share[0], share[-1]
    context = converter.context_start(first.start, first.shot_start)
    begin = min(context, max(0, first.start - 1))
    known = KnownFrames(begin, tuple(stamps[begin : last.stop]))
    if first.start:
        known = replace(known, sealed=first.start - 1, checksum=checksum_before)
    if last.last:
        return Stretch(first.start, first.shot_start, known)
    ahead = CutDetector.lookahead if last.cut_follows else converter.lookahead
    return Stretch(first.start, first.shot_start, known, last.stop, last.stop + ahead + 1)
