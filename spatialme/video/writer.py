"""Writing stereo: eyes in, whole files out, or nothing at all."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Protocol

import av
import numpy as np

from spatialme.errors import OutputError
from spatialme.video.eyes import packed_frames
from spatialme.video.image_files import ImageFile, ImageSequence
from spatialme.video.picture import Picture, StreamInfo
from spatialme.video.place import MediaSource
from spatialme.video.plan import OutputOptions, OutputPlan, plan_output
from spatialme.video.streams import StreamOutcome
from spatialme.video.tags import Span
from spatialme.video.video_file import VideoFile

__all__ = ["OutputOptions", "OutputPlan", "StereoWriter", "WriteReport", "plan_output"]


class CutSource(MediaSource, Protocol):
    """What the writer needs of `reader.Source`."""

    first_pts: int
    start_pts_offset: int
    origin_seconds: Fraction


@dataclass(frozen=True)
class WriteReport:
    """What was written."""

    outputs: list[Path]
    frames: int
    bytes: int  # of all files together
    notes: list[str]  # one line each
    max_pts_error_seconds: float  # up to half a millisecond in Matroska, which counts in those; else 0
    streams: list[StreamOutcome]  # of the source, besides its pictures


class StereoWriter:
    """Writes the eyes of one source, picture by picture; use as a context manager and call `finish` at the end.

    The files appear under their names in `finish`, all or none. Without it, or after an error, nothing is left; after
    a KeyboardInterrupt the partial file is closed properly and stays, playable as far as it goes.
    """

    def __init__(self, plan: OutputPlan, source: CutSource, *, end_seconds: float | None = None) -> None:
        """Open the partial files.

        Args:
            plan: From `plan_output`.
            source: The opened source; its path is opened a second time for the streams to copy.
            end_seconds: Where the source was cut, as given to `open_source`: sound and subtitles stop there too.

        Raises:
            OutputError: the encoder, the muxer or the disk refuses.
        """
        self._plan = plan
        self._info: StreamInfo = source.info
        self._frames = 0
        self._finished = False
        self._files: list[VideoFile | ImageFile | ImageSequence] = []
        span = _kept_span(source, end_seconds)
        try:
            for path in plan.paths:
                self._files.append(_open_file(path, plan, source, span))
        except BaseException:
            self._abandon()
            raise

    def write(self, picture: Picture, left: np.ndarray | None, right: np.ndarray | None) -> None:
        """Encode one picture's eyes.

        Args:
            picture: The source picture; gives the time stamp.
            left: (H, W, 3) RGB over its full range, uint8 or uint16; None: this eye is the picture, whose native
                planes are then copied.
            right: The same for the right eye.

        Raises:
            OutputError: the encoder fails or the disk is full.
        """
        for eye in (left, right):
            self._check_eye(eye)
        duration = self._duration(picture.frame)
        for file, frame in zip(self._files, packed_frames(picture, left, right, self._plan)):
            file.write(frame, picture.pts, duration)
        self._frames += 1

    def finish(self) -> WriteReport:
        """End the files, check them, and give them their names.

        Raises:
            OutputError: nothing was written, or what was written does not read back whole.
        """
        if not self._frames:
            raise OutputError(f"{self._plan.paths[0]} got no picture; the input has none")
        for file in self._files:
            file.close()
        error = max(file.finish() for file in self._files)
        size = self._publish()
        self._finished = True
        streams = list(self._files[0].outcomes)
        notes = [
            *self._plan.notes,
            *self._files[0].notes,
            *(str(outcome) for outcome in streams if outcome.action != "copied"),
        ]
        if error:
            notes.append(f"time stamps are rounded by up to {float(error) * 1000:.2f} ms: the container counts coarser")
        return WriteReport(list(self._plan.paths), self._frames, size, notes, float(error), streams)

    def __enter__(self) -> StereoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._finished:
            return
        if kind is not None and issubclass(kind, KeyboardInterrupt) and self._frames and self._plan.kind == "video":
            for file in self._files:
                file.close(interrupted=True)
        else:
            self._abandon()

    def _publish(self) -> int:
        """Give the files their names; where the second cannot have its own, the first is taken back."""
        size = 0
        for number, file in enumerate(self._files):
            try:
                size += file.publish()
            except OutputError:
                for published in self._files[:number]:
                    published.path.unlink(missing_ok=True)
                raise
        return size

    def _abandon(self) -> None:
        for file in self._files:
            file.abandon()

    def _check_eye(self, eye: np.ndarray | None) -> None:
        wanted = (self._info.height, self._info.width, 3)
        if eye is not None and (eye.shape != wanted or eye.dtype not in (np.uint8, np.uint16)):
            raise ValueError(f"an eye must be {wanted} uint8 or uint16, got {eye.shape} {eye.dtype}")

    def _duration(self, frame: av.VideoFrame) -> int:
        # a decoded frame may have no time base of its own: it is the stream's then
        if frame.duration and frame.time_base in (None, self._plan.time_base):
            return frame.duration
        return max(1, round(1 / (self._plan.frame_rate * self._plan.time_base)))


def _open_file(path: Path, plan: OutputPlan, source: CutSource, span: Span) -> VideoFile | ImageFile | ImageSequence:
    if plan.kind == "image":
        return ImageFile(path, plan)
    if plan.kind == "sequence":
        return ImageSequence(path, plan)
    return VideoFile(path, plan, source.info, source.path if source.kind == "video" else None, span)


def _kept_span(source: CutSource, end_seconds: float | None) -> Span:
    base = source.info.time_base
    start = source.first_pts * base if source.start_pts_offset else None
    end = None if end_seconds is None else source.origin_seconds + Fraction(end_seconds)
    return Span(start, end, source.start_pts_offset * base)
