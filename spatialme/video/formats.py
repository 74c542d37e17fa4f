"""Pixel formats: their bit depth, and the planar form, free of alpha, in which the reader delivers them."""

from __future__ import annotations

from functools import lru_cache

import av

# log2 of (chroma columns, chroma rows) per luma sample -> the digits of FFmpeg's name
_CHROMA_NAMES = {(0, 0): "444", (1, 0): "422", (1, 1): "420", (0, 1): "440", (2, 0): "411", (2, 2): "410"}
_PROBE_SIDE = 64  # any size that every subsampling divides


@lru_cache(maxsize=64)
def bit_depth(pixel_format: str) -> int:
    """Bits of the finest component, rounded up to 8, 10, 12 or 16."""
    bits = _bits(pixel_format)
    return next((depth for depth in (8, 10, 12) if bits <= depth), 16)


@lru_cache(maxsize=64)
def has_alpha(pixel_format: str) -> bool:
    """Whether the format carries transparency (a palette may)."""
    described = av.VideoFormat(pixel_format)
    return described.has_palette or any(component.is_alpha for component in described.components)


@lru_cache(maxsize=64)
def delivered_format(pixel_format: str) -> str:
    """The format that carries the same samples in planes of whole bytes, little endian, without alpha.

    Planar YUV and gray stay as they are; ``yuvj`` loses its j (the range tag says it); packed or semi-planar YUV
    becomes planar; palettes and packed RGB become ``rgb24`` or ``rgb48le``; planar RGB stays planar.
    """
    described = av.VideoFormat(pixel_format)
    bits = _bits(pixel_format)
    packed = len({component.plane for component in described.components}) <= 1
    if described.has_palette or pixel_format.startswith(("bayer", "xyz")) or (described.is_rgb and packed):
        return "rgb24" if bits <= 8 else "rgb48le"
    if described.is_rgb:
        return _deep_name("gbrp", bits)
    if pixel_format.startswith(("gray", "ya", "mono", "yaf")):
        return _deep_name("gray", bits)
    return _deep_name(f"yuv{_CHROMA_NAMES[chroma_shift(pixel_format)]}p", bits)


@lru_cache(maxsize=64)
def chroma_shift(pixel_format: str) -> tuple[int, int]:
    """log2 of how many luma columns and rows share one chroma sample; (0, 0) where there is no chroma."""
    if av.VideoFormat(pixel_format).is_rgb:
        return 0, 0
    sized = av.VideoFormat(pixel_format, _PROBE_SIDE, _PROBE_SIDE)
    columns = min(component.width for component in sized.components)
    rows = min(component.height for component in sized.components)
    return (_PROBE_SIDE // columns).bit_length() - 1, (_PROBE_SIDE // rows).bit_length() - 1


def _bits(pixel_format: str) -> int:
    described = av.VideoFormat(pixel_format)
    return 8 if described.has_palette else max(component.bits for component in described.components)


def _deep_name(stem: str, bits: int) -> str:
    """The name of `stem` at `bits`, or at the next depth that FFmpeg has; 8 bits have no suffix."""
    if bits <= 8:
        return stem
    for depth in range(bits, 17):
        name = f"{stem}{depth}le"
        try:
            av.VideoFormat(name)
        except ValueError:
            continue
        return name
    return f"{stem}16le"
