"""The loops behind `outlines` on a CPU, compiled by Numba, and the constants of both twins."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

REACH = 3  # columns after the grown surface whose colours are looked at; all but the last may be added
RAMP = 3  # columns within which a step falls
STEP = np.float32(0.1)  # of nearness, at least, within them
BEGIN = np.float32(0.016)  # of nearness to the next column, at least, where the step begins
GAP, SAMPLES = 2, 4  # a near side's colour is the mean of so many columns, from so many inside its grown end on
SHARE = np.float32(0.2)  # of the near side's colour, beyond which a column is its
CONTRAST = np.float32(3 * 0.06**2)  # squared difference of the sides' colours, over three channels, at least
BEFORE, BEYOND = GAP + SAMPLES - 1, REACH + SAMPLES  # columns that must be there on the near and on the far side
_HALF, _PART = np.float32(0.5), np.float32(1 / SAMPLES)


@njit(parallel=True, cache=True, nogil=True)
def extend(nearness, colours, result):
    """Fill `result` (T, 1, H, W), as `outlines.extend_torch` does, from (T, 1, H, W) and (T, 3, H, W)."""
    frames, _, height, width = nearness.shape
    for line in prange(frames * height):
        t, y = line // height, line % height
        grown = np.empty(width, np.float32)
        _grow(nearness[t, 0, y], grown)
        result[t, 0, y] = grown
        for x in range(width - 1):
            fall = grown[x] - grown[x + 1]
            if abs(fall) < BEGIN:
                continue
            column, side = (x, 1) if fall > 0 else (x + 1, -1)
            for k in range(1, _added(grown, colours, t, y, column, side) + 1):
                reached = column + side * k
                result[t, 0, y, reached] = max(result[t, 0, y, reached], grown[column])


@njit(cache=True, nogil=True)
def _grow(row, grown):
    grown[:] = row
    for x in range(len(row) - 1):
        grown[x] = max(grown[x], row[x + 1])
        grown[x + 1] = max(grown[x + 1], row[x])


@njit(cache=True, nogil=True)
def _added(row, colours, t, y, column, side):
    """By how many columns the surface that ends with `column` goes on towards `side` (1 or -1)."""
    first, last = column - side * BEFORE, column + side * BEYOND
    if min(first, last) < 0 or max(first, last) >= len(row) or not _ends_surface(row, column, side):
        return 0
    own = np.zeros(REACH, np.float32)
    contrast = np.float32(0)
    for channel in range(3):
        inside, outside = np.float32(0), np.float32(0)
        for k in range(SAMPLES):
            inside += colours[t, channel, y, column - side * (GAP + k)]
            outside += colours[t, channel, y, column + side * (REACH + 1 + k)]
        inside, outside = inside * _PART, outside * _PART
        axis = inside - outside
        contrast += axis * axis
        for k in range(REACH):
            own[k] += (colours[t, channel, y, column + side * (k + 1)] - outside) * axis
    if contrast < CONTRAST:
        return 0
    for k in range(REACH):
        if own[k] <= SHARE * contrast:
            return k
    return 0


@njit(cache=True, nogil=True)
def _ends_surface(row, column, side):
    here, far = row[column], row[column + side * RAMP]
    if row[column - side] - here >= BEGIN or here - far < STEP:
        return False
    middle = (here + far) * _HALF
    for k in range(SAMPLES):
        if row[column - side * (GAP + k)] < middle or row[column + side * (REACH + 1 + k)] > middle:
            return False
    return True
