"""The encoders that can be asked for: what each can hold, its defaults, and the parameters it is opened with."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

import av

from spatialme.errors import OptionError
from spatialme.video.formats import bit_depth, chroma_shift
from spatialme.video.metadata import H264_PACKING, StereoMode
from spatialme.video.picture import StreamInfo

Container = Literal["mp4", "mov", "matroska"]
CONTAINERS: dict[str, Container] = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
_Quality = Literal["crf", "cq", "none"]

# A number of its own for every machine would change the bytes: x264 and x265 give each frame thread other references.
ENCODER_THREADS = 8
_X265_FRAME_THREADS = 3

_EVEN_420 = ("yuv420p", "yuv420p10le")
_H264_FORMATS = ("yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le")
_HEVC_FORMATS = (*_H264_FORMATS, "yuv420p12le", "yuv422p12le", "yuv444p12le")
_FFV1_FORMATS = (
    *_HEVC_FORMATS,
    *("yuv440p", "yuv411p", "yuv410p", "yuv420p16le", "yuv422p16le", "yuv444p16le", "yuv420p9le", "yuv422p9le"),
    *("yuv444p9le", "gray", "gray16le", "gbrp9le", "gbrp10le", "gbrp12le", "gbrp14le", "bgr0"),
)
_X26X_PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast"),
    *("medium", "slow", "slower", "veryslow", "placebo"),
)
_NVENC_OPTIONS = {"rc": "vbr"}  # the mode in which `cq` counts
_NVENC_PRESETS = ("p1", "p2", "p3", "p4", "p5", "p6", "p7")


@dataclass(frozen=True)
class Encoder:
    """One encoder of FFmpeg and how it is used here."""

    name: str  # FFmpeg's
    pixel_formats: tuple[str, ...]  # that it is given; all of them planar, most wanted first
    containers: tuple[Container, ...] = ("mp4", "mov", "matroska")
    quality: _Quality = "crf"  # the option that `crf` sets
    crf: int | None = None  # default
    crf_range: tuple[int, int] = (0, 51)
    presets: tuple[str, ...] = ()
    preset: str | None = None  # default
    widest: int = 16384
    lossless: bool = False
    keeps_odd_sides: bool = False  # where chroma is subsampled; without subsampling all do
    tag: str | None = None  # sample entry in MP4 and MOV
    options: dict[str, str] = field(default_factory=dict)


ENCODERS: dict[str, Encoder] = {
    # veryfast: the encoder must not be the slowest stage on a small machine; at a given crf it costs size, not quality
    "libx264": Encoder("libx264", _H264_FORMATS, crf=18, presets=_X26X_PRESETS, preset="veryfast"),
    # hvc1: QuickTime and Safari refuse hev1. x265's crf 20 looks about like x264's 18.
    "libx265": Encoder("libx265", _HEVC_FORMATS, crf=20, presets=_X26X_PRESETS, preset="veryfast", tag="hvc1"),
    "libsvtav1": Encoder(
        "libsvtav1",
        _EVEN_420,
        ("mp4", "matroska"),
        crf=28,
        crf_range=(0, 63),
        presets=tuple(str(number) for number in range(14)),
        preset="8",
        widest=16384,
    ),
    "ffv1": Encoder(
        "ffv1",
        _FFV1_FORMATS,
        ("matroska",),
        quality="none",
        lossless=True,
        keeps_odd_sides=True,
        options={"level": "3", "slices": "24", "slicecrc": "1"},
    ),
    "prores_ks": Encoder(
        "prores_ks", ("yuv422p10le", "yuv444p10le"), ("mov", "matroska"), quality="none", options={"vendor": "apl0"}
    ),
    # NVENC's H.264 ends at 4096 samples a side (NVIDIA's video codec SDK, encoder capabilities)
    "h264_nvenc": Encoder(
        "h264_nvenc",
        ("yuv420p", "yuv444p"),
        quality="cq",
        crf=19,
        presets=_NVENC_PRESETS,
        preset="p5",
        widest=4096,
        options=_NVENC_OPTIONS,
    ),
    "hevc_nvenc": Encoder(
        "hevc_nvenc",
        ("yuv420p", "yuv444p", "p010le"),
        quality="cq",
        crf=21,
        presets=_NVENC_PRESETS,
        preset="p5",
        widest=8192,
        tag="hvc1",
        options=_NVENC_OPTIONS,
    ),
    "av1_nvenc": Encoder(
        "av1_nvenc",
        ("yuv420p", "p010le"),
        ("mp4", "matroska"),
        quality="cq",
        crf=26,
        crf_range=(0, 63),
        presets=_NVENC_PRESETS,
        preset="p5",
        widest=8192,
        options=_NVENC_OPTIONS,
    ),
}
ALIASES = {"h264": "libx264", "avc": "libx264", "h265": "libx265", "hevc": "libx265", "av1": "libsvtav1"}
ALIASES |= {"x264": "libx264", "x265": "libx265", "svtav1": "libsvtav1", "prores": "prores_ks"}


@dataclass(frozen=True)
class ImageEncoder:
    """One kind of image file."""

    name: str  # FFmpeg's
    for_rgb: str  # pixel format for sources that are RGB,
    for_yuv: str  # for those that are YUV of 8 bits,
    for_deep: str  # and for deeper ones
    options: dict[str, str] = field(default_factory=dict)


# quantiser 2 of 1..31, in FFmpeg's lambda units
_JPEG = ImageEncoder("mjpeg", "yuv444p", "yuv420p", "yuv444p", {"flags": "+qscale", "global_quality": str(2 * 118)})
IMAGE_ENCODERS: dict[str, ImageEncoder] = {
    ".png": ImageEncoder("png", "rgb24", "rgb24", "rgb48be"),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": ImageEncoder("libwebp", "bgra", "yuv420p", "bgra", {"quality": "95", "preset": "photo"}),
}

# ITU-T H.264 table A-1, level 5.2: macroblocks per frame and per second. Above it few decoders go.
_H264_FRAME_BLOCKS = 36_864
_H264_SECOND_BLOCKS = 2_073_600
_H264_WIDEST = 4096


def find_encoder(name: str) -> Encoder:
    """The encoder of that name or alias.

    Raises:
        OptionError: unknown, or this build of FFmpeg lacks it.
    """
    found = ENCODERS.get(ALIASES.get(name, name))
    if found is None:
        raise OptionError(f"unknown codec {name!r}, expected one of {', '.join([*ALIASES, *ENCODERS])}")
    try:
        av.Codec(found.name, "w")
    except ValueError:
        raise OptionError(f"codec {name} is not in this FFmpeg build; choose h264 or hevc") from None
    return found


def quieten(encoder: str) -> None:
    """Keep SVT-AV1, which does not go through FFmpeg's log, from writing its banner to stderr."""
    if encoder == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "1")  # 1: errors only


