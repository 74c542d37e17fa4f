"""From packets to decoded pictures; damaged ones are replaced by the picture before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import av
from av.codec.context import ThreadType
from av.container import InputContainer
from av.video.stream import VideoStream

from spatialme.errors import InputError


@dataclass(frozen=True)
class Decoded:
    """A picture as the decoder gave it, in the order shown."""

    frame: av.VideoFrame
    pts: int | None  # in the stream's time base; None where the file gives none
    key: bool
    repeated: bool  # `frame` is the one of the picture before


class Decoder:
    """Decodes one video stream of an open container, from where it stands to its end.

    A packet that cannot be decoded, or whose picture the decoder marks as damaged, yields the picture before once
    more at its own time. Pictures lost before the first good one are left out. Holds one picture and the time stamps
    of the packets inside the decoder.
    """

    def __init__(
        self, container: InputContainer, stream: VideoStream, path: Path, *, keep_going: bool, exact: bool = False
    ) -> None:
        self._container = container
        self._stream = stream
        self._path = path
        self._keep_going = keep_going
        self._exact = exact  # the stream decodes on one thread, so that errors come with their packets
        self._previous: av.VideoFrame | None = None
        self._awaited: set[int] = set()  # stamps of packets sent whose pictures have not come out
        self._suspect: set[int] = set()  # those of them that an error may have cost
        self._doubt_until: int | None = None  # after an error: the stamp from which on a good picture ends the doubt
        self.lost_at_start = 0  # pictures before the first that could be decoded
        self.broke_off: str | None = None  # why reading ended early, with keep_going

    def __iter__(self) -> Iterator[Decoded]:
        for packet in self._packets():
            yield from self._decode(packet)
        yield from self._decode(None)
        yield from self._last_ones()

    def _packets(self) -> Iterator[av.Packet]:
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                if not self._keep_going:
                    raise InputError(
                        f"{self._path} cannot be read to its end ({error.strerror}); "
                        "use --keep-going to take what is there"
                    ) from error
                self.broke_off = str(error.strerror)
                return
            if packet is None:
                return
            if packet.size:  # an empty one, PyAV's last or a dropped frame in AVI, would flush the decoder
                yield packet

    def _decode(self, packet: av.Packet | None) -> Iterator[Decoded]:
        if packet is not None and packet.pts is not None and not packet.is_discard:
            self._awaited.add(packet.pts)
            if self._doubt_until is not None:
                self._suspect.add(packet.pts)
        try:
            frames = self._stream.decode(packet)
        except av.FFmpegError:
            # with frame threads the error may be that of an earlier packet: all inside are suspect until they come
            # out, and so are those to come, which may refer to a lost key picture, until a good one follows
            self._suspect |= self._awaited
            self._doubt_until = max(self._awaited, default=None)
            frames = []
            if packet is not None and packet.pts is None and self._previous is not None:
                yield Decoded(self._previous, None, False, True)
        for frame in frames:
            yield from self._settle(frame)

    def _settle(self, frame: av.VideoFrame) -> Iterator[Decoded]:
        if frame.pts is None:
            self._awaited.clear()
        else:
            overdue = {stamp for stamp in self._awaited if stamp < frame.pts}
            yield from self._repeat(overdue & self._suspect)
            self.lost_at_start += len(overdue) if self._previous is None else 0
            self._awaited -= overdue | {frame.pts}
            self._suspect &= self._awaited
        if frame.is_corrupt and self._previous is not None:
            yield Decoded(self._previous, frame.pts, False, True)
            return
        if self._doubt_until is not None and frame.pts is not None and frame.pts >= self._doubt_until:
            self._doubt_until = None
        self._previous = frame
        yield Decoded(frame, frame.pts, frame.key_frame, False)

    def _repeat(self, stamps: set[int]) -> Iterator[Decoded]:
        if self._previous is not None:
            for stamp in sorted(stamps):
                yield Decoded(self._previous, stamp, False, True)

    def _last_ones(self) -> Iterator[Decoded]:
        """Settle the stamps still awaited after the flush.

        An error while frame threads are flushed ends the flush, and PyAV does not tell. So the end is decoded once
        more on one thread, where every error belongs to the packet at hand.
        """
        if self._exact or self._previous is None or not self._awaited:
            return
        with av.open(str(self._path)) as container:
            stream = container.streams[self._stream.index]
            assert isinstance(stream, VideoStream)
            stream.thread_type, stream.thread_count = ThreadType.NONE, 1
            container.seek(min(self._awaited), stream=stream)
            again = Decoder(container, stream, self._path, keep_going=True, exact=True)
            for item in again:
                if item.pts in self._awaited:
                    self._awaited.discard(item.pts)
                    self._previous = self._previous if item.repeated else item.frame
                    yield replace(item, frame=self._previous)
            yield from self._repeat(self._awaited & again._suspect)
