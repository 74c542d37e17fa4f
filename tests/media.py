"""Odd clips made on the fly with PyAV: every frame carries its own number in its pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition

from spatialme.video.planes import make_frame, plane_layouts, read_planes

BITS = 10  # frame numbers up to 1023
LOSSLESS = {"libx264": {"qp": "0", "preset": "ultrafast"}, "libx265": {"preset": "ultrafast"}}


@dataclass(frozen=True)
class Tags:
    """Colour tags as FFmpeg numbers; the defaults are all unspecified."""

    color_range: int = 0
    colorspace: int = 2
    color_primaries: int = 2
    color_trc: int = 2


BT709 = Tags(color_range=1, colorspace=1, color_primaries=1, color_trc=1)
HDR10 = Tags(color_range=1, colorspace=9, color_primaries=9, color_trc=16)
HDR10_X265 = {
    "preset": "ultrafast",
    "x265-params": "lossless=1:log-level=none:hdr10=1:repeat-headers=1:max-cll=1000,400:"
    "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)",
}


@dataclass(frozen=True)
class Sound:
    """One audio track: a sine wave."""

    hertz: int = 440
    codec: str = "aac"
    language: str | None = None
    title: str | None = None
    start_seconds: float = 0.0
    seconds: float = 0.4


@dataclass(frozen=True)
class Subtitle:
    """One text track with one line."""

    text: str = "hello"
    codec: str = "subrip"
    language: str | None = None
    start_seconds: float = 0.1
    seconds: float = 0.2


def numbered_planes(number: int, width: int, height: int, pixel_format: str) -> list[np.ndarray]:
    """Planes in which the top quarter of the first one spells `number` in black and white blocks.

    The rest is a gradient that moves with `number`; samples stay inside the limited range.
    """
    bits = max(component.bits for component in av.VideoFormat(pixel_format).components)
    scale = 1 << (bits - 8)
    planes = []
    for index, layout in enumerate(plane_layouts(pixel_format, width, height)):
        x = np.arange(layout.width)[None, :, None]
        y = np.arange(layout.height)[:, None, None]
        channel = np.arange(layout.channels)[None, None, :]
        samples = 40 + (3 * number + 2 * x + y + 37 * (index + channel)) % 160
        if index == 0:
            block = layout.width // BITS
            for bit in range(BITS):
                value = 220 if number >> bit & 1 else 20
                samples[: layout.height // 4, bit * block : (bit + 1) * block] = value
        samples = (samples * scale).astype(layout.dtype)
        planes.append(samples if layout.channels > 1 else samples[:, :, 0])
    return planes


def numbered_frame(number: int, *, width: int = 64, height: int = 48, pixel_format: str = "yuv420p") -> av.VideoFrame:
    """One frame of `numbered_planes`."""
    return make_frame(numbered_planes(number, width, height, pixel_format), pixel_format)


def read_number(picture: av.VideoFrame | np.ndarray) -> int:
    """Read back the number of a `numbered_frame`, from the frame (upright, whole) or any array of it."""
    plane = read_planes(picture)[0] if isinstance(picture, av.VideoFrame) else picture
    plane = plane.astype(np.float64)
    plane = plane.mean(axis=2) if plane.ndim == 3 else plane
    height, width = plane.shape
    block = width // BITS
    middle = plane[height // 16 : height // 4 - height // 16]
    levels = [middle[:, bit * block + block // 4 : (bit + 1) * block - block // 4].mean() for bit in range(BITS)]
    threshold = (plane.max() + plane.min()) / 2
    return sum(1 << bit for bit, level in enumerate(levels) if level > threshold)


def write_video(
    path: Path,
    *,
    frames: int = 10,
    width: int = 64,
    height: int = 48,
    rate: Fraction | int = 25,
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    gop: int | None = None,
    tags: Tags | None = None,
    rotation_degrees: int = 0,
    mirrored: bool = False,
    sample_aspect: Fraction | None = None,
    sounds: Sequence[Sound] = (),
    subtitles: Sequence[Subtitle] = (),
    chapters: Sequence[tuple[float, float, str]] = (),
    attachment: tuple[str, str, bytes] | None = None,
    cover: bool = False,
    metadata: dict[str, str] | None = None,
    pictures: Sequence[av.VideoFrame] | None = None,
) -> Path:
    """Write a clip of numbered frames with everything asked for; the container follows the suffix.

    Args:
        path: Where to; its suffix chooses the muxer.
        pts: One per frame in `time_base`; default 0, 1, 2 ... in 1/rate.
        options: Encoder options; default lossless where the codec can.
        chapters: (start seconds, end seconds, title) each.
        attachment: (name, mime type, bytes), Matroska only.
        cover: Add a 32x32 still picture marked as cover art.
        pictures: Frames to write instead of numbered ones.
    """
    made = (
        list(pictures)
        if pictures is not None
        else [numbered_frame(number, width=width, height=height, pixel_format=pixel_format) for number in range(frames)]
    )
    base = time_base or 1 / Fraction(rate)
    stamps = list(pts) if pts is not None else list(range(len(made)))
    with av.open(str(path), "w", container_options=container_options or {}) as output:
        output.metadata.update(metadata or {})
        video = _add_video(output, codec, Fraction(rate), made[0], options, base)
        _dress(video, tags, rotation_degrees, mirrored, sample_aspect, gop)
        tracks = [_add_sound(output, sound) for sound in sounds]
        lines = [_add_subtitle(output, subtitle) for subtitle in subtitles]
        still = _add_cover(output) if cover else []
        if attachment is not None:
            output.add_attachment(*attachment)
        if chapters:
            output.set_chapters([_chapter(number, *chapter) for number, chapter in enumerate(chapters)])
        output.mux(still)
        packets = list(_encode(video, made, stamps, base, tags))
        for track, sound in zip(tracks, sounds):
            packets += list(_sine(track, sound))
        for line, subtitle in zip(lines, subtitles):
            packets.append(_subtitle_packet(line, subtitle))
        for packet in sorted(packets, key=_decode_seconds):
            output.mux(packet)
    return path


def without_packets(path: Path, source: Path, dropped: Sequence[int]) -> Path:
    """Copy the video of `source` without the packets at the given places in decoding order."""
    with av.open(str(source)) as original, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(original.streams.video[0])
        packets = [packet for packet in original.demux(video=0) if packet.size]
        for number, packet in enumerate(packets):
            if number not in dropped:
                packet.stream = stream
                output.mux(packet)
    return path


def damage(path: Path, numbers: Sequence[int]) -> Path:
    """Overwrite, in place, the payload of the video packets at the given places in decoding order."""
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    for number in numbers:
        start, size = places[number]
        assert start is not None
        content[start : start + size] = b"\xff" * size
    path.write_bytes(content)
    return path


def cut_short(path: Path, kept: float) -> Path:
    """Keep only the given share of a file, in place."""
    content = path.read_bytes()
    path.write_bytes(content[: round(len(content) * kept)])
    return path


def interlaced_frame(number: int, *, width: int = 64, height: int = 48) -> av.VideoFrame:
    """Two fields of two moments woven together: a bar that is 8 columns apart in the top and the bottom field."""
    luma = np.full((height, width), 40, np.uint8)
    for field in (0, 1):
        left = (16 * number + 8 * field) % (width - 8)
        luma[field::2, left : left + 8] = 200
    chroma = np.full((height // 2, width // 2), 128, np.uint8)
    return make_frame([luma, chroma, chroma], "yuv420p")


INTERLACED_X264 = {"preset": "ultrafast", "qp": "0", "flags": "+ilme+ildct"}
OPEN_GOP_X264 = {
    "preset": "ultrafast",
    "qp": "0",
    "x264-params": "open-gop=1:bframes=2:b-adapt=0:keyint=6:min-keyint=1",
}


def image_bytes(frame: av.VideoFrame, codec: str) -> bytes:
    """One frame as the bytes of an image file: "png", "mjpeg", "tiff", "bmp" ..."""
    encoder = av.CodecContext.create(codec, "w")
    encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, frame.format.name
    encoder.time_base = Fraction(1)
    frame.pts, frame.time_base = 0, Fraction(1)
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])


def decode_all(path: Path) -> list[av.VideoFrame]:
    """All frames of the first video stream, straight from PyAV: an independent reader for tests."""
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def _add_video(output: Any, codec: str, rate: Fraction, first: av.VideoFrame, options: Any, base: Fraction) -> Any:
    stream = output.add_stream(codec, rate=rate, options=dict(LOSSLESS.get(codec, {}) if options is None else options))
    stream.width, stream.height, stream.pix_fmt = first.width, first.height, first.format.name
    stream.codec_context.time_base = base
    stream.time_base = base
    return stream


def _dress(
    stream: Any, tags: Tags | None, rotation: int, mirrored: bool, aspect: Fraction | None, gop: int | None
) -> None:
    context = stream.codec_context
    if tags is not None:
        context.color_range, context.colorspace = tags.color_range, tags.colorspace
        context.color_primaries, context.color_trc = tags.color_primaries, tags.color_trc
    if rotation or mirrored:
        if not hasattr(stream, "set_display_rotation"):
            pytest.skip("PyAV writes display matrices from 18 on")
        stream.set_display_rotation(rotation, hflip=mirrored)
    if aspect is not None:
        context.sample_aspect_ratio = aspect
    if gop is not None:
        context.gop_size = gop


def _encode(
    stream: Any, frames: Sequence[av.VideoFrame], pts: Sequence[int], base: Fraction, tags: Any
) -> Iterator[Any]:
    for frame, stamp in zip(frames, pts):
        frame.pts, frame.time_base = stamp, base
        if tags is not None:
            frame.color_range, frame.colorspace = tags.color_range, tags.colorspace
            frame.color_primaries, frame.color_trc = tags.color_primaries, tags.color_trc
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _add_sound(output: Any, sound: Sound) -> Any:
    stream = output.add_stream(sound.codec, rate=48000)
    if sound.language:
        stream.metadata["language"] = sound.language
    if sound.title:
        stream.metadata["title"] = sound.title
    return stream


def _sine(stream: Any, sound: Sound) -> Iterator[Any]:
    count = round(48000 * sound.seconds)
    time = np.arange(count) / 48000
    wave = (0.3 * np.sin(2 * np.pi * sound.hertz * time)).astype(np.float32)
    resampler = av.AudioResampler(format=stream.codec_context.format, layout="stereo", rate=48000)
    source = av.AudioFrame.from_ndarray(np.stack([wave, wave]), format="fltp", layout="stereo")
    source.sample_rate = 48000
    source.time_base = Fraction(1, 48000)
    source.pts = round(48000 * sound.start_seconds)
    for frame in [*resampler.resample(source), *resampler.resample(None)]:
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _add_subtitle(output: Any, subtitle: Subtitle) -> Any:
    stream = output.add_mux_stream(subtitle.codec)
    stream.time_base = Fraction(1, 1000)
    if subtitle.language:
        stream.metadata["language"] = subtitle.language
    return stream


def _subtitle_packet(stream: Any, subtitle: Subtitle) -> Any:
    text = subtitle.text.encode()
    packet = av.Packet(len(text).to_bytes(2, "big") + text if subtitle.codec == "mov_text" else text)
    packet.stream = stream
    packet.time_base = Fraction(1, 1000)
    packet.pts = packet.dts = round(1000 * subtitle.start_seconds)
    packet.duration = round(1000 * subtitle.seconds)
    packet.is_keyframe = True
    return packet


def _add_cover(output: Any) -> Any:
    """Cover art as each container keeps it: Matroska as an attachment, MP4 as a stream; gives the packets to mux."""
    frame = numbered_frame(0, width=32, height=32, pixel_format="rgb24")
    frame.pts, frame.time_base = 0, Fraction(1)
    if output.format.name == "matroska":
        output.add_attachment("cover.png", "image/png", image_bytes(frame, "png"))
        return []
    stream = output.add_stream("png", rate=1)
    stream.width, stream.height, stream.pix_fmt = 32, 32, "rgb24"
    stream.disposition = Disposition.attached_pic.value
    return [*stream.encode(frame), *stream.encode(None)]


def _chapter(number: int, start: float, end: float, title: str) -> Any:
    base = Fraction(1, 1000)
    return {
        "id": number,
        "start": round(start * 1000),
        "end": round(end * 1000),
        "time_base": base,
        "metadata": {"title": title},
    }


def _decode_seconds(packet: Any) -> float:
    stamp = packet.dts if packet.dts is not None else packet.pts
    return float(stamp * packet.time_base)
