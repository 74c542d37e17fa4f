"""Text subtitles from one container's codec into another's."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

import av

from spatialme.video.codecs import Container

# what each container takes as it is
CONTAINER_CODECS: dict[Container, frozenset[str]] = {
    "mp4": frozenset({"mov_text"}),
    "mov": frozenset({"mov_text"}),
    "matroska": frozenset({"subrip", "srt", "ass", "ssa", "webvtt", "pgssub", "dvdsub", "dvbsub", "dvb_subtitle"}),
}
TEXT_CODECS = frozenset({"subrip", "srt", "ass", "ssa", "webvtt", "mov_text", "text"})
_STYLE = b"[V4+ Styles]\nFormat: Name, Fontname, Fontsize\nStyle: Default,Arial,16\n"
_ASS_HEADER = b"[Script Info]\nScriptType: v4.00+\n" + _STYLE + b"[Events]\nFormat: Layer, Start, End, Style, Text\n"
_OVERRIDE = re.compile(r"\{[^}]*\}")


def text_codec(container: Container) -> str:
    """The codec that text becomes where the source's is not taken."""
    return "subrip" if container == "matroska" else "mov_text"


def add_text_stream(output: Any, codec: str) -> Any:
    """Add a stream for the packets of `convert`; mov_text's sample entry comes from FFmpeg's own encoder."""
    if codec == "subrip":
        stream = output.add_mux_stream(codec)
    else:
        stream = output.add_stream(codec)
        stream.codec_context.subtitle_header = _ASS_HEADER
        stream.codec_context.time_base = Fraction(1, 1000)
    stream.time_base = Fraction(1, 1000)
    return stream


def convert(packet: Any, source: Any, target: Any, codec: str, shift: Fraction) -> list[Any]:
    """One subtitle packet in the target's codec, in milliseconds, `shift` seconds earlier; none where it has no text.

    Bold and italic are lost.
    """
    text = plain_text(packet, source).encode()
    if not text:
        return []
    converted = av.Packet(text if codec == "subrip" else len(text).to_bytes(2, "big") + text)
    base = Fraction(1, 1000)
    converted.stream = target
    converted.time_base = base
    converted.pts = converted.dts = round((packet.pts * packet.time_base - shift) / base)
    converted.duration = round((packet.duration or 0) * packet.time_base / base)
    converted.is_keyframe = True
    return [converted]


def plain_text(packet: Any, source: Any) -> str:
    """The words of a text subtitle packet, with line breaks and without styles."""
    lines = []
    for event in source.codec_context.decode(packet):
        dialogue = event.ass.decode(errors="replace")
        words = dialogue.split(",", 8)[-1]  # FFmpeg's events: ReadOrder, Layer, Style, Name, 3 margins, Effect, Text
        lines.append(_OVERRIDE.sub("", words).replace("\\N", "\n").replace("\\n", "\n").replace("\\h", " ").strip())
    return "\n".join(line for line in lines if line)
