"""From a film and its journal to the finished output: what is missing is converted, then all is joined."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from spatialme.depth.sidecar import DepthVideoWriter
from spatialme.errors import InputError
from spatialme.film.film import Film
from spatialme.film.fingerprint import join_key
from spatialme.film.journal import Finished, SegmentRecord
from spatialme.film.stretch import convert_stretch, stretch_after
from spatialme.pipeline import Converter
from spatialme.report import Tally
from spatialme.video.place import check_space
from spatialme.video.reader import Source
from spatialme.video.writer import WriteReport, join_segments


@dataclass(frozen=True)
class Missing:
    """How what is missing of a film gets converted."""

    film: Film
    converter: Converter
    tally: Tally
    on_frames: Callable[[int], None]  # called with numbers of frames just finished


class Spread(Protocol):
    """Converts what is missing by several workers."""

    def __call__(self, missing: Missing) -> int:
        """Convert; return how many segments were made."""


@dataclass(frozen=True)
class Produced:
    """What became of a film."""

    written: WriteReport
    finished: Finished
    segments_reused: int
    frames_reused: int
    notes: list[str]  # of the source, read again


def produce(
    missing: Missing, source: Source, *, spread: Spread | None = None, depth_writer: DepthVideoWriter | None = None
) -> Produced:
    """Convert what the journal lacks, and join.

    Args:
        missing: The film, and how to convert.
        source: The opened source, of which nothing has been read.
        spread: Several workers; None converts here.
        depth_writer: Gets the depth on its way; nothing may be in the journal then.

    Raises:
        SpatialmeError: What has been finished stays in the journal.
    """
    film, journal = missing.film, missing.film.journal
    reused = list(journal.chain())
    frames_reused = sum(record.stop - record.start for record in reused)
    if source.info.frame_estimate is not None:  # the missing segments, and beside all of them the joined film
        to_write = 2 * source.info.frame_estimate - frames_reused
        check_space(journal.output, film.plan.least_bytes(to_write))
    missing.on_frames(frames_reused)
    notes: list[str] = []
    made = spread(missing) if spread is not None else _convert_here(missing, notes, depth_writer)
    records = list(journal.chain())
    finished = Finished(records[-1].stop, sum(record.shots for record in records), len(records))
    with missing.tally.clock.charge("join"):
        written = _join(film, source, records, finished)
    journal.tidy()
    return Produced(written, finished, len(records) - made, frames_reused, notes)


def _convert_here(missing: Missing, notes: list[str], depth_writer: DepthVideoWriter | None) -> int:
    """Convert one stretch after the other, each up to the next segment that is there already."""
    film, journal = missing.film, missing.film.journal
    made = 0
    while True:
        records = list(journal.chain())
        if records and records[-1].last:
            return made
        outcome = convert_stretch(
            film,
            missing.converter,
            stretch_after(missing.converter, film, records),
            missing.tally,
            has_segment=lambda start: journal.find(start) is not None,
            on_frames=missing.on_frames,
            depth_writer=depth_writer,
        )
        if not outcome.segments:
            raise InputError(f"{film.path} got shorter since its first segments were made; remove {journal.folder}")
        made += outcome.segments
        notes += [note for note in outcome.notes if note not in notes]


def _join(film: Film, source: Source, records: Sequence[SegmentRecord], finished: Finished) -> WriteReport:
    key = join_key(film.key, film.plan, end_seconds=film.end_seconds)

    def note(files: Sequence[Path]) -> None:
        film.journal.write_finished(finished, key, film.plan.paths, files)

    by_file = list(zip(*(record.segments for record in records)))
    return join_segments(film.plan, source, by_file, end_seconds=film.end_seconds, before_publishing=note)
