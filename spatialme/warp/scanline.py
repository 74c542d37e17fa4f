"""The forward warp on the CPU: one row at a time, rows in parallel (Numba)."""

from __future__ import annotations

import math

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from spatialme.warp.sampling import PHASES, TAPS, TAPS_BEFORE, kernel_table
from spatialme.warp.surface import CHIP_PX, TEAR_PX, ForwardWarp, NotFiniteError, check_shapes

# Typed, so that Numba stays in float32 as `splat` does. Constants are compiled in, and Numba's cache looks at this file
# only: after changing one in `surface` or `sampling`, touch this file.
_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_TEAR, _PHASES = np.float32(TEAR_PX), np.float32(PHASES)


def forward_warp_numba(frames: Tensor, disparity: Tensor) -> ForwardWarp:
    """Warp left frames to the right view; the contract is in `spatialme.warp.surface`.

    Args:
        frames: (T, 3, H, W) float in [0, 1], on the CPU.
        disparity: (T, 1, H, W) signed px.

    Raises:
        ValueError: Shapes that do not fit, or a disparity that is not finite.
    """
    check_shapes(frames, disparity)
    source = np.ascontiguousarray(frames.float().numpy())
    shifts = np.ascontiguousarray(disparity.float().numpy())
    view = np.empty_like(source)
    seen = np.empty_like(shifts)
    hole = np.empty(shifts.shape, dtype=np.bool_)
    finite = np.empty((len(frames), frames.shape[2]), dtype=np.bool_)
    _warp_rows(source, shifts, kernel_table(), view, seen, hole, finite)
    if not finite.all():
        raise NotFiniteError
    return ForwardWarp(torch.from_numpy(view).to(frames.dtype), torch.from_numpy(seen), torch.from_numpy(hole))


@njit(parallel=True, cache=True, nogil=True)
def _warp_rows(source, shifts, kernel, view, seen, hole, finite):
    frames, height, width = shifts.shape[0], shifts.shape[2], shifts.shape[3]
    for row in prange(frames * height):
        t, y = row // height, row % height
        finite[t, y] = _is_finite(shifts[t, 0, y])
        if not finite[t, y]:
            continue
        first = np.empty(width, dtype=np.int32)
        last = np.empty(width, dtype=np.int32)
        winner = np.full(width, -1, dtype=np.int32)  # source column whose piece is seen, -1 for a hole
        offset = np.empty(width, dtype=np.float32)  # of the sample from the winner's centre, in source px
        start = np.empty(width, dtype=np.int32)  # source column of the first tap
        phase = np.empty(width, dtype=np.int32)  # row of the kernel's table
        torn = np.empty(width, dtype=np.bool_)  # some tap lies beyond a tear
        _find_runs(shifts[t, 0, y], first, last)
        _rasterise(shifts[t, 0, y], first, last, seen[t, 0, y], winner, offset)
        _place_taps(winner, offset, first, last, start, phase, torn, hole[t, 0, y])
        for channel in range(3):
            _read_row(source[t, channel, y], winner, start, phase, torn, first, last, kernel, view[t, channel, y])


@njit(cache=True)
def _is_finite(shift):
    found = False
    for i in range(len(shift)):  # without leaving early, so that it is done eight at a time
        found |= not (abs(shift[i]) < np.inf)
    return not found


@njit(cache=True)
def _find_runs(shift, first, last):
    """First and last column of the untorn stretch that each column belongs to."""
    width = len(shift)
    first[0], last[width - 1] = 0, width - 1
    for i in range(1, width):
        first[i] = i if abs(shift[i] - shift[i - 1]) > _TEAR else first[i - 1]
    for i in range(width - 2, -1, -1):
        last[i] = i if first[i + 1] == i + 1 else last[i + 1]


@njit(cache=True)
def _rasterise(shift, first, last, seen, winner, offset):
    """Test every piece at the pixel centres it covers: pixel k's centre lies k - i + shift[i] right of vertex i."""
    width = len(shift)
    cell = np.zeros(width + 1, dtype=np.int32)  # the first pixel whose centre is not left of vertex i
    for i in range(width):
        seen[i] = _ZERO
        cell[i] = np.int32(i) - np.int32(np.floor(shift[i]))  # 32 bits: eight at a time
    for i in range(width):
        if abs(shift[i]) >= 2 * width:  # lands far outside, and float32 no longer counts its columns exactly
            continue
        if last[i] - first[i] < CHIP_PX and _is_chip(shift, first[i], last[i]):
            continue
        rise, end = _ZERO, cell[i + 1]
        if last[i] == i:  # torn after i: a flat half pixel
            end = i - math.floor(shift[i] - _HALF)
        else:
            rise = shift[i + 1] - shift[i]
        if first[i] == i:  # torn before i: another
            k = i - math.floor(shift[i] + _HALF)
            if k < cell[i] and 0 <= k < width and (winner[k] < 0 or shift[i] > seen[k]):
                seen[k], winner[k], offset[k] = shift[i], i, np.float32(k - i) + shift[i]
        for k in range(max(cell[i], 0), min(end, width)):
            along = (np.float32(k - i) + shift[i]) / (_ONE - rise)
            disparity = shift[i] + along * rise
            if winner[k] < 0 or disparity > seen[k]:
                seen[k], winner[k], offset[k] = disparity, i, along


@njit(cache=True)
def _is_chip(shift, first, last):
    if first == 0 or last == len(shift) - 1:
        return False
    return shift[first - 1] > shift[first] and shift[last] > shift[last + 1]


@njit(cache=True)
def _place_taps(winner, offset, first, last, start, phase, torn, hole):
    for x in range(len(winner)):
        column, position = winner[x], offset[x]
        hole[x] = column < 0
        if column < 0:
            continue
        start[x] = column - TAPS_BEFORE
        if position < 0:
            start[x] -= 1
            position += _ONE
        phase[x] = int(position * _PHASES + _HALF)
        torn[x] = start[x] < first[column] or start[x] + TAPS > last[column] + 1


@njit(cache=True)
def _read_row(row, winner, start, phase, torn, first, last, kernel, view):
    beside_tear = np.empty(TAPS, dtype=np.float32)
    for x in range(len(winner)):
        column = winner[x]
        if column < 0:
            view[x] = _ZERO
        elif not torn[x]:
            view[x] = _weigh(row, start[x], kernel, phase[x])
        else:
            for tap in range(TAPS):  # columns beyond the tear repeat the last one before it
                beside_tear[tap] = row[min(max(start[x] + tap, first[column]), last[column])]
            view[x] = _weigh(beside_tear, 0, kernel, phase[x])


@njit(cache=True, inline="always")
def _weigh(row, start, kernel, phase):
    near = row[start + 2] * kernel[phase, 2] + row[start + 3] * kernel[phase, 3]
    middle = row[start + 1] * kernel[phase, 1] + row[start + 4] * kernel[phase, 4]
    far = row[start] * kernel[phase, 0] + row[start + 5] * kernel[phase, 5]
    return min(max((near + middle) + far, _ZERO), _ONE)
