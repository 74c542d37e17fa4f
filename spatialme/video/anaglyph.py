"""Red-cyan anaglyphs: two eyes in one RGB picture, told apart by coloured glasses (left eye red)."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

Anaglyph = Literal["dubois", "colour", "half_colour", "grey"]

ANAGLYPHS: tuple[Anaglyph, ...] = get_args(Anaglyph)

_LUMA = (0.299, 0.587, 0.114)  # Rec. 601
_NONE = (0.0, 0.0, 0.0)
_RED, _GREEN, _BLUE = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)

# Rows give red, green and blue of the anaglyph from (R, G, B) of the left eye, then of the right eye.
# Dubois: the least-squares projection for common red-cyan glasses and an LCD, E. Dubois, "Conversion of a Stereo Pair
# to Anaglyph with the Least-Squares Projection Method" (2009 matrices). It holds for light, so it is applied to linear
# values; the other three are habits of mixing file values and are applied to those.
_MATRICES: dict[Anaglyph, tuple[tuple[tuple[float, ...], ...], tuple[tuple[float, ...], ...]]] = {
    "dubois": (
        ((0.437, 0.449, 0.164), (-0.062, -0.062, -0.024), (-0.048, -0.050, -0.017)),
        ((-0.011, -0.032, -0.007), (0.377, 0.761, 0.009), (-0.026, -0.093, 1.234)),
    ),
    "colour": ((_RED, _NONE, _NONE), (_NONE, _GREEN, _BLUE)),
    "half_colour": ((_LUMA, _NONE, _NONE), (_NONE, _GREEN, _BLUE)),
    "grey": ((_LUMA, _NONE, _NONE), (_NONE, _LUMA, _LUMA)),
}


def mix(left: np.ndarray, right: np.ndarray, kind: Anaglyph) -> np.ndarray:
    """Mix two eyes.

    Args:
        left: (H, W, 3) gamma-encoded RGB, uint8 or uint16 over their full range.
        right: The same shape and type.
        kind: Which mixture.

    Returns:
        (H, W, 3) of the same type; what leaves the range is clipped.
    """
    whole = np.iinfo(left.dtype).max
    matrix = np.concatenate(_MATRICES[kind], axis=1).astype(np.float32).T  # (6, 3)
    values = np.arange(whole + 1, dtype=np.float32) / np.float32(whole)
    table = _to_linear(values) if kind == "dubois" else values
    # one plain (pixels, 6) x (6, 3) product: NumPy does not hand stacks of small matrices to BLAS
    eyes = table[np.concatenate((left, right), axis=2).reshape(-1, 6)]
    mixed = np.clip(eyes @ matrix, 0, 1)
    if kind == "dubois":
        mixed = _encode(mixed, coarse=left.dtype == np.uint8)
    return np.rint(mixed * np.float32(whole)).astype(left.dtype).reshape(left.shape)


def _encode(light: np.ndarray, *, coarse: bool) -> np.ndarray:
    """Light to file values, by a table of 65536 steps where 8 bits are wanted: a step is 1/20 of theirs at most."""
    if not coarse:
        return _to_gamma(light)
    table = _to_gamma(np.arange(65536, dtype=np.float32) / np.float32(65535))
    return table[np.rint(light * np.float32(65535)).astype(np.uint16)]


def _to_linear(encoded: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1 (sRGB): file value to light, both in [0, 1]."""
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4).astype(np.float32)


def _to_gamma(light: np.ndarray) -> np.ndarray:
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** np.float32(1 / 2.4) - 0.055)
