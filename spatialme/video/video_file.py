"""One video file in the making: encoder, muxer, copied streams, and the checks before it gets its name."""

from __future__ import annotations

import errno
import math
import os
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition

from spatialme.errors import OutputError
from spatialme.video import mp4box
from spatialme.video.codecs import ENCODER_THREADS
from spatialme.video.metadata import ST3D_MODE
from spatialme.video.picture import StreamInfo
from spatialme.video.place import partial_path
from spatialme.video.plan import OutputPlan
from spatialme.video.streams import StreamCopier, StreamOutcome
from spatialme.video.tags import Span

_BITEXACT: Any = av.container.Flags.bitexact.value
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# x265 4.2 gives clips shorter than its reorder delay decoding times from memory it never set
_TOO_FEW_TO_REORDER = 2
_FINEST_MOVIE_SCALE = 10_000_000  # ticks a second; finer ones make 32 bit players overflow within minutes


class VideoFile:
    """Encodes frames into ``PATH.partial`` and copies the source's other streams beside them.

    Memory: the encoder's own look-ahead, the muxer's ten seconds, and eight bytes per frame for the final check.
    """

    def __init__(self, path: Path, plan: OutputPlan, info: StreamInfo, source_path: Path | None, span: Span) -> None:
        """Create the partial file.

        Args:
            path: The final name.
            plan: What to write.
            info: The source, for HDR10's boxes.
            source_path: Where to copy the other streams from; None where there are none.
            span: The part of the source's time that is kept.
        """
        self.path = path
        self.partial = partial_path(path)
        self._plan = plan
        self._info = info
        self._shift = round(span.shift / plan.time_base)
        self._stamps = array("q")
        self._durations: dict[int, int] = {}
        self._copier: StreamCopier | None = None
        self._closed = False
        with _as_output_errors(path):
            options = self._muxer_options(source_path)
            self._output = av.open(str(self.partial), "w", format=plan.container, options=options)
            try:
                self._output.flags |= _BITEXACT  # no random ids, no dates
                self._video = self._add_video()
                if source_path is not None:
                    self._copier = self._copy_from(source_path, span)
            except BaseException:
                self.abandon()
                raise

    def write(self, frame: av.VideoFrame, pts: int, duration: int) -> None:
        """Encode one frame; `pts` and `duration` in the plan's time base, on the source's clock."""
        frame.pts = pts - self._shift
        frame.time_base = self._plan.time_base
        self._stamps.append(frame.pts)
        self._durations[frame.pts] = duration
        with _as_output_errors(self.path):
            self._mux(self._video.encode(frame))

    def close(self, *, interrupted: bool = False) -> None:
        """Flush the encoder and end the file: from here on it plays.

        Args:
            interrupted: The pictures stop here, and the other streams with them, before their own end.
        """
        if self._closed:
            return
        self._closed = True
        with _as_output_errors(self.path):
            last_packets = self._video.encode(None)
            if len(self._stamps) <= _TOO_FEW_TO_REORDER:
                for packet in last_packets:
                    packet.dts = packet.pts
            self._mux(last_packets)
            if self._copier is not None and not interrupted:
                self._copier.finish()
            self._output.close()
        if self._copier is not None:
            self._copier.close()

    def finish(self) -> Fraction:
        """Add the boxes and marks that the muxer does not write, check the file, and force it to the disk.

        Returns:
            The largest difference between a wanted and a written time stamp, in seconds.

        Raises:
            OutputError: the file read back differs from what was written.
        """
        with _as_output_errors(self.path):
            if self._plan.container in ("mp4", "mov"):
                mp4box.finish_file(self.partial, self._sample_entry_boxes())
            error = self._check()
            with open(self.partial, "rb") as file:
                os.fsync(file.fileno())
        return error

    def publish(self) -> int:
        """Give the file its name; returns its bytes."""
        with _as_output_errors(self.path):
            os.replace(self.partial, self.path)
        return self.path.stat().st_size

    def abandon(self) -> None:
        """Drop the unfinished file."""
        for close in (self._output.close, self._copier.close if self._copier else _nothing):
            try:
                close()
            except (av.FFmpegError, OSError, ValueError):
                continue  # what made us give up, once more
        self.partial.unlink(missing_ok=True)

    @property
    def outcomes(self) -> list[StreamOutcome]:
        """What became of the source's other streams."""
        return self._copier.outcomes if self._copier is not None else []

    @property
    def notes(self) -> list[str]:
        """What went wrong with them on the way."""
        return self._copier.notes if self._copier is not None else []

    def _muxer_options(self, source_path: Path | None) -> dict[str, str]:
        if self._plan.container == "matroska":
            # else sound that starts with the encoder's delay, before zero, would move the pictures
            return {"avoid_negative_ts": "disabled", "default_mode": "passthrough"}
        scale = _timescale(self._plan.time_base)
        # the edit lists count in the movie's own ticks, milliseconds by default: too coarse for a start offset
        movie_scale = math.lcm(scale, *_sample_rates(source_path))
        if movie_scale > _FINEST_MOVIE_SCALE:
            movie_scale = scale
        options = {"video_track_timescale": str(scale), "movie_timescale": str(movie_scale), "write_tmcd": "1"}
        return options | {"strict": "experimental"}  # TrueHD in MP4 counts as one

    def _add_video(self) -> Any:
        plan = self._plan
        stream: Any = self._output.add_stream(plan.encoder, rate=plan.frame_rate, options=dict(plan.encoder_options))
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = plan.geometry.width, plan.geometry.height, plan.pixel_format
        context.time_base = plan.time_base
        context.sample_aspect_ratio = plan.sample_aspect
        context.thread_count = ENCODER_THREADS
        context.color_range, context.colorspace = plan.colour.color_range, plan.colour.colorspace
        context.color_primaries, context.color_trc = plan.colour.color_primaries, plan.colour.color_trc
        stream.disposition = Disposition.default
        if plan.encoder_tag is not None:
            context.codec_tag = plan.encoder_tag
        if plan.stereo is not None and plan.container == "matroska":
            stream.metadata["stereo_mode"] = plan.stereo
        return stream

    def _copy_from(self, source_path: Path, span: Span) -> StreamCopier:
        container = self._plan.container
        assert container is not None, "only images have none"
        return StreamCopier(source_path, self._output, container, span, keep_texts=self._plan.keep_tags)

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            packet.duration = self._durations.pop(packet.pts)
            if self._copier is not None:
                self._copier.pump(packet.dts * packet.time_base)
            self._output.mux(packet)

    def _sample_entry_boxes(self) -> list[bytes]:
        boxes = []
        if self._plan.stereo in ST3D_MODE:
            boxes.append(mp4box.st3d_box(ST3D_MODE[self._plan.stereo]))
        display, light = self._info.mastering_display, self._info.content_light
        if display is not None:
            points = (*display.green, *display.blue, *display.red, *display.white)
            luminances = (round(display.maximum_nits * 10000), round(display.minimum_nits * 10000))
            boxes.append(mp4box.mdcv_box([round(value * 50000) for value in points], luminances))
        if light is not None:
            boxes.append(mp4box.clli_box(light.maximum_content_nits, light.maximum_average_nits))
        return boxes

    def _check(self) -> Fraction:
        with av.open(str(self.partial), metadata_errors="replace") as container:
            video = container.streams.video[0]
            for stream in container.streams:
                if stream is not video:
                    stream.discard = av.stream.Discard.all
            base = video.time_base
            packets = [(each.pts, each.duration or 0) for each in container.demux(video) if each.size]
            kinds = [stream.type for stream in container.streams]
        if len(packets) != len(self._stamps):
            raise OutputError(
                f"{self.path} has {len(packets)} frames after writing, expected {len(self._stamps)}; try again"
            )
        for kind, count in (self._copier.counts if self._copier else {}).items():
            if kinds.count(kind) != count:
                raise OutputError(f"{self.path} has {kinds.count(kind)} {kind} streams, expected {count}; try .mkv")
        written = sorted(stamp for stamp, _ in packets)
        wanted = self._plan.time_base
        error = max((abs(got * base - want * wanted) for got, want in zip(written, self._stamps)), default=Fraction(0))
        if error >= max(Fraction(1, 1000), wanted):
            raise OutputError(
                f"{self.path} has a frame {float(error):.4f} s off its time after writing; try .mkv or .mp4"
            )
        return error


@contextmanager
def _as_output_errors(path: Path) -> Iterator[None]:
    """Turn what FFmpeg and the disk say into one line."""
    try:
        yield
    except (av.FFmpegError, OSError) as error:
        if error.errno in _NO_SPACE:
            text = f"no space left for {path} ({os.strerror(error.errno)}); free some or choose another drive"
            raise OutputError(text) from error
        said = getattr(error, "log", None)
        detail = f"{error.strerror or error}" + (f": {said[2].strip()}" if said else "")
        raise OutputError(f"{path} could not be written ({detail}); try another codec or container") from error
    except ValueError as error:
        raise OutputError(f"{path} could not be written ({error}); try another codec or container") from error


def _timescale(time_base: Fraction) -> int:
    return time_base.denominator


def _sample_rates(source_path: Path | None) -> list[int]:
    if source_path is None:
        return []
    with av.open(str(source_path), metadata_errors="replace") as container:
        return [stream.codec_context.sample_rate for stream in container.streams.audio if stream.codec_context]


def _nothing() -> None:
    return