def repeatable_options(encoder: str, options: dict[str, str]) -> dict[str, str]:
    """The options with which an encoder gives the same bytes every time on this machine.

    x264's AVX-512 code reads memory that it never set while it weighs macroblocks (mbtree; seen with widths that are no
    multiple of 128, in x264 165 as shipped with PyAV 18): other bytes every time. Its AVX2 code is as fast.

    Args:
        encoder: FFmpeg's name.
        options: That the plan has.
    """
    if encoder != "libx264" or not _has_avx512():
        return options
    parameters = [text for text in (options.get("x264-params"), "asm=avx2") if text]
    return options | {"x264-params": ":".join(parameters)}


@functools.cache
def _has_avx512() -> bool:
    from llvmlite import binding  # comes with Numba

    return bool(binding.get_host_cpu_features().get("avx512f", False))


def fits_h264(width: int, height: int, frame_rate: Fraction) -> bool:
    """Whether H.264 decoders can be expected to play this size and rate (level 5.2, at most 4096 a side)."""
    blocks = -(-width // 16) * -(-height // 16)
    return (
        max(width, height) <= _H264_WIDEST
        and blocks <= _H264_FRAME_BLOCKS
        and blocks * frame_rate <= _H264_SECOND_BLOCKS
    )


def choose_pixel_format(encoder: Encoder, source_format: str, most_bits: int | None = None) -> str:
    """The encoder's format that loses least of the source's depth and chroma, and among those adds least.

    RGB and gray sources count as 4:2:0 for encoders that write for players, which seldom show anything else.
    """
    described = av.VideoFormat(source_format)
    plain = not described.is_rgb and len(described.components) == 3
    if encoder.lossless:
        wanted = {"rgb24": "bgr0", "gbrp": "bgr0", "rgb48le": "gbrp14le"}.get(source_format, source_format)
        if wanted in encoder.pixel_formats:
            return wanted
    bits = min(bit_depth(source_format), most_bits or 16)
    columns, rows = chroma_shift(source_format) if plain else (1, 1)

    def cost(candidate: str) -> tuple[int, ...]:
        its_bits = bit_depth(candidate)
        its_columns, its_rows = chroma_shift(candidate)
        lost = max(0, its_columns - columns) + max(0, its_rows - rows)
        added = max(0, columns - its_columns) + max(0, rows - its_rows)
        over = int(most_bits is not None and its_bits > most_bits)
        return over, max(0, bits - its_bits), lost, max(0, its_bits - bits), added

    matching = [name for name in encoder.pixel_formats if _is_yuv(name) or not plain]
    return min(matching or encoder.pixel_formats, key=cost)


def encoder_options(
    encoder: Encoder, crf: int | None, preset: str | None, info: StreamInfo, stereo: StereoMode | None
) -> dict[str, str]:
    """The options an encoder is opened with.

    Args:
        encoder: Row of `ENCODERS`.
        crf: Quality, None for the default; 0 is lossless for libx264 and libx265.
        preset: Speed, None for the default.
        info: The source, for HDR10's static metadata.
        stereo: The packing, for the frame-packing SEI of H.264.

    Raises:
        OptionError: a value this encoder does not have.
    """
    _check_quality(encoder, crf, preset)
    options = dict(encoder.options)
    chosen = encoder.crf if crf is None else crf
    if encoder.quality != "none":
        options[encoder.quality] = str(chosen)
    if encoder.presets:
        options["preset"] = preset or str(encoder.preset)
    if encoder.name == "libx264":
        if chosen == 0:
            options["qp"] = "0"  # crf 0 is lossless at 8 bits only
            del options["crf"]
        if stereo in H264_PACKING:
            options["x264-params"] = f"frame-packing={H264_PACKING[stereo]}"
    if encoder.name == "libx265":
        options["x265-params"] = _x265_parameters(chosen == 0, info)
    if encoder.name == "libsvtav1":
        options["svtav1-params"] = _svtav1_parameters(info)
    return options


def _x265_parameters(lossless: bool, info: StreamInfo) -> str:
    # info=0: the parameter text in the stream would name this machine's processor
    parameters = ["log-level=error", "info=0", f"frame-threads={_X265_FRAME_THREADS}"]
    if lossless:
        parameters.append("lossless=1")
    if info.mastering_display is not None:
        parameters.append(f"master-display={info.mastering_display.x265_value}")
    if info.content_light is not None:
        parameters.append(f"max-cll={info.content_light.x265_value}")
    if info.mastering_display is not None or info.content_light is not None:
        parameters += ["hdr10=1", "repeat-headers=1"]
    return ":".join(parameters)


def _svtav1_parameters(info: StreamInfo) -> str:
    parameters = ["lp=4"]
    display = info.mastering_display
    if display is not None:
        points = {"G": display.green, "B": display.blue, "R": display.red, "WP": display.white}
        text = "".join(f"{name}({float(x):.5f},{float(y):.5f})" for name, (x, y) in points.items())
        text += f"L({float(display.maximum_nits):.4f},{float(display.minimum_nits):.4f})"
        parameters.append(f"mastering-display={text}")
    if info.content_light is not None:
        parameters.append(f"content-light={info.content_light.x265_value}")
    return ":".join(parameters)


def _check_quality(encoder: Encoder, crf: int | None, preset: str | None) -> None:
    low, high = encoder.crf_range
    if crf is not None and encoder.quality == "none":
        raise OptionError(f"crf {crf} does not apply to {encoder.name}, which has no such setting; leave it out")
    if crf is not None and not low <= crf <= high:
        raise OptionError(f"crf {crf} is outside {low}..{high} of {encoder.name}; smaller is better quality")
    if preset is not None and preset not in encoder.presets:
        expected = f"one of {', '.join(encoder.presets)}" if encoder.presets else "none: leave it out"
        raise OptionError(f"preset {preset!r} is not known to {encoder.name}, expected {expected}")


def _is_yuv(pixel_format: str) -> bool:
    described = av.VideoFormat(pixel_format)
    return not described.is_rgb and len(described.components) == 3
