"""Which parts of a frame the network has to see when only the holes are wanted.

Most of a frame lies farther from any hole than the network can see. Each group of holes gets a rectangle of its own,
wide enough that its holes come out as they would from the whole frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

BAND_PIXELS = 1920 * 1080  # of the parts in which a GPU refines a larger frame
CELL_PX = 16  # holes in cells of this side that touch are one group


@dataclass(frozen=True)
class Region:
    """A rectangle of a frame."""

    top: int
    bottom: int  # the first row below
    left: int
    right: int  # the first column beside

    @property
    def area(self) -> int:
        """In pixels."""
        return (self.bottom - self.top) * (self.right - self.left)

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def within(self, outer: Region) -> tuple[slice, slice]:
        """Rows and columns of this region in a cut-out of `outer`."""
        rows = slice(self.top - outer.top, self.bottom - outer.top)
        return rows, slice(self.left - outer.left, self.right - outer.left)

    def joined(self, other: Region) -> Region:
        """The smallest rectangle around both."""
        return Region(
            min(self.top, other.top),
            max(self.bottom, other.bottom),
            min(self.left, other.left),
            max(self.right, other.right),
        )

    def grown(self, reach_px: int, step_px: int, height: int, width: int) -> Region:
        """Widened by what the network sees, to its coarsest pixels, and not beyond the frame."""
        return Region(
            max(0, (self.top - reach_px) // step_px * step_px),
            min(height, -(-(self.bottom + reach_px) // step_px) * step_px),
            max(0, (self.left - reach_px) // step_px * step_px),
            min(width, -(-(self.right + reach_px) // step_px) * step_px),
        )


def hole_regions(hole: NDArray[np.bool_], *, reach_px: int, step_px: int) -> list[tuple[Region, Region]]:
    """Cover a frame's holes.

    Args:
        hole: (H, W).
        reach_px: How far the network sees.
        step_px: Its coarsest pixel; regions that are cut out begin at multiples of it.

    Returns:
        Pairs of a rectangle around holes and the larger one that is to be cut out for it. Together the latter have at
        most as many pixels as the frame, else there is one pair, which is the frame.
    """
    height, width = hole.shape
    groups = [(group, group.grown(reach_px, step_px, height, width)) for group in _groups(hole)]
    merged = True
    while merged:
        merged = False
        for later in range(len(groups) - 1, 0, -1):
            for earlier in range(later):
                whole = groups[later][0].joined(groups[earlier][0])
                grown = whole.grown(reach_px, step_px, height, width)
                if grown.area <= groups[later][1].area + groups[earlier][1].area:
                    groups[earlier] = whole, grown
                    del groups[later]
                    merged = True
                    break
    frame = Region(0, height, 0, width)
    return groups if sum(grown.area for _, grown in groups) <= frame.area else [(frame, frame)]


def bands(height: int, width: int, *, most_pixels: int, reach_px: int, step_px: int) -> list[tuple[Region, Region]]:
    """Cut a frame into bands of whole rows.

    Args:
        height: Of the frame.
        width: Of the frame.
        most_pixels: Of a band, unless its rows are so long that `step_px` of them have more.
        reach_px: How far the network sees.
        step_px: Its coarsest pixel.

    Returns:
        Pairs as of `hole_regions`; a single one where the frame is small enough.
    """
    if height * width <= most_pixels:
        return [(Region(0, height, 0, width),) * 2]
    rows = max(1, most_pixels // width // step_px) * step_px
    inner = [Region(top, min(top + rows, height), 0, width) for top in range(0, height, rows)]
    return [(band, band.grown(reach_px, step_px, height, width)) for band in inner]


def _groups(hole: NDArray[np.bool_]) -> list[Region]:
    """Tight rectangles around holes whose cells touch."""
    height, width = hole.shape
    padded = np.pad(hole, ((0, -height % CELL_PX), (0, -width % CELL_PX)))
    blocks = padded.reshape(padded.shape[0] // CELL_PX, CELL_PX, -1, CELL_PX)
    cells = np.asarray(blocks.any((1, 3)), dtype=np.uint8)
    count, _, found, _ = cv2.connectedComponentsWithStats(cells, connectivity=8)
    boxes = CELL_PX * found[1:count, : cv2.CC_STAT_HEIGHT + 1]
    return [_tight(hole, *(int(value) for value in box)) for box in boxes]


def _tight(hole: NDArray[np.bool_], left: int, top: int, width: int, height: int) -> Region:
    inside = hole[top : top + height, left : left + width]
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    return Region(top + int(rows[0]), top + int(rows[-1]) + 1, left + int(columns[0]), left + int(columns[-1]) + 1)
