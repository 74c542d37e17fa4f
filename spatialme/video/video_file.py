"""One video file in the making: joined from segments, with the copied streams, and checked before it gets its name."""

from __future__ import annotations

import math
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition

from spatialme.errors import OutputError
from spatialme.video import mp4box
from spatialme.video.metadata import ST3D_MODE
from spatialme.video.output_errors import as_output_errors
from spatialme.video.picture import StreamInfo
from spatialme.video.place import partial_path
from spatialme.video.plan import OutputPlan
from spatialme.video.segment_file import BITEXACT, Segment
from spatialme.video.streams import StreamCopier, StreamOutcome
from spatialme.video.tags import Span

_FINEST_MOVIE_SCALE = 10_000_000  # ticks a second; finer ones make 32 bit players overflow within minutes


class VideoFile:
    """Joins segments into ``PATH.partial`` and copies the source's other streams beside them; nothing is encoded.

    Memory: the muxer's ten seconds, and sixteen bytes per frame for decoding times and the final check.
    """

    def __init__(self, path: Path, plan: OutputPlan, info: StreamInfo, source_path: Path | None, span: Span) -> None:
        """Name the file; `join` makes it.

        Args:
            path: The final name.
            plan: What to write.
            info: The source, for HDR10's boxes.
            source_path: Where to copy the other streams from; None where there are none.
            span: The part of the source's time that is kept.
        """
        self.path = path
        self.partial = partial_path(path)
        self.outcomes: list[StreamOutcome] = []  # of the source's other streams
        self.notes: list[str] = []  # what went wrong with them on the way
        self._plan = plan
        self._info = info
        self._source_path = source_path
        self._span = span
        self._stamps = array("q")  # in the order shown
        self._counts: dict[str, int] = {}

    def join(self, segments: Sequence[Segment]) -> Fraction:
        """Write the partial file, add what the muxer does not write, check it, and force it to the disk.

        Args:
            segments: All of the film, in order.

        Returns:
            The largest difference between a wanted and a written time stamp, in seconds.

        Raises:
            OutputError: the disk or the muxer refuses, or the file read back differs from what was written.
        """
        for segment in segments:
            self._stamps.extend(segment.stamps)
        with as_output_errors(self.path):
            options = self._muxer_options()
            with av.open(str(self.partial), "w", format=self._plan.container, options=options) as output:
                output.flags |= BITEXACT  # no random ids, no dates
                self._mux(output, segments)
            if self._plan.container in ("mp4", "mov"):
                mp4box.finish_file(self.partial, self._sample_entry_boxes())
            error = self._check()
            with open(self.partial, "rb") as file:
                os.fsync(file.fileno())
        return error

    def publish(self) -> int:
        """Give the file its name; returns its bytes."""
        with as_output_errors(self.path):
            os.replace(self.partial, self.path)
        return self.path.stat().st_size

    def abandon(self) -> None:
        """Drop the unfinished file."""
        self.partial.unlink(missing_ok=True)

    def _mux(self, output: Any, segments: Sequence[Segment]) -> None:
        with av.open(str(segments[0].path)) as first:
            video = self._add_video(output, first.streams.video[0])
        if self._source_path is None:
            for packet in self._packets(video, segments):
                output.mux(packet)
            return
        container = self._plan.container
        assert container is not None, "only images have none"
        copier = StreamCopier(self._source_path, output, container, self._span, keep_texts=self._plan.keep_tags)
        try:
            for packet in self._packets(video, segments):
                copier.pump(packet.dts * packet.time_base)
                output.mux(packet)
            copier.finish()
        finally:
            copier.close()
        self.outcomes, self.notes, self._counts = copier.outcomes, copier.notes, copier.counts

    def _packets(self, video: Any, segments: Sequence[Segment]) -> Iterator[Any]:
        """All segments' packets with their times in the joined file."""
        decoding = decoding_stamps(segments, self._stamps)
        for segment in segments:
            with _open_segment(segment, video) as container:
                packets = (packet for packet in container.demux(video=0) if packet.size)
                for packet, (stamp, duration) in zip(packets, segment.packets):
                    packet.stream = video
                    packet.time_base = self._plan.time_base
                    packet.pts, packet.dts, packet.duration = stamp, next(decoding), duration
                    yield packet

    def _muxer_options(self) -> dict[str, str]:
        if self._plan.container == "matroska":
            # else sound that starts with the encoder's delay, before zero, would move the pictures
            return {"avoid_negative_ts": "disabled", "default_mode": "passthrough"}
        scale = self._plan.time_base.denominator
        # the edit lists count in the movie's own ticks, milliseconds by default: too coarse for a start offset
        movie_scale = math.lcm(scale, *_sample_rates(self._source_path))
        if movie_scale > _FINEST_MOVIE_SCALE:
            movie_scale = scale
        options = {"video_track_timescale": str(scale), "movie_timescale": str(movie_scale), "write_tmcd": "1"}
        return options | {"strict": "experimental"}  # TrueHD in MP4 counts as one

    def _add_video(self, output: Any, template: Any) -> Any:
        plan = self._plan
        stream: Any = output.add_stream_from_template(template, opaque=True)
        stream.time_base = plan.time_base
        context = stream.codec_context
        context.framerate = plan.frame_rate
        context.bit_rate = 0  # the first segment's; the muxer measures the film's
        stream.disposition = Disposition.default
        if plan.encoder_tag is not None:
            context.codec_tag = plan.encoder_tag
        if plan.stereo is not None and plan.container == "matroska":
            stream.metadata["stereo_mode"] = plan.stereo
        return stream

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
        for kind, count in self._counts.items():
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


def decoding_stamps(segments: Iterable[Segment], stamps: Sequence[int]) -> Iterator[int]:
    """A decoding time for each packet of the joined segments: increasing, and never later than the time shown.

    Segments decode by themselves, each a little before it is shown; those times would overlap where frames last
    unequally. So the film gets them anew, as if encoded in one go: packet number n is decoded when picture n - delay is
    shown, where `delay` is the most that any picture is sent ahead of its turn.

    Args:
        segments: Of the film, in order.
        stamps: Time stamps of all pictures in the order shown.
    """
    delay = position = 0
    for segment in segments:
        place = {stamp: number for number, stamp in enumerate(segment.stamps)}
        delay = max([delay, *(number - place[stamp] for number, (stamp, _) in enumerate(segment.packets))])
        position += len(segment.packets)
    lead = stamps[delay] - stamps[0] if position else 0
    for number in range(position):
        yield stamps[number - delay] if number >= delay else stamps[number] - lead


def _open_segment(segment: Segment, video: Any) -> Any:
    # its own edit list would hide what the encoder sends ahead of time 0
    container = av.open(str(segment.path), options={"ignore_editlist": "1"})
    if container.streams.video[0].codec_context.extradata != video.codec_context.extradata:
        container.close()
        raise ValueError(f"segment {segment.path.name} was encoded otherwise than the first")
    return container


def _sample_rates(source_path: Path | None) -> list[int]:
    if source_path is None:
        return []
    with av.open(str(source_path), metadata_errors="replace") as container:
        return [stream.codec_context.sample_rate for stream in container.streams.audio if stream.codec_context]
