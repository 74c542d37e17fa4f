"""Opening a film again at a known frame, and making sure that it is that frame."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import dropwhile, islice

import numpy as np

from spatialme.errors import InputError
from spatialme.film.film import Film
from spatialme.video.picture import Picture
from spatialme.video.planes import read_planes
from spatialme.video.reader import Source

# A seek lands on a picture that the source codes on its own; some decoders and the deinterlacer need a few more
MARGIN_SECONDS = 1.0


@dataclass(frozen=True)
class KnownFrames:
    """Consecutive frames of which it is known when they are shown, where reading begins again."""

    first: int  # number of the first
    stamps: tuple[int, ...] = ()  # source's time stamps of this and the following frames
    sealed: int | None = None  # number of a frame whose
    checksum: int = 0  # picture is known, too


class OtherReadingError(Exception):
    """What was read is not what is known of these frames."""


@contextmanager
def pictures_from(film: Film, known: KnownFrames, *, seek: bool) -> Iterator[tuple[Source, Iterator[Picture]]]:
    """Open the film so that its pictures come from frame `known.first` on, numbered as in the film.

    Args:
        film: What to open.
        known: Where to begin.
        seek: Jump there; else read from the film's beginning, which is slow and always right.

    Yields:
        The source, and its pictures, which raise `OtherReadingError` where a jump led to something else.
    """
    start = _seek_seconds(film, known) if seek else None
    with _opened(film, start) as source:
        pictures = iter(source)
        if start is None:
            numbered = _checked(islice(pictures, known.first, None), known)
        else:
            numbered = _checked(dropwhile(lambda picture: picture.pts < known.stamps[0], pictures), known)
        yield source, numbered if start is not None else _trusted(numbered, film)


def picture_checksum(picture: Picture) -> int:
    """A checksum of a picture's samples."""
    checksum = 0
    for plane in read_planes(picture.frame):
        checksum = zlib.crc32(np.ascontiguousarray(plane).data, checksum)
    return checksum


def _opened(film: Film, start: float | None) -> Source:
    try:
        return film.open(start)
    except InputError:
        if start is None:
            raise
        raise OtherReadingError from None  # it cannot seek, or not there


def _seek_seconds(film: Film, known: KnownFrames) -> float | None:
    """Where to jump, None where that is not worth it."""
    if not known.stamps:
        return None
    seconds = float(known.stamps[0] * film.info.time_base - film.origin_seconds) - MARGIN_SECONDS
    return seconds if seconds > (film.start_seconds or 0.0) else None


def _checked(pictures: Iterator[Picture], known: KnownFrames) -> Iterator[Picture]:
    index = known.first
    for picture in pictures:
        place = index - known.first
        if place < len(known.stamps) and picture.pts != known.stamps[place]:
            raise OtherReadingError
        if index == known.sealed and picture_checksum(picture) != known.checksum:
            raise OtherReadingError
        yield replace(picture, index=index)
        index += 1
    if index < known.first + len(known.stamps):
        raise OtherReadingError


def _trusted(pictures: Iterator[Picture], film: Film) -> Iterator[Picture]:
    try:
        yield from pictures
    except OtherReadingError:
        raise InputError(
            f"{film.path} does not read as it did when its first segments were made; remove {film.journal.folder} "
            "and start again"
        ) from None
