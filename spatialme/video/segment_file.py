"""One segment of an output video: a playable file of pictures, later joined with others without encoding again."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

from spatialme.video.codecs import ENCODER_THREADS, repeatable_options
from spatialme.video.output_errors import as_output_errors
from spatialme.video.plan import OutputPlan

BITEXACT: Any = av.container.Flags.bitexact.value
# x265 4.2 gives clips shorter than its reorder delay decoding times from memory it never set
_TOO_FEW_TO_REORDER = 2


@dataclass(frozen=True)
class Segment:
    """A finished segment."""

    path: Path
    packets: tuple[tuple[int, int], ...]  # (time stamp, duration) in decoding order; plan's time base, output's clock

    @property
    def stamps(self) -> list[int]:
        """The pictures' time stamps in the order shown."""
        return sorted(stamp for stamp, _ in self.packets)


class SegmentFile:
    """Encodes frames into a file whose clock starts at 0; the file appears whole under its name, or not at all.

    Memory: the encoder's own look-ahead, and two numbers for each frame.
    """

    def __init__(self, path: Path, plan: OutputPlan) -> None:
        """Create the partial file.

        Args:
            path: The final name. The container is the plan's, whatever the name says.
            plan: What to write.

        Raises:
            OutputError: the encoder, the muxer or the disk refuses.
        """
        self.path = path
        self._partial = path.with_name(f"{path.name}.{os.getpid()}.partial")  # another process may be at it, too
        self._plan = plan
        self._start: int | None = None
        self._durations: dict[int, int] = {}
        self._packets: list[tuple[int, int]] = []
        with as_output_errors(path):
            # without btrt the join's muxer measures the whole film's bit rate, instead of copying the first segment's
            options = {"video_track_timescale": str(plan.time_base.denominator), "write_btrt": "0"}
            self._output = av.open(
                str(self._partial), "w", format=plan.container, options={} if plan.container == "matroska" else options
            )
            try:
                self._output.flags |= BITEXACT  # no random ids, no dates
                self._video = self._add_video()
            except BaseException:
                self.abandon()
                raise

    def write(self, frame: av.VideoFrame, stamp: int, duration: int) -> None:
        """Encode one frame; `stamp` and `duration` in the plan's time base, on the output's clock."""
        if self._start is None:
            self._start = stamp
        frame.pts = stamp - self._start
        frame.time_base = self._plan.time_base
        self._durations[frame.pts] = duration
        with as_output_errors(self.path):
            self._mux(self._video.encode(frame))

    def finish(self) -> Segment:
        """Flush the encoder, force the file to the disk, and give it its name.

        Raises:
            OutputError: the encoder, the muxer or the disk refuses.
        """
        with as_output_errors(self.path):
            last_packets = self._video.encode(None)
            if len(self._packets) + len(last_packets) <= _TOO_FEW_TO_REORDER:
                for packet in last_packets:
                    packet.dts = packet.pts
            self._mux(last_packets)
            self._output.close()
            with open(self._partial, "rb") as file:
                os.fsync(file.fileno())
            os.replace(self._partial, self.path)
        return Segment(self.path, tuple(self._packets))

    def abandon(self) -> None:
        """Drop the unfinished file."""
        with contextlib.suppress(av.FFmpegError, OSError, ValueError):  # what made us give up, once more
            self._output.close()
        self._partial.unlink(missing_ok=True)

    def _add_video(self) -> Any:
        plan = self._plan
        options = repeatable_options(plan.encoder, dict(plan.encoder_options))
        stream: Any = self._output.add_stream(plan.encoder, rate=plan.frame_rate, options=options)
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = plan.geometry.width, plan.geometry.height, plan.pixel_format
        context.time_base = plan.time_base
        context.sample_aspect_ratio = plan.sample_aspect
        context.thread_count = ENCODER_THREADS
        context.color_range, context.colorspace = plan.colour.color_range, plan.colour.colorspace
        context.color_primaries, context.color_trc = plan.colour.color_primaries, plan.colour.color_trc
        if plan.encoder_tag is not None:
            context.codec_tag = plan.encoder_tag
        return stream

    def _mux(self, packets: list[Any]) -> None:
        assert self._start is not None, "packets come after frames"
        for packet in packets:
            packet.duration = self._durations.pop(packet.pts)
            self._packets.append((packet.pts + self._start, packet.duration))
            self._output.mux(packet)
