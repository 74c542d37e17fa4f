"""Everything but the pictures: sound, subtitles, chapters, attachments and texts, carried over from the source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
from av.stream import Discard, Disposition

from spatialme.video import subtitles
from spatialme.video.codecs import Container
from spatialme.video.opening import choose_video
from spatialme.video.routes import AacRoute, CopyRoute, Route, TextRoute
from spatialme.video.tags import Span, kept_chapters, kept_tags

Action = Literal["copied", "converted", "dropped"]

_IMAGE_TYPES = {"png": "image/png", "mjpeg": "image/jpeg", "gif": "image/gif", "bmp": "image/bmp", "webp": "image/webp"}
_MP4_COVERS = ("mjpeg", "png", "bmp")
# FFmpeg's MOV muxer lists these among its codecs, then refuses to write the header
_NOT_IN_MOV = ("flac", "opus", "truehd", "mlp")


@dataclass(frozen=True)
class StreamOutcome:
    """What became of one stream of the source."""

    index: int  # in the source
    name: str  # "audio aac (eng)"
    action: Action
    reason: str = ""  # why it was not simply copied

    def __str__(self) -> str:
        return f"stream {self.index}, {self.name}: {self.action}" + (f" ({self.reason})" if self.reason else "")


class StreamCopier:
    """Copies streams from a second opening of the source, keeping pace with the video being written.

    Memory: one packet, besides what the muxer holds to interleave (at most ten seconds).
    """

    def __init__(self, path: Path, output: Any, container: Container, span: Span, *, keep_texts: bool) -> None:
        """Open the source again and add its streams to `output`, whose video stream exists already.

        Args:
            path: The source.
            output: PyAV output container, before its header.
            container: Which one it is.
            span: The part to keep.
            keep_texts: Copy titles, places and other texts.
        """
        self.outcomes: list[StreamOutcome] = []
        self.notes: list[str] = []  # what went wrong on the way
        self._path = path
        self._output = output
        self._container = container
        self._span = span
        self._keep_texts = keep_texts
        self._routes: dict[int, Route] = {}
        self._stills: list[Any] = []
        self._waiting: Any = None
        self._input = av.open(str(path), metadata_errors="replace")
        try:
            self._add_all()
        except BaseException:
            self._input.close()
            raise
        self._packets = self._read()

    def pump(self, until: Fraction) -> None:
        """Hand everything before `until` (seconds on the output's clock) to the muxer."""
        while self._waiting is not None or self._advance():
            if _seconds(self._waiting) - self._span.shift >= until:
                return
            packet, self._waiting = self._waiting, None
            for converted in self._routes[packet.stream.index].convert(packet):
                self._output.mux(converted)

    def finish(self) -> None:
        """Hand over the rest and what converters still hold."""
        while self._waiting is not None or self._advance():
            self.pump(_seconds(self._waiting) - self._span.shift + 1)
        for route in self._routes.values():
            for packet in route.flush():
                self._output.mux(packet)

    def close(self) -> None:
        """Close the second opening of the source."""
        self._input.close()

    @property
    def counts(self) -> dict[str, int]:
        """How many streams of each type the output must show."""
        kinds = [route.target.type for route in self._routes.values()]
        return {kind: kinds.count(kind) for kind in ("audio", "subtitle")}

    def _advance(self) -> bool:
        self._waiting = next(self._packets, None)
        return self._waiting is not None

    def _read(self) -> Iterator[Any]:
        """The packets inside the span."""
        wanted = [self._input.streams[index] for index in self._routes]
        if not wanted:
            return
        for stream in self._input.streams:
            if stream.index not in self._routes:
                stream.discard = Discard.all
        try:
            for packet in self._input.demux(wanted):
                timed = packet.dts is not None or packet.pts is not None
                if packet.size and timed and self._trim(packet):
                    yield packet
        except av.FFmpegError as error:  # the reader has decided already that this damage is no reason to give up
            self.notes.append(f"sound and other streams end early: the input is damaged there ({error.strerror})")

    def _trim(self, packet: Any) -> bool:
        """Whether the packet belongs to the span; a subtitle on screen at either end is shortened to it."""
        began = _seconds(packet)
        start, end = self._span.start, self._span.end
        if packet.stream.type == "subtitle" and packet.duration:
            stops = began + packet.duration * packet.time_base
            began, stops = max(began, start or began), min(stops, end or stops)
            if began >= stops:
                return False
            packet.pts = packet.dts = round(began / packet.time_base)
            packet.duration = round((stops - began) / packet.time_base)
        return (start is None or began >= start) and (end is None or began < end)

    def _add_all(self) -> None:
        video, _ = choose_video(self._input, self._path)
        for stream in self._input.streams:
            if stream is not video:
                action, reason = self._add(stream)
                self.outcomes.append(StreamOutcome(stream.index, _describe(stream), action, reason))
        self._output.metadata.update(self._tags(self._input.metadata))
        self._output.streams.video[0].metadata.update(self._tags(video.metadata))
        chapters = kept_chapters(self._input.chapters(), self._span)
        if chapters:
            self._output.set_chapters(chapters)
        self._output.mux(self._stills)

    def _add(self, stream: Any) -> tuple[Action, str]:
        if stream.type == "audio":
            return self._add_audio(stream)
        if stream.type == "subtitle":
            return self._add_subtitle(stream)
        if stream.type == "attachment":
            return self._add_attachment(stream)
        if stream.type == "video":
            if stream.disposition & Disposition.attached_pic:
                return self._add_cover(stream)
            return "dropped", "a further video stream; one is converted"
        if "timecode" in stream.metadata:  # the video stream carries it too, and the muxer writes the track from there
            return ("copied", "") if self._span.start is None else ("dropped", "its value belongs to the part cut off")
        if self._input.chapters() and "mp4" in self._input.format.name and stream.name == "bin_data":
            return "copied", ""  # MP4 keeps the chapters' names in a track
        return "dropped", "data of this kind is not copied"

    def _add_audio(self, stream: Any) -> tuple[Action, str]:
        if stream.codec_context is None:
            return "dropped", "this FFmpeg build does not know its codec"
        codec = stream.codec_context.codec.canonical_name
        if codec in self._output.supported_codecs and not (self._container == "mov" and codec in _NOT_IN_MOV):
            target = self._output.add_stream_from_template(stream, opaque=True)
            self._connect(stream, CopyRoute(stream, target, self._span))
            return "copied", ""
        self._connect(stream, AacRoute(stream, self._output, self._span))
        keeps = "" if self._container == "matroska" else ", .mkv may keep it"
        return "converted", f"{self._container} does not take {codec}; now AAC{keeps}"

    def _add_subtitle(self, stream: Any) -> tuple[Action, str]:
        codec = stream.codec_context.name if stream.codec_context is not None else "unknown"
        if codec in subtitles.CONTAINER_CODECS[self._container]:
            target = self._output.add_stream_from_template(stream, opaque=True)
            self._connect(stream, CopyRoute(stream, target, self._span))
            return "copied", ""
        if codec not in subtitles.TEXT_CODECS:
            return "dropped", f"{self._container} does not take {codec} subtitles; .mkv keeps them"
        wanted = subtitles.text_codec(self._container)
        self._connect(stream, TextRoute(stream, self._output, wanted, self._span))
        return "converted", f"{self._container} does not take {codec}; now {wanted}"

    def _add_attachment(self, stream: Any) -> tuple[Action, str]:
        if self._container != "matroska":
            return "dropped", f"{self._container} holds no attachments; .mkv keeps them"
        name = stream.metadata.get("filename", f"attachment{stream.index}")
        self._output.add_attachment(name, stream.mimetype or "application/octet-stream", bytes(stream.data))
        return "copied", ""

    def _add_cover(self, stream: Any) -> tuple[Action, str]:
        codec = stream.codec_context.name
        if self._container == "matroska":
            name = stream.metadata.get("filename", f"cover.{'jpg' if codec == 'mjpeg' else codec}")
            self._output.add_attachment(name, _IMAGE_TYPES.get(codec, "image/png"), self._read_still(stream.index))
            return "copied", ""
        if self._container == "mov" or codec not in _MP4_COVERS:
            return "dropped", f"{self._container} takes no {codec} as cover; .mkv keeps it"
        target = self._output.add_stream_from_template(stream, opaque=True)
        target.disposition = Disposition.attached_pic
        packet = av.Packet(self._read_still(stream.index))
        packet.stream = target
        packet.time_base = target.time_base
        packet.pts = packet.dts = 0
        packet.is_keyframe = True
        self._stills.append(packet)
        return "copied", ""

    def _read_still(self, index: int) -> bytes:
        # opened once more: reading on and seeking back would lose sound from before time zero (encoder delay)
        with av.open(str(self._path), metadata_errors="replace") as container:
            return next(bytes(packet) for packet in container.demux(container.streams[index]) if packet.size)

    def _connect(self, stream: Any, route: Route) -> None:
        route.target.metadata.update(self._tags(stream.metadata))
        route.target.disposition = stream.disposition
        self._routes[stream.index] = route

    def _tags(self, tags: Any) -> dict[str, str]:
        return kept_tags(tags, self._container, self._span, keep_texts=self._keep_texts)


def _describe(stream: Any) -> str:
    if stream.type == "attachment":
        return f"attachment {stream.metadata.get('filename', '')}".strip()
    codec = stream.codec_context.name if stream.codec_context is not None else stream.name or "unknown codec"
    language = f" ({stream.language})" if stream.language and stream.language != "und" else ""
    return f"{stream.type} {codec}{language}"


def _seconds(packet: Any) -> Fraction:
    stamp = packet.pts if packet.dts is None else packet.dts
    return stamp * packet.time_base
