"""The loops behind `edges` on a CPU, compiled by Numba: rows in parallel, and the samples of a window side by side."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, prange

_ZERO, _HALF, _ONE, _TWO = np.float32(0), np.float32(0.5), np.float32(1), np.float32(2)  # int * float32 is float64
_MATHS = {"contract", "arcp", "nnan", "ninf"}


class Limits(NamedTuple):
    """The constants of `edges`, as float32."""

    step_start: np.float32
    step_full: np.float32
    ramp_slope: np.float32
    steepness: np.float32
    colour_noise: np.float32


class Window(NamedTuple):
    """What the window around every sample holds; (T, h, w) each."""

    low: np.ndarray  # lowest nearness
    high: np.ndarray
    step: np.ndarray  # how surely there is a step


class Grid(NamedTuple):
    """Where the pixels of one side lie among its samples."""

    nearest: np.ndarray  # (pixels,) unsigned: the nearest sample; unsigned, so that no index can count from the end
    other: np.ndarray  # (pixels,) unsigned: the next one on the other side of the pixel
    share: np.ndarray  # (pixels,) float32: of the other, in a linear interpolation
    bell: np.ndarray  # (pixels, side) float32: weights of a window's samples by distance along this side
    begin: np.ndarray  # (samples + 1,) the first pixel that is nearest to each sample, and the number of pixels


@njit(parallel=True, cache=True, nogil=True, error_model="numpy", fastmath=_MATHS)
def neighbourhood(nearness, radius, limits, low, high, step, confidence):
    """Fill four maps (T, h, w), as `edges.neighbourhood` does, from nearness (T, h, w)."""
    frames, height, width = nearness.shape
    bend, slope = np.empty(nearness.shape, np.float32), np.empty((2, *nearness.shape), np.float32)
    for line in prange(frames * height):
        t, y = line // height, line % height
        _bend_row(nearness[t], y, radius // 2, bend[t, y])
        _extremes_across(nearness[t, y], radius, low[t, y], high[t, y])
        _extremes_across(nearness[t, y], 1, slope[0, t, y], slope[1, t, y])
    bend_across, ignored = np.empty_like(bend), np.empty_like(bend)
    low_across, high_across = low.copy(), high.copy()
    for line in prange(frames * height):
        t, y = line // height, line % height
        _extremes_across(bend[t, y], radius, ignored[t, y], bend_across[t, y])
    scale = _ONE / (limits.step_full - limits.step_start)
    for line in prange(frames * height):
        t, y = line // height, line % height
        top, bottom = max(y - radius, 0), min(y + radius, height - 1) + 1
        _maximum_down(bend_across[t, top:bottom], step[t, y])
        _maximum_down(high_across[t, top:bottom], high[t, y])
        _minimum_down(low_across[t, top:bottom], low[t, y])
        top, bottom = max(y - 1, 0), min(y + 1, height - 1) + 1
        least, most = ignored[t, y], confidence[t, y]
        _minimum_down(slope[0, t, top:bottom], least)
        _maximum_down(slope[1, t, top:bottom], most)
        for x in range(width):
            step[t, y, x] = min(max((step[t, y, x] - limits.step_start) * scale, _ZERO), _ONE)
            ratio = (most[x] - least[x]) / (_TWO * limits.ramp_slope)
            most[x] = _ONE / (_ONE + ratio * ratio)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_MATHS)
def _bend_row(nearness, y, reach, bend):
    """Second differences `reach` samples apart along the row and across it: the larger of the two."""
    height, width = nearness.shape
    above, here, below = nearness[max(y - reach, 0)], nearness[y], nearness[min(y + reach, height - 1)]
    for x in range(width):
        double = _TWO * here[x]
        along = here[max(x - reach, 0)] + here[min(x + reach, width - 1)] - double
        bend[x] = max(abs(along), abs(above[x] + below[x] - double))


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_MATHS)
def _extremes_across(row, radius, low, high):
    width = len(row)
    low[:] = row
    high[:] = row
    for k in range(1, min(radius, width - 1) + 1):
        for x in range(width - k):
            low[x] = min(low[x], row[x + k])
            high[x] = max(high[x], row[x + k])
        left_low, left_high = low[k:], high[k:]
        for x in range(width - k):
            left_low[x] = min(left_low[x], row[x])
            left_high[x] = max(left_high[x], row[x])


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_MATHS)
def _maximum_down(rows, result):
    result[:] = rows[0]
    for i in range(1, len(rows)):
        row = rows[i]
        for x in range(len(row)):
            result[x] = max(result[x], row[x])


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_MATHS)
def _minimum_down(rows, result):
    result[:] = rows[0]
    for i in range(1, len(rows)):
        row = rows[i]
        for x in range(len(row)):
            result[x] = min(result[x], row[x])


@njit(parallel=True, cache=True, nogil=True, error_model="numpy", fastmath=_MATHS)
def joint(nearness, window, samples, colours, rows, columns, limits, result):
    """Fill `result` (T, 1, H, W), as `edges.joint_torch` does.

    Args:
        nearness: (T, h, w) samples.
        window: A `Window`.
        samples: (T, 5, h + side - 1, w + side - 1): nearness, confidence and colours of the samples, the border
            repeated.
        colours: (T, 3, H, W) of the pixels.
        rows: A `Grid` of H pixels.
        columns: A `Grid` of W pixels; its weights repeated for every row of the window, (W, side * side).
        limits: `Limits`.
        result: (T, 1, H, W) float32.
    """
    frames, _, height, width = result.shape
    for line in prange(frames * height):
        t, y = line // height, line % height
        centre, blend = rows.nearest[y], rows.share[y]
        between = nearness[t, centre] * (_ONE - blend) + nearness[t, rows.other[y]] * blend
        row = result[t, 0, y]
        for x in range(width):
            here = between[columns.nearest[x]]
            row[x] = here + (between[columns.other[x]] - here) * columns.share[x]
        around = np.empty((5, columns.bell.shape[1]), np.float32)
        for i in range(len(between)):
            step = window.step[t, centre, i]
            if step > 0:
                low, high = window.low[t, centre, i], window.high[t, centre, i]
                _take(samples, t, centre, i, rows.bell, y, around)
                _sharpen(around, colours, t, y, columns, i, low, high, step, limits, row)


# In the two functions below no array is sliced: a slice costs as much as twenty samples.


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_MATHS)
def _take(samples, t, top, left, row_bell, y, around):
    """Copy a window's samples, (5, side * side), the confidence times the weight of the sample's row."""
    side = row_bell.shape[1]
    for i in range(side):
        for part in range(5):
            share = row_bell[y, i] if part == 1 else _ONE
            for j in range(side):
                around[part, i * side + j] = samples[t, part, top + i, left + j] * share


# sums in any order, so that samples are weighed side by side
@njit(cache=True, nogil=True, error_model="numpy", fastmath=_MATHS | {"reassoc"})
def _sharpen(around, colours, t, y, columns, cell, low, high, step, limits, row):
    """Move the pixels nearest to one sample to the mean nearness of the samples that are near and coloured alike."""
    third, least = np.float32(1 / 3), limits.colour_noise * limits.colour_noise
    for x in range(columns.begin[cell], columns.begin[cell + 1]):
        red, green, blue = colours[t, 0, y, x], colours[t, 1, y, x], colours[t, 2, y, x]
        total, total_weight = _ZERO, _ZERO
        for k in range(around.shape[1]):
            red_off, green_off, blue_off = around[2, k] - red, around[3, k] - green, around[4, k] - blue
            squared = (red_off * red_off + green_off * green_off + blue_off * blue_off) * third + least
            weight = columns.bell[x, k] * around[1, k] / (squared * squared)
            total += weight * around[0, k]
            total_weight += weight
        place = (total / total_weight - low) / max(high - low, limits.step_start) - _HALF
        place = min(max(place * limits.steepness + _HALF, _ZERO), _ONE)
        row[x] += step * (low + (high - low) * place - row[x])
