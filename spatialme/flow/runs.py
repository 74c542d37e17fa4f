"""Runs of hole pixels in a row, and the side on which the background is.

A hole opens where a near surface uncovers a far one, so it belongs to the far one: of the two surfaces that border a
run, the one with the smaller disparity. A run at the frame's edge has one border only. Numba here, PyTorch in
`runs_torch`, the same answers.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

ROW, START, STOP, BORDER, STEP = range(5)  # columns of the table that `hole_runs` gives
NO_BORDER = -1


@numba.njit(cache=True)
def hole_runs(hole: NDArray[np.bool_], disparity: NDArray[np.float32]) -> NDArray[np.int32]:
    """List the runs of a frame, row by row from left to right.

    Args:
        hole: (H, W).
        disparity: (H, W) px, in the same view; read beside holes only.

    Returns:
        (N, 5): row, first column, one past the last, column of the background's border pixel, and the step (-1 or 1)
        that leads from there into the background. A row without any known pixel has border -1 and step 0; where both
        borders are equally far the right one counts, for that is where a right view's holes open.
    """
    height, width = hole.shape
    count = 0
    for y in range(height):
        for x in range(width):
            if hole[y, x] and (x == 0 or not hole[y, x - 1]):
                count += 1
    runs = np.empty((count, 5), dtype=np.int32)
    n = 0
    for y in range(height):
        x = 0
        while x < width:
            if not hole[y, x]:
                x += 1
                continue
            start = x
            while x < width and hole[y, x]:
                x += 1
            border, step = NO_BORDER, 0
            if x < width and (start == 0 or disparity[y, x] <= disparity[y, start - 1]):
                border, step = x, 1
            elif start > 0:
                border, step = start - 1, -1
            runs[n, 0], runs[n, 1], runs[n, 2], runs[n, 3], runs[n, 4] = y, start, x, border, step
            n += 1
    return runs
