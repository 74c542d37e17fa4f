"""Writing stereo: eyes in, whole files out, or nothing at all.

A video is encoded in segments (`SegmentWriter`) that are joined without encoding again (`join_segments`), so that work
can be broken off, continued and shared. `StereoWriter` does both in one go, and writes images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Protocol

import av

from spatialme.errors import OutputError
from spatialme.video.eyes import EyeImage, check_eyes, packed_frames
from spatialme.video.image_files import ImageFile, ImageSequence
from spatialme.video.picture import Picture, StreamInfo
from spatialme.video.place import MediaSource
from spatialme.video.plan import OutputOptions, OutputPlan, plan_output
from spatialme.video.segment_file import Segment, SegmentFile
from spatialme.video.streams import StreamOutcome
from spatialme.video.tags import Span
from spatialme.video.video_file import VideoFile

__all__ = [
    "OutputOptions",
    "OutputPlan",
    "Segment",
    "SegmentWriter",
    "StereoWriter",
    "WriteReport",
    "join_segments",
    "plan_output",
]


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


class SegmentWriter:
    """Encodes consecutive pictures' eyes into one segment, or into one per eye where the eyes go to separate files."""

    def __init__(self, plan: OutputPlan, info: StreamInfo, paths: Sequence[Path], *, start_pts_offset: int) -> None:
        """Open the partial files.

        Args:
            plan: Of a video.
            info: Of the source.
            paths: The segments' names, as many as the plan has files.
            start_pts_offset: What to subtract from the pictures' time stamps.

        Raises:
            OutputError: the encoder, the muxer or the disk refuses.
        """
        self.frames = 0
        self._plan = plan
        self._info = info
        self._shift = start_pts_offset
        self._files: list[SegmentFile] = []
        try:
            for path in paths:
                self._files.append(SegmentFile(path, plan))
        except BaseException:
            self.abandon()
            raise

    def write(self, picture: Picture, left: EyeImage | None, right: EyeImage | None) -> None:
        """Encode one picture's eyes; see `StereoWriter.write`."""
        check_eyes(self._info, self._plan, left, right)
        duration = _duration(picture.frame, self._plan)
        for file, frame in zip(self._files, packed_frames(picture, left, right, self._plan)):
            file.write(frame, picture.pts - self._shift, duration)
        self.frames += 1

    def finish(self) -> list[Segment]:
        """Let the segments appear under their names: one for each of the plan's files.

        Raises:
            OutputError: the encoder fails or the disk is full.
        """
        return [file.finish() for file in self._files]

    def abandon(self) -> None:
        """Drop what is unfinished."""
        for file in self._files:
            file.abandon()


def join_segments(
    plan: OutputPlan,
    source: CutSource,
    segments: Sequence[Sequence[Segment]],
    *,
    end_seconds: float | None = None,
    before_publishing: Callable[[Sequence[Path]], None] | None = None,
) -> WriteReport:
    """Join the segments of each file with the source's other streams; the files appear all or none.

    Args:
        plan: From `plan_output`.
        source: The opened source; its path is opened a second time for the streams to copy.
        segments: For each of the plan's files, its segments in order.
        end_seconds: Where the source was cut, as given to `open_source`: sound and subtitles stop there too.
        before_publishing: Called with the finished files before they get their names.

    Raises:
        OutputError: what was written does not read back whole, or the disk is full.
    """
    source_path = source.path if source.kind == "video" else None
    span = _kept_span(source, end_seconds)
    files = [VideoFile(path, plan, source.info, source_path, span) for path in plan.paths]
    try:
        error = max(file.join(its_segments) for file, its_segments in zip(files, segments))
        if before_publishing is not None:
            before_publishing([file.partial for file in files])
        size = _publish(files)
    finally:
        for file in files:
            file.abandon()
    streams = list(files[0].outcomes)
    changed = (str(outcome) for outcome in streams if outcome.action != "copied")
    notes = [*plan.notes, *files[0].notes, *changed]
    if error:
        notes.append(f"time stamps are rounded by up to {float(error) * 1000:.2f} ms: the container counts coarser")
    frames = sum(len(segment.packets) for segment in segments[0])
    return WriteReport(list(plan.paths), frames, size, notes, float(error), streams)


