"""Sizes of flow grids."""

from __future__ import annotations


def bounded_size(height: int, width: int, *, long_side: int, multiple: int = 1) -> tuple[int, int]:
    """Shrink a size, keeping its shape, until the long side fits; never enlarges.

    Args:
        height: Of the frame, px.
        width: Of the frame, px.
        long_side: Upper bound of the longer side, px.
        multiple: Round both sides to the nearest multiple of this, at least one.
    """
    scale = min(1.0, long_side / max(height, width))

    def shrunk(side: int) -> int:
        return max(1, round(side * scale / multiple)) * multiple

    return shrunk(height), shrunk(width)
