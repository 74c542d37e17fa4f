"""The ways of a stream's packets into the output: as they are, as AAC, or as another kind of text."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Protocol

import av

from spatialme.video import subtitles
from spatialme.video.tags import Span

_AAC_BITS_PER_CHANNEL = 96_000


class Route(Protocol):
    """Takes packets of one source stream to one output stream."""

    target: Any  # the output stream

    def convert(self, packet: Any) -> list[Any]:
        """The packets to mux for one of the source."""

    def flush(self) -> list[Any]:
        """What is still held when the source has ended."""


class CopyRoute:
    """Packets as they are, moved in time."""

    def __init__(self, source: Any, target: Any, span: Span) -> None:
        self.target = target
        self._span = span
        self._clock = _sample_clock(source)
        self._skips_empty = source.type == "subtitle" and source.codec_context.name == "mov_text"

    def convert(self, packet: Any) -> list[Any]:
        """The packet itself; none for MP4's empty subtitles, which its muxer puts into every gap again."""
        if self._skips_empty and bytes(packet)[:2] == b"\0\0":
            return []
        if self._clock is not None:
            self._clock.sharpen(packet)
        shift = round(self._span.shift / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts - shift
        packet.dts = None if packet.dts is None else packet.dts - shift
        packet.stream = self.target
        return [packet]

    def flush(self) -> list[Any]:
        """Nothing is held."""
        return []


class AacRoute:
    """Sound decoded and encoded as AAC."""

    def __init__(self, source: Any, output: Any, span: Span) -> None:
        decoder = source.codec_context
        self._source = source
        self._span = span
        self.target = output.add_stream("aac", rate=decoder.sample_rate)
        encoder = self.target.codec_context
        encoder.layout = decoder.layout.name
        encoder.bit_rate = _AAC_BITS_PER_CHANNEL * decoder.layout.nb_channels
        encoder.time_base = Fraction(1, decoder.sample_rate)
        self._resampler = av.AudioResampler(format="fltp", layout=decoder.layout.name, rate=decoder.sample_rate)

    def convert(self, packet: Any) -> list[Any]:
        """Encode what the packet decodes to; a damaged one is left out."""
        try:
            return self._encode(self._source.decode(packet))
        except av.InvalidDataError:
            return []

    def flush(self) -> list[Any]:
        """The last frames of decoder, resampler and encoder."""
        return [*self._encode([*self._source.decode(None), None]), *self.target.encode(None)]

    def _encode(self, frames: list[Any]) -> list[Any]:
        packets = []
        for frame in frames:
            if frame is not None:
                frame.pts -= round(self._span.shift / frame.time_base)
            for resampled in self._resampler.resample(frame):
                packets += self.target.encode(resampled)
        return packets


class TextRoute:
    """Subtitles rewritten as the container's plain kind."""

    def __init__(self, source: Any, output: Any, codec: str, span: Span) -> None:
        self._source = source
        self._codec = codec
        self._span = span
        self.target = subtitles.add_text_stream(output, codec)

    def convert(self, packet: Any) -> list[Any]:
        """One packet of text; none where there are no words."""
        return subtitles.convert(packet, self._source, self.target, self._codec, self._span.shift)

    def flush(self) -> list[Any]:
        """Nothing is held."""
        return []


class _SampleClock:
    """Gives back the samples that a container's milliseconds have rounded away.

    Without it, sound copied from Matroska to MP4 gets a jitter of half a millisecond that some players turn to clicks.
    """

    def __init__(self, rate: int, samples_per_packet: int) -> None:
        self._base = Fraction(1, rate)
        self._samples = samples_per_packet
        self._expected: int | None = None

    def sharpen(self, packet: Any) -> None:
        said = packet.pts * packet.time_base
        if self._expected is None or abs(self._expected * self._base - said) > packet.time_base:
            self._expected = round(said / self._base)
        packet.time_base = self._base
        packet.pts = packet.dts = self._expected
        packet.duration = self._samples
        self._expected += self._samples


def _sample_clock(stream: Any) -> _SampleClock | None:
    if stream.type != "audio" or stream.time_base.denominator >= stream.codec_context.sample_rate:
        return None
    samples = stream.codec_context.frame_size
    return _SampleClock(stream.codec_context.sample_rate, samples) if samples else None