class StereoWriter:
    """Writes the eyes of one source, picture by picture; use as a context manager and call `finish` at the end.

    The files appear under their names in `finish`, all or none. Without it, or after an error, nothing is left.
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
        self._finished = False
        self._files: _WholeVideo | _Images
        if plan.kind == "video":
            self._files = _WholeVideo(plan, source, end_seconds)
        else:
            self._files = _Images(plan, source.info)

    def write(self, picture: Picture, left: EyeImage | None, right: EyeImage | None) -> None:
        """Encode one picture's eyes.

        Args:
            picture: The source picture; gives the time stamp.
            left: (H, W, 3) RGB over its full range, uint8 or uint16, or planes (`eyes.planar_encoding`); None: this
                eye is the picture, whose native planes are then copied.
            right: The same for the right eye.

        Raises:
            OutputError: the encoder fails or the disk is full.
        """
        self._files.write(picture, left, right)

    def finish(self) -> WriteReport:
        """End the files, check them, and give them their names.

        Raises:
            OutputError: nothing was written, or what was written does not read back whole.
        """
        if not self._files.frames:
            raise OutputError(f"{self._plan.paths[0]} got no picture; the input has none")
        report = self._files.finish()
        self._finished = True
        return report

    def __enter__(self) -> StereoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._finished:
            self._files.abandon()


class _WholeVideo:
    """A video that is one segment."""

    def __init__(self, plan: OutputPlan, source: CutSource, end_seconds: float | None) -> None:
        self._plan, self._source, self._end_seconds = plan, source, end_seconds
        self._paths = [path.with_name(f".{path.name}.segment") for path in plan.paths]
        self._segment = SegmentWriter(plan, source.info, self._paths, start_pts_offset=source.start_pts_offset)

    @property
    def frames(self) -> int:
        return self._segment.frames

    def write(self, picture: Picture, left: EyeImage | None, right: EyeImage | None) -> None:
        self._segment.write(picture, left, right)

    def finish(self) -> WriteReport:
        segments = [[segment] for segment in self._segment.finish()]
        report = join_segments(self._plan, self._source, segments, end_seconds=self._end_seconds)
        self.abandon()
        return report

    def abandon(self) -> None:
        self._segment.abandon()
        for path in self._paths:
            path.unlink(missing_ok=True)


class _Images:
    """One image or a sequence of them, for one eye or for each."""

    def __init__(self, plan: OutputPlan, info: StreamInfo) -> None:
        self.frames = 0
        self._plan = plan
        self._info = info
        self._files: list[ImageFile | ImageSequence] = []
        try:
            for path in plan.paths:
                self._files.append(ImageFile(path, plan) if plan.kind == "image" else ImageSequence(path, plan))
        except BaseException:
            self.abandon()
            raise

    def write(self, picture: Picture, left: EyeImage | None, right: EyeImage | None) -> None:
        check_eyes(self._info, self._plan, left, right)
        for file, frame in zip(self._files, packed_frames(picture, left, right, self._plan)):
            file.write(frame)
        self.frames += 1

    def finish(self) -> WriteReport:
        for file in self._files:
            file.finish()
        size = _publish(self._files)
        return WriteReport(list(self._plan.paths), self.frames, size, list(self._plan.notes), 0.0, [])

    def abandon(self) -> None:
        for file in self._files:
            file.abandon()


def _publish(files: Sequence[VideoFile | ImageFile | ImageSequence]) -> int:
    """Give the files their names; where the second cannot have its own, the first is taken back. Returns the bytes."""
    size = 0
    for number, file in enumerate(files):
        try:
            size += file.publish()
        except OutputError:
            for published in files[:number]:
                published.path.unlink(missing_ok=True)
            raise
    return size


def _duration(frame: av.VideoFrame, plan: OutputPlan) -> int:
    # a decoded frame may have no time base of its own: it is the stream's then
    if frame.duration and frame.time_base in (None, plan.time_base):
        return frame.duration
    return max(1, round(1 / (plan.frame_rate * plan.time_base)))


def _kept_span(source: CutSource, end_seconds: float | None) -> Span:
    base = source.info.time_base
    start = source.first_pts * base if source.start_pts_offset else None
    end = None if end_seconds is None else source.origin_seconds + Fraction(end_seconds)
    return Span(start, end, source.start_pts_offset * base)
