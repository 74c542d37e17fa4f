"""The background's texture for the holes beside it, as a detail that is laid over a smooth fill. Numba.

A smooth fill alone shows as streaks. Of the surface beside a hole a piece as wide as the hole is taken, and of that
only what differs from its own smoothed self (smoothed like the fill): the fill keeps its colours, and strong edges,
which would be ghosts, hardly come through. Beside the frame the surface is reflected, so that lines meet; between two
surfaces it is shifted, for there the border is ragged and a reflection would double that. A surface that is narrower
than the hole lends nothing: it may well end inside the hole.

`background_torch` has the twin for other devices.
"""

from __future__ import annotations

import numba
import numpy as np

from spatialme.flow.runs import BORDER, NO_BORDER, ROW, START, STEP, STOP
from spatialme.warp.surface import TEAR_PX

# A detail d is shown as d / (1 + |d| / LIMIT). In the holes of 24 of the stills that `background` names: no detail
# 21.08 dB and LPIPS 0.146, limit 0.07 21.01 and 0.136, 0.1 20.96 and 0.135; by eye 0.1 shows ferns, 0.03 still streaks.
# Not limited, and shifted at the frame's edge too: 20.07 dB and 0.139.
LIMIT = 0.1


@numba.njit(parallel=True, cache=True, nogil=True)
def borrowed_texture(view, hole, disparity, runs, same):
    """Copy the background into the holes.

    Args:
        view: (3, H, W) float32.
        hole: (H, W) bool.
        disparity: (H, W) float32 px, read outside holes only.
        runs: As `hole_runs` lists them.
        same: Borders no further apart than this, in px, are one surface; such a hole gets nothing.

    Returns:
        The colours, (3, H, W) float32, and every such pixel's distance from the known background, (H, W) int32; 0 where
        the hole gets nothing.
    """
    width = hole.shape[1]
    texture, distance = np.zeros_like(view), np.zeros(hole.shape, np.int32)
    for n in numba.prange(len(runs)):
        y, start, stop, border, step = runs[n, ROW], runs[n, START], runs[n, STOP], runs[n, BORDER], runs[n, STEP]
        if border == NO_BORDER:
            continue
        other = start - 1 if step > 0 else stop
        between = 0 <= other < width
        if between and abs(disparity[y, other] - disparity[y, border]) <= same:
            continue
        if not _reaches(hole[y], disparity[y], border, step, stop - start):
            continue
        for x in range(start, stop):
            distance[y, x] = abs(x - border)
            source = x + step * (stop - start + 1) if between else 2 * border - x
            for c in range(3):
                texture[c, y, x] = view[c, y, source]
    return texture, distance


@numba.njit(cache=True, inline="always")
def _reaches(hole, disparity, border, step, length):
    """Whether the border's surface goes on for `length` pixels beyond it."""
    if not 0 <= border + step * length < len(hole):
        return False
    for k in range(1, length + 1):
        x = border + step * k
        if hole[x] or abs(disparity[x] - disparity[x - step]) > TEAR_PX:
            return False
    return True


@numba.njit(parallel=True, cache=True, nogil=True)
def lay_over(fill, texture, smooth, distance, runs):
    """Add the texture's detail to the fill, in place, where there is a distance."""
    for n in numba.prange(len(runs)):
        y = runs[n, ROW]
        for x in range(runs[n, START], runs[n, STOP]):
            if distance[y, x] == 0:
                continue
            for c in range(3):
                detail = texture[c, y, x] - smooth[c, y, x]
                detail /= np.float32(1) + abs(detail) / np.float32(LIMIT)
                fill[c, y, x] = min(max(fill[c, y, x] + detail, np.float32(0)), np.float32(1))
