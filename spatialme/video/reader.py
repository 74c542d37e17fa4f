"""Reading a video, an image or numbered images as one stream of upright pictures with trustworthy time stamps.

packets -> Decoder -> Timeline -> deinterlaced -> start and end -> Upright -> Picture
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from types import TracebackType

import av
from av.codec.hwaccel import HWAccel

from spatialme.errors import InputError, OptionError
from spatialme.video import side_data
from spatialme.video.decoding import Decoded
from spatialme.video.deinterlace import deinterlaced
from spatialme.video.files import expand_input, is_image, is_pattern
from spatialme.video.formats import bit_depth
from spatialme.video.material import Material, open_image, open_sequence, open_video
from spatialme.video.opening import check_file, check_size
from spatialme.video.orientation import Orientation
from spatialme.video.picture import Picture, SourceKind, StreamInfo
from spatialme.video.timeline import Timeline
from spatialme.video.upright import Upright

__all__ = ["DEFAULT_SEQUENCE_RATE", "Source", "expand_input", "open_source"]

DEFAULT_SEQUENCE_RATE = Fraction(24)
_MICROSECOND = Fraction(1, 1_000_000)  # cut times are no finer, and FFmpeg rounds a container's start to it
_UNSPECIFIED = 2  # as a transfer characteristic
_DOLBY_VISION_TAGS = ("dvh1", "dvhe", "dva1", "dvav", "dav1")  # profiles with a base others can show name its transfer


class Source:
    """The pictures of one input, to be read once; made by `open_source`.

    Memory: the decoder's own reorder and thread buffers, two pictures, and two more while deinterlacing.

    Attributes:
        path: What was opened.
        kind: A video file, one image, or numbered images.
        info: Facts about the pictures that come out.
        warnings: One line each for what is not as the input meant it; complete when the last picture has been read.
        repeated_frames: Pictures so far that stand in for damaged ones.
        origin_seconds: Where the container's clock starts, on which all its streams agree.
        first_pts: Time stamp of the first picture kept.
        start_pts_offset: What to subtract from every `Picture.pts` (and, in seconds, from all other streams) so that
            a cut piece starts where the input did; 0 without a start time.
    """

    def __init__(self, path: Path, material: Material, *, start: Fraction | None, end: Fraction | None) -> None:
        self.path = path
        self.kind: SourceKind = material.kind
        self.warnings = material.notes
        self.repeated_frames = 0
        self.origin_seconds = material.origin_seconds
        self._material = material
        self._start = start
        self._end = end
        self._timeline = Timeline(
            frame_rate=material.frame_rate, time_base=material.time_base, first_pts=material.first_pts
        )
        self._first_repeat_seconds = Fraction(0)
        self._begun = False
        items = self._kept()
        first_item = next(items, None)
        if first_item is None:
            raise InputError(self._why_nothing())
        self._refuse_private_colours(first_item.frame)
        self._pictures = self._upright(chain([first_item], items))
        first = next(self._pictures)
        check_size(path, first.frame.width, first.frame.height)
        self.first_pts = first.pts
        self.start_pts_offset = first.pts - round(self.origin_seconds / material.time_base) if start else 0
        self.info = self._describe(first_item.frame, first.frame)
        self._pictures = chain([first], self._pictures)

    def __iter__(self) -> Iterator[Picture]:
        if self._begun:
            raise ValueError(f"{self.path} has been read; a Source is read once, open it again")
        self._begun = True
        yield from self._pictures
        self._report()

    def close(self) -> None:
        """Close the file; pictures already given stay valid."""
        self._material.close()

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _kept(self) -> Iterator[Decoded]:
        """The pictures between start and end, progressive and with their final time stamps."""
        stamped = (replace(item, pts=self._timeline.stamp(item.pts)) for item in self._material.items)
        for item in deinterlaced(stamped, self._material.time_base, found=self._note_interlaced):
            seconds = self._seconds(item)
            if self._end is not None and seconds >= self._end - _MICROSECOND:
                return
            if self._start is None or seconds >= self._start - _MICROSECOND:
                yield item

    def _upright(self, items: Iterator[Decoded]) -> Iterator[Picture]:
        upright: Upright | None = None
        frame: av.VideoFrame | None = None
        for index, item in enumerate(items):
            if upright is None:
                upright = Upright(self._orientation(item.frame), self._material.area, self.warnings)
            if item.repeated:
                self._first_repeat_seconds = self._first_repeat_seconds or self._seconds(item)
                self.repeated_frames += 1
            if frame is None or not item.repeated:
                frame = upright(item.frame)
            assert item.pts is not None, "stamped by the timeline"
            yield Picture(index, item.pts, frame, item.key, item.repeated)

    def _orientation(self, first: av.VideoFrame) -> Orientation:
        stated = self._material.orientation
        return side_data.orientation(first) if stated is None else stated

    def _seconds(self, item: Decoded) -> Fraction:
        return (item.pts or 0) * self._material.time_base - self.origin_seconds

    def _refuse_private_colours(self, first: av.VideoFrame) -> None:
        untagged = first.color_trc == _UNSPECIFIED and self._material.codec_tag in _DOLBY_VISION_TAGS
        if untagged or side_data.is_dolby_vision_profile_5(first):
            raise InputError(
                f"{self.path} is Dolby Vision profile 5, whose colours only Dolby's decoders know; "
                "export it as HDR10, HLG or SDR first"
            )

    def _describe(self, stored: av.VideoFrame, first: av.VideoFrame) -> StreamInfo:
        material = self._material
        orientation = self._orientation(stored)
        self.warnings += [
            f"{name} metadata is dropped; the base picture is kept" for name in side_data.dynamic_hdr(stored)
        ]
        aspect = material.sample_aspect
        duration, estimate = self._extent()
        return StreamInfo(
            width=first.width,
            height=first.height,
            frame_rate=material.frame_rate,
            time_base=material.time_base,
            frame_estimate=estimate,
            duration_seconds=duration,
            pixel_format=first.format.name,
            bit_depth=bit_depth(first.format.name),
            codec=material.codec,
            sample_aspect=1 / aspect if orientation.transpose else aspect,
            color_range=int(first.color_range),
            colorspace=int(first.colorspace),
            color_primaries=int(first.color_primaries),
            color_trc=int(first.color_trc),
            mastering_display=side_data.mastering_display(stored),
            content_light=side_data.content_light(stored),
            kind=material.kind,
            rotation_degrees=orientation.degrees,
        )

    def _extent(self) -> tuple[float | None, int | None]:
        """Seconds and pictures between start and end, as far as the header tells."""
        whole = self._material.duration_seconds
        if self._start is None and self._end is None:
            guess = None if whole is None else round(whole * self._material.frame_rate)
            return whole, self._material.frame_estimate or guess
        stop = min(float(bound) for bound in (self._end, whole, float("inf")) if bound is not None)
        if stop == float("inf"):
            return None, None
        seconds = max(0.0, stop - float(self._start or 0))
        return seconds, max(1, round(seconds * self._material.frame_rate))

    def _why_nothing(self) -> str:
        if self._start is None:
            return f"{self.path} holds no picture that can be decoded; check that it plays"
        whole = self._material.duration_seconds
        length = "" if whole is None else f", which lasts {whole:.3f} s"
        until = "" if self._end is None else f" and {float(self._end):g} s"
        return f"no picture lies after --start {float(self._start):g} s{until} in {self.path}{length}; choose earlier"

    def _note_interlaced(self) -> None:
        self.warnings.append("the video is interlaced; it is deinterlaced with bwdif at its own frame rate")

    def _report(self) -> None:
        """Add what is only known at the end to `warnings`."""
        if self.repeated_frames:
            self.warnings.append(
                f"damaged pictures replaced by the one before: {self.repeated_frames}, "
                f"the first at {float(self._first_repeat_seconds):.3f} s"
            )
        if self._timeline.missing:
            self.warnings.append(f"time stamps missing and set by the frame rate: {self._timeline.missing}")
        if self._timeline.repaired:
            self.warnings.append(f"time stamps that did not increase and were moved: {self._timeline.repaired}")
        self.warnings += self._material.late_notes()


def open_source(
    path: str | Path,
    *,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    keep_going: bool = False,
    frame_rate: Fraction = DEFAULT_SEQUENCE_RATE,
    accelerator: HWAccel | None = None,
) -> Source:
    """Open a video file, a still image, or numbered images by a pattern such as ``frames/%05d.png``.

    Args:
        path: What to read; see `expand_input` for folders.
        start_seconds: First time to keep, from the container's start.
        end_seconds: First time to leave out.
        keep_going: Take what a file that is cut short, or a sequence with gaps, still holds.
        frame_rate: Of numbered images; a video has its own.
        accelerator: Decodes a video, of `nvdec.find_accelerator`; None: the CPU, which decodes images in any case.

    Raises:
        InputError: in one line, if there is no picture to be had.
        OptionError: if start, end or frame rate make no sense.
    """
    start, end = _cut_time("--start", start_seconds), _cut_time("--end", end_seconds)
    if end is not None and end <= (start or 0):
        raise OptionError(
            f"--end {end_seconds:g} s is not after --start {start_seconds or 0:g} s; nothing would be left"
        )
    if frame_rate <= 0:
        raise OptionError(f"the frame rate is {frame_rate}, expected more than 0")
    given = Path(path)
    material = _open_material(given, start, keep_going, Fraction(frame_rate), accelerator)
    try:
        return Source(given, material, start=start, end=end)
    except BaseException:
        material.close()
        raise


def _open_material(
    path: Path, start: Fraction | None, keep_going: bool, frame_rate: Fraction, accelerator: HWAccel | None
) -> Material:
    if is_pattern(path):
        return open_sequence(path, frame_rate=frame_rate, keep_going=keep_going)
    check_file(path)
    if is_image(path):
        return open_image(path)
    return open_video(path, start_seconds=start, keep_going=keep_going, accelerator=accelerator)


def _cut_time(option: str, seconds: float | None) -> Fraction | None:
    if seconds is None:
        return None
    if not 0 <= seconds < float("inf"):
        raise OptionError(f"{option} is {seconds}, expected seconds from 0 on")
    return Fraction(seconds).limit_denominator(_MICROSECOND.denominator)
