"""One film to convert, as every process that works on it knows it."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from spatialme.film.boundaries import Boundaries
from spatialme.film.journal import Journal
from spatialme.settings import ConverterSettings
from spatialme.video.nvdec import DecoderName, find_accelerator
from spatialme.video.picture import StreamInfo
from spatialme.video.plan import OutputPlan
from spatialme.video.reader import Source, open_source


@dataclass(frozen=True)
class Film:
    """Source, choices and plan; may be sent to other processes."""

    path: Path
    settings: ConverterSettings
    plan: OutputPlan
    info: StreamInfo
    boundaries: Boundaries  # of its segments
    key: str  # of the pictures
    start_seconds: float | None
    end_seconds: float | None
    keep_going: bool
    decoder: DecoderName  # not in the key: the pictures are the same
    frame_rate: Fraction  # of numbered images
    start_pts_offset: int
    origin_seconds: Fraction

    @property
    def journal(self) -> Journal:
        """Where its finished segments are."""
        return Journal(self.plan.paths[0], self.key, files=len(self.plan.paths), end_seconds=self.end_seconds)

    def open(self, start_seconds: float | None = None) -> Source:
        """Open the source once more.

        Args:
            start_seconds: Begin here instead of where the film begins.
        """
        return open_source(
            self.path,
            start_seconds=self.start_seconds if start_seconds is None else start_seconds,
            end_seconds=self.end_seconds,
            keep_going=self.keep_going,
            frame_rate=self.frame_rate,
            accelerator=find_accelerator(self.decoder, self.settings.device),
        )
