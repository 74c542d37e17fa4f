"""RGB arrays from frames of any pixel format, and back, in the right matrix and range.

swscale is not used for this: of FFmpeg 8.1 it scales 10 bit YUV to 16 bit RGB by 256 / 257 (white is 65280), and
shifts full-range chroma by half a level on the way back; tests hold this module to less than 0.1 of 255.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import av
import numpy as np
from av.video.reformatter import ColorRange

from spatialme.video.formats import bit_depth, chroma_shift, delivered_format
from spatialme.video.planes import copy_tags, make_frame, padded_planes, read_planes

# AVColorSpace -> shares of red and blue in luma (ITU-T H.273, table 4)
_LUMA_SHARES = {
    1: (0.2126, 0.0722),  # BT.709
    4: (0.30, 0.11),  # FCC
    5: (0.299, 0.114),  # BT.470 B/G, which is BT.601
    6: (0.299, 0.114),  # SMPTE 170M, which is BT.601
    7: (0.212, 0.087),  # SMPTE 240M
    9: (0.2627, 0.0593),  # BT.2020
    10: (0.2627, 0.0593),  # BT.2020 constant luminance, taken as the other one
}
_HIGH_DEFINITION_LINES = 720


@dataclass(frozen=True)
class Coding:
    """How a pixel format's samples stand for gamma-encoded RGB."""

    red_share: float  # of luma
    blue_share: float
    luma_zero: float
    luma_span: float  # from black to white
    chroma_zero: float
    chroma_span: float  # from the most negative to the most positive colour difference
    maximum: int


def rgb(frame: av.VideoFrame, rows: np.ndarray | None = None) -> np.ndarray:
    """Convert a frame to (H, W, 3) RGB: uint8 for 8 bit formats, else uint16 over the full 0..65535.

    An unspecified matrix is guessed by size (BT.601 if the shorter side is below 720, else BT.709); an unspecified
    range is limited for YUV and full for gray and RGB. Transparency is dropped. Where only some rows are wanted, the
    others may hold anything.
    """
    plain = delivered_format(frame.format.name)
    full = _is_full(frame)
    if plain != frame.format.name:
        frame = frame.reformat(format=plain)
    planes = read_planes(frame)
    maximum = 255 if bit_depth(plain) == 8 else 65535
    coding = coding_of(plain, frame.colorspace, full, min(frame.width, frame.height))
    if plain.startswith("rgb"):
        return planes[0].copy()
    if len(planes) == 1:
        gray = _stretch(planes[0], coding.luma_zero, coding.luma_span, maximum)
        return np.repeat(gray[:, :, None], 3, axis=2)
    if plain.startswith("gbr"):
        green, blue, red = (_stretch(plane, coding.luma_zero, coding.luma_span, maximum) for plane in planes)
        return np.stack([red, green, blue], axis=2)
    from spatialme.video.colour_kernels import yuv_to_rgb

    result = np.empty((frame.height, frame.width, 3), np.uint8 if maximum == 255 else np.uint16)
    luma, chroma_u, chroma_v = padded_planes(frame)
    shift_x, shift_y = chroma_shift(plain)
    table = _decoding_table(coding, maximum)
    wanted = np.arange(frame.height) if rows is None else rows
    yuv_to_rgb(luma, chroma_u, chroma_v, shift_x, shift_y, table, np.float32(maximum), wanted, result)
    return result


@dataclass(frozen=True)
class YuvPlanes:
    """A frame's planes as `colour_kernels.yuv_to_rgb` and its twin take them."""

    luma: np.ndarray  # (H, W) uint8 or uint16, not copied
    chroma_u: np.ndarray  # (h, w)
    chroma_v: np.ndarray
    shift: tuple[int, int]  # log2 of how many luma columns and rows share a chroma sample
    table: np.ndarray  # (7,) float32
    maximum: int  # of the RGB that `rgb` makes of it: 255 or 65535


def yuv_planes(frame: av.VideoFrame) -> YuvPlanes | None:
    """The planes of a frame that the reader delivered as planar YUV; None for other formats."""
    name = frame.format.name
    if not name.startswith("yuv") or delivered_format(name) != name:
        return None
    maximum = 255 if bit_depth(name) == 8 else 65535
    luma, chroma_u, chroma_v = read_planes(frame)
    table = _decoding_table(_coding_like(frame), maximum)
    return YuvPlanes(luma, chroma_u, chroma_v, chroma_shift(name), table, maximum)


@dataclass(frozen=True)
class YuvEncoding:
    """How RGB becomes planes, as `colour_kernels.rgb_to_yuv` and its twin take it."""

    shift: tuple[int, int]  # log2 of how many luma columns and rows share a chroma sample
    table: np.ndarray  # (8,) float32
    maximum: int  # of a sample of the planes
    source_maximum: int  # of RGB: 255 or 65535

    @property
    def dtype(self) -> np.dtype:
        """Of the planes."""
        return np.dtype(np.uint8 if self.maximum <= 255 else np.uint16)


