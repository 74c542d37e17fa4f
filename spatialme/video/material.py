"""The three kinds of input - video file, image, numbered images - as one kind of decoded stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
from av.codec.context import ThreadType
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.video.stream import VideoStream

from spatialme.errors import InputError
from spatialme.video import nvdec
from spatialme.video.clean_aperture import Area, clean_aperture
from spatialme.video.decoding import Decoded, Decoder
from spatialme.video.exif import exif_orientation
from spatialme.video.files import sequence_files
from spatialme.video.opening import check_file, check_whole, choose_video, open_container
from spatialme.video.orientation import Orientation, from_exif
from spatialme.video.picture import SourceKind

_FASTEST_PLAUSIBLE_RATE = 1000  # headers that claim more mean ticks, not frames
_FALLBACK_RATE = Fraction(25)
_SEEK_MARGIN_SECONDS = 2
_ANIMATED = "the picture is animated; its first frame is taken, save it as a video to convert all"
_MICROSECOND = Fraction(1, 1_000_000)  # FFmpeg's unit for a container's start and duration


@dataclass
class Material:
    """A decoded stream and what its container says about it."""

    kind: SourceKind
    items: Iterator[Decoded]  # pts in time_base
    time_base: Fraction
    frame_rate: Fraction
    first_pts: int  # what a missing first time stamp stands for
    origin_seconds: Fraction  # the container's own zero; --start and --end count from it
    orientation: Orientation | None  # None: the first picture tells
    area: Area | None  # what is to be seen of the stored picture, where not all of it
    codec: str
    codec_tag: str  # the container's four letters
    sample_aspect: Fraction
    frame_estimate: int | None
    duration_seconds: float | None
    notes: list[str]
    close: Callable[[], None]
    late_notes: Callable[[], list[str]] = field(default=list)  # known once all is read


def open_video(
    path: Path, *, start_seconds: Fraction | None, keep_going: bool, accelerator: HWAccel | None = None
) -> Material:
    """Open a video file so that decoding begins at or before `start_seconds`, not long before where it can seek."""
    accelerator, notes = nvdec.suited(path, accelerator)
    container, stream, found = _open_stream(path, accelerator)
    notes += found
    try:
        notes += check_whole(path, stream, keep_going=keep_going)
        origin = (container.start_time or 0) * _MICROSECOND
        time_base = stream.time_base or _MICROSECOND
        first_pts = stream.start_time or 0
        target = first_pts if start_seconds is None else round((origin + start_seconds) / time_base)
        sought = _decode_near(container, stream, path, target, keep_going=keep_going) if target > first_pts else None
        if sought is None and target > first_pts:
            container.close()  # no seek leads back to the very beginning in every format
            container, stream, _ = _open_stream(path, accelerator)
        decoder, items = sought or _decode(container, stream, path, keep_going=keep_going)
        return Material(
            kind="video",
            items=items,
            time_base=time_base,
            frame_rate=_frame_rate(stream),
            first_pts=first_pts,
            origin_seconds=origin,
            orientation=None,
            area=_area(container, stream, path),
            codec=stream.codec_context.codec.canonical_name,
            codec_tag=stream.codec_context.codec_tag,
            sample_aspect=stream.sample_aspect_ratio or Fraction(1),
            frame_estimate=stream.frames or None,
            duration_seconds=_duration_seconds(container, stream),
            notes=notes,
            close=container.close,
            late_notes=lambda: _late_notes(decoder, whole=start_seconds is None),
        )
    except BaseException:
        container.close()
        raise


def _open_stream(path: Path, accelerator: HWAccel | None) -> tuple[InputContainer, VideoStream, list[str]]:
    container = open_container(path, accelerator=accelerator)
    try:
        stream, notes = choose_video(container, path)
        if accelerator is None:
            stream.thread_type = ThreadType.AUTO
        else:  # threads would gain nothing, and each would hold pictures on the GPU
            stream.thread_type, stream.thread_count = ThreadType.NONE, 1
        return container, stream, notes
    except BaseException:
        container.close()
        raise


def _late_notes(decoder: Decoder, *, whole: bool) -> list[str]:
    notes = [f"reading broke off: {decoder.broke_off}"] if decoder.broke_off else []
    if whole and decoder.lost_at_start:
        notes.append(f"pictures at the start that cannot be decoded and are left out: {decoder.lost_at_start}")
    return notes


def open_image(path: Path) -> Material:
    """Open a still image, turned as its EXIF orientation says."""
    check_file(path)
    content = path.read_bytes()
    frame, codec = _decode_image(path, content)
    return Material(
        kind="image",
        items=iter([Decoded(frame, 0, True, False)]),
        time_base=Fraction(1),
        frame_rate=Fraction(1),
        first_pts=0,
        origin_seconds=Fraction(0),
        orientation=from_exif(exif_orientation(content)),
        area=None,
        codec=codec,
        codec_tag="",
        sample_aspect=Fraction(1),
        frame_estimate=1,
        duration_seconds=None,
        notes=[_ANIMATED] if codec == "apng" else [],
        close=lambda: None,
    )


def open_sequence(pattern: Path, *, frame_rate: Fraction, keep_going: bool) -> Material:
    """Open numbered images as one film whose first picture is at time 0.

    Raises:
        InputError: if none matches, or a number in between is missing and not `keep_going`.
    """
    files = sequence_files(pattern)
    numbers = range(min(files), max(files) + 1)
    gaps = [number for number in numbers if number not in files]
    if gaps and not keep_going:
        raise InputError(
            f"{pattern} lacks number {gaps[0]} ({len(gaps)} missing between {numbers[0]} and {numbers[-1]}); "
            "add it, or use --keep-going to repeat the picture before"
        )
    first = files[numbers[0]]
    check_file(first)
    content = first.read_bytes()
    return Material(
        kind="sequence",
        items=_decode_sequence(pattern, files, numbers, keep_going=keep_going),
        time_base=1 / frame_rate,
        frame_rate=frame_rate,
        first_pts=0,
        origin_seconds=Fraction(0),
        orientation=from_exif(exif_orientation(content)),
        area=None,
        codec=_decode_image(first, content)[1],
        codec_tag="",
        sample_aspect=Fraction(1),
        frame_estimate=len(numbers),
        duration_seconds=float(len(numbers) / frame_rate),
        notes=[],
        close=lambda: None,
    )


def _decode_sequence(pattern: Path, files: dict[int, Path], numbers: range, *, keep_going: bool) -> Iterator[Decoded]:
    previous: av.VideoFrame | None = None
    for pts, number in enumerate(numbers):
        try:
            if number not in files:
                raise InputError(f"{pattern} lacks number {number}")
            check_file(files[number])
            previous, _ = _decode_image(files[number], files[number].read_bytes())
            yield Decoded(previous, pts, True, False)
        except InputError:
            if not keep_going or previous is None:
                raise
            yield Decoded(previous, pts, False, True)


def _decode_image(path: Path, content: bytes) -> tuple[av.VideoFrame, str]:
    with open_container(path, content) as container:
        stream, _ = choose_video(container, path)
        try:
            frame = next(container.decode(stream), None)
        except av.FFmpegError:
            frame = None
        if frame is None:
            raise InputError(f"{path} holds no picture that can be decoded; save it again as PNG or JPEG")
        return frame, stream.codec_context.codec.canonical_name


def _decode(
    container: InputContainer, stream: VideoStream, path: Path, *, keep_going: bool
) -> tuple[Decoder, Iterator[Decoded]]:
    decoder = Decoder(container, stream, path, keep_going=keep_going)
    return decoder, iter(decoder)


def _decode_near(
    container: InputContainer, stream: VideoStream, path: Path, target: int, *, keep_going: bool
) -> tuple[Decoder, Iterator[Decoded]] | None:
    """Seek so far back that the first picture out is not later than `target`; None where no seek does it.

    One seek is not always enough: the pictures shown before a key picture that they refer to (open GOP) are lost
    with a seek to it, and some containers seek by decoding order.
    """
    margin = 0
    while target - margin > (stream.start_time or 0):
        try:
            container.seek(target - margin, stream=stream)
        except av.FFmpegError:
            return None
        decoder, items = _decode(container, stream, path, keep_going=keep_going)
        first = next(items, None)
        if first is not None and first.pts is not None and first.pts <= target:
            return decoder, chain([first], items)
        margin = max(2 * margin, round(_SEEK_MARGIN_SECONDS / (stream.time_base or 1)))
    return None


def _area(container: InputContainer, stream: VideoStream, path: Path) -> Area | None:
    return clean_aperture(path, stream.width, stream.height) if "mp4" in container.format.name else None


def _frame_rate(stream: VideoStream) -> Fraction:
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and 0 < rate <= _FASTEST_PLAUSIBLE_RATE:
            return Fraction(rate)
    return _FALLBACK_RATE


def _duration_seconds(container: InputContainer, stream: VideoStream) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else float(container.duration * _MICROSECOND)