def yuv_encoding(coding: Coding, shift: tuple[int, int], source_maximum: int) -> YuvEncoding:
    """The way from RGB with values up to `source_maximum` to a coding whose chroma is subsampled by `shift`."""
    return YuvEncoding(shift, _encoding_table(coding, source_maximum), coding.maximum, source_maximum)


def encoding_like(like: av.VideoFrame, dtype: np.dtype | type) -> YuvEncoding:
    """The way from RGB arrays of this type to the planes of `like`, which is YUV or gray; see `from_rgb`."""
    return yuv_encoding(_coding_like(like), chroma_shift(like.format.name), int(np.iinfo(dtype).max))


def from_rgb(array: np.ndarray, like: av.VideoFrame) -> av.VideoFrame:
    """Convert RGB to the pixel format, matrix and range of `like`; the inverse of `rgb`.

    Args:
        array: (H, W, 3) uint8, or uint16 over the full 0..65535; its size need not be that of `like`.
        like: Frame in a format that `delivered_format` names; gives time and colour tags too.
    """
    height, width = array.shape[:2]
    pixel_format = like.format.name
    if pixel_format.startswith(("rgb", "gbr")):
        channels = _stretch(array, 0, int(np.iinfo(array.dtype).max), _coding_like(like).maximum)
        planes = [channels] if pixel_format.startswith("rgb") else [channels[:, :, index] for index in (1, 2, 0)]
        return make_frame(planes, pixel_format, like=like)
    from spatialme.video.colour_kernels import rgb_to_yuv

    frame = av.VideoFrame(width, height, pixel_format)
    luma, *chroma = padded_planes(frame)
    chroma_u, chroma_v = chroma or (np.empty_like(luma), np.empty_like(luma))  # for gray, worked out and thrown away
    way, source = encoding_like(like, array.dtype), np.ascontiguousarray(array)
    rgb_to_yuv(source, *way.shift, way.table, np.float32(way.maximum), luma, chroma_u, chroma_v)
    copy_tags(like, frame)
    return frame


@lru_cache(maxsize=32)
def coding_of(pixel_format: str, colorspace: int, full: bool, short_side: int) -> Coding:
    """Work out the coding of a format; `colorspace` is FFmpeg's AVColorSpace."""
    guess = _LUMA_SHARES[6 if short_side < _HIGH_DEFINITION_LINES else 1]
    red_share, blue_share = _LUMA_SHARES.get(colorspace, guess)
    bits = max(component.bits for component in av.VideoFormat(pixel_format).components)
    unit, maximum = 1 << (bits - 8), (1 << bits) - 1
    if full:
        return Coding(red_share, blue_share, 0, maximum, 128 * unit, maximum, maximum)
    return Coding(red_share, blue_share, 16 * unit, 219 * unit, 128 * unit, 224 * unit, maximum)


def _coding_like(frame: av.VideoFrame) -> Coding:
    return coding_of(frame.format.name, frame.colorspace, _is_full(frame), min(frame.width, frame.height))


def _is_full(frame: av.VideoFrame) -> bool:
    name = frame.format.name
    if frame.color_range == ColorRange.UNSPECIFIED:
        return name.startswith(("gray", "ya8", "ya16", "mono")) or frame.format.is_rgb
    return frame.color_range == ColorRange.JPEG or name.startswith("yuvj") or frame.format.is_rgb


def _stretch(samples: np.ndarray, zero: float, span: float, maximum: int) -> np.ndarray:
    """Map zero..zero + span to 0..maximum, rounded."""
    dtype = np.uint8 if maximum <= 255 else np.uint16
    if (zero, span) == (0, maximum) and samples.dtype == dtype:
        return samples
    levels = (samples.astype(np.float32) - np.float32(zero)) * np.float32(maximum / span)
    return np.clip(np.rint(levels), 0, maximum).astype(dtype)


def _decoding_table(coding: Coding, maximum: int) -> np.ndarray:
    green_share = 1 - coding.red_share - coding.blue_share
    gain = maximum / coding.chroma_span
    red_v, blue_u = 2 * (1 - coding.red_share) * gain, 2 * (1 - coding.blue_share) * gain
    green_u, green_v = -blue_u * coding.blue_share / green_share, -red_v * coding.red_share / green_share
    luma_gain = maximum / coding.luma_span
    return np.array([coding.luma_zero, coding.chroma_zero, luma_gain, red_v, green_u, green_v, blue_u], np.float32)


def _encoding_table(coding: Coding, source_maximum: int) -> np.ndarray:
    green_share = 1 - coding.red_share - coding.blue_share
    luma_gain, chroma_gain = coding.luma_span / source_maximum, coding.chroma_span / source_maximum
    shares = [luma_gain * share for share in (coding.red_share, green_share, coding.blue_share)]
    u_gain, v_gain = chroma_gain / (2 * (1 - coding.blue_share)), chroma_gain / (2 * (1 - coding.red_share))
    return np.array([coding.luma_zero, coding.chroma_zero, *shares, u_gain, v_gain, 1 / luma_gain], np.float32)
