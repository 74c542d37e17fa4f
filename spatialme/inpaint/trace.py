"""Follow the background behind every hole pixel through neighbouring frames, until one of them shows it. Numba.

A point of a hole has a position and a range of disparities that its background may have. Each step moves it along the
flow of the synthesised eye by one frame; there it is

- *found*, when the pixel is known, has such a disparity, does not come from elsewhere (its own flow leads back; a point
  just uncovered has none to trust), and nothing nearer and no hole lies within `CLEARANCE_PX` (colours beside a hole
  are often the foreground's: depth never fits a picture to the pixel);
- *lost*, when the flow is not to be trusted, it left the frame, or another surface hides it;
- else still in a hole, and goes on.

`trace_torch` is the twin for other devices: the same functions, the same answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numba
import numpy as np
import torch
from torch import Tensor

from spatialme.flow.consistency import ABSOLUTE_PX2, RELATIVE
from spatialme.flow.runs import BORDER, NO_BORDER, ROW, START, STEP, STOP, hole_runs
from spatialme.levels import code, step_px

CLEARANCE_PX = 2  # covers the 4 x 4 support of the cubic kernel
SURFACE_REACH = 0.01  # of the width: how far into the background its disparities are gathered
TOLERANCE = 0.002  # of the width: how far a background's disparity may lie outside the gathered ones
FOREGROUND_SHARE = 0.5  # of the step between the two borders may be added to that: estimated depth varies from frame to
# frame, and what lies nearer than half-way is foreground
CUBIC = -0.5  # Keys' kernel, as in the warp


class Points(NamedTuple):
    """The hole pixels of a frame, row by row; each (N,)."""

    row: Tensor  # int64
    column: Tensor  # int64
    lowest: Tensor  # float32 px: range of the background's disparity
    highest: Tensor
    surface: Tensor  # float32 px: the background's disparity at its border


class Step(NamedTuple):
    """One frame further: the flow that leads there, and what is there."""

    flow: Tensor  # (2, h, w), of the frame before the step
    trusted: Tensor  # (1, h, w) bool
    way_back: Tensor  # (2, h, w): the flow from after the step to before it
    way_back_trusted: Tensor  # (1, h, w) bool
    view: Tensor  # (3, H, W), after the step; float, or levels (`spatialme.levels`)
    hole: Tensor  # (1, H, W) bool
    disparity: Tensor  # (1, H, W) px; float, or steps


class Found(NamedTuple):
    """What a walk brought home."""

    steps: Tensor  # (N,) int64: frames away, 0 where nothing was found
    colour: Tensor  # (N, 3) float32


def background_points(disparity: Tensor, hole: Tensor) -> Points:
    """List a frame's hole pixels with the disparities that their background may have; both (1, H, W).

    A row without any known pixel has an empty range: its points are never found.
    """
    surface, mask = disparity[0].numpy(), hole[0].numpy()
    return Points(*(torch.from_numpy(each) for each in _points(surface, mask, hole_runs(mask, surface))))


def walk(points: Points, steps: Sequence[Step]) -> Found:
    """Follow the points step by step; later steps see only those that are still on their way."""
    x, y = points.column.numpy() + 0.5, points.row.numpy() + 0.5
    lowest, highest = points.lowest.numpy(), points.highest.numpy()
    found = np.zeros(len(x), np.int64)
    colour = np.zeros((len(x), 3), np.float32)
    for number, step in enumerate(steps, 1):
        flow, back, view = step.flow.numpy(), step.way_back.numpy(), step.view.numpy()
        trusted, back_trusted, hole = step.trusted[0].numpy(), step.way_back_trusted[0].numpy(), step.hole[0].numpy()
        maps = trusted, back_trusted, hole, step.disparity[0].numpy()
        codes = *code(step.view), np.float32(step_px(step.disparity))
        _advance(x, y, lowest, highest, flow, back, view, maps, codes, number, found, colour)
    return Found(torch.from_numpy(np.maximum(found, 0)), torch.from_numpy(colour))


@numba.njit(cache=True)
def _points(disparity, hole, runs):
    _, width = disparity.shape
    reach = max(int(SURFACE_REACH * width), 1)
    tolerance = np.float32(max(TOLERANCE * width, 0.5))
    count = 0
    for n in range(len(runs)):
        count += runs[n, STOP] - runs[n, START]
    rows, columns = np.empty(count, np.int64), np.empty(count, np.int64)
    lowest, highest = np.empty(count, np.float32), np.empty(count, np.float32)
    surface = np.zeros(count, np.float32)
    i = 0
    for n in range(len(runs)):
        y, border, step = runs[n, ROW], runs[n, BORDER], runs[n, STEP]
        low, high = np.float32(np.inf), np.float32(-np.inf)
        if border != NO_BORDER:
            low, high = _surface_range(disparity[y], hole[y], border, step, reach)
            margin = tolerance
            other = runs[n, START] - 1 if step > 0 else runs[n, STOP]
            if 0 <= other < width:
                margin = max(margin, np.float32(FOREGROUND_SHARE) * (disparity[y, other] - disparity[y, border]))
            low, high = low - margin, high + margin
        for x in range(runs[n, START], runs[n, STOP]):
            rows[i], columns[i], lowest[i], highest[i] = y, x, low, high
            if border != NO_BORDER:
                surface[i] = disparity[y, border]
            i += 1
    return rows, columns, lowest, highest, surface


@numba.njit(cache=True, inline="always")
def _surface_range(disparity, hole, border, step, reach):
    """Smallest disparity near the border, and the border's own: depth ramps up to a foreground, never down."""
    low = disparity[border]
    for k in range(1, reach):
        x = border + k * step
        if x < 0 or x >= len(hole) or hole[x]:
            break
        low = min(low, disparity[x])
    return low, disparity[border]


@numba.njit(parallel=True, cache=True, nogil=True)
def _advance(x, y, lowest, highest, flow, back, view, maps, codes, number, found, colour):
    """Move every point that is on its way (found = 0) by one frame; found becomes its number, or -1 when lost."""
    trusted, back_trusted, hole, disparity = maps
    zero, scale, unit = codes
    height, width = hole.shape
    _, grid_height, grid_width = flow.shape
    scale_x, scale_y = width / grid_width, height / grid_height
    for n in numba.prange(len(x)):
        if found[n] != 0:
            continue
        i = min(int(y[n] / scale_y), grid_height - 1)
        j = min(int(x[n] / scale_x), grid_width - 1)
        if not trusted[i, j]:
            found[n] = -1
            continue
        u, v = _flow_at(flow, x[n] / scale_x, y[n] / scale_y)
        x[n] += u * scale_x
        y[n] += v * scale_y
        if not (0 <= x[n] < width and 0 <= y[n] < height):
            found[n] = -1
            continue
        row, column = int(y[n]), int(x[n])
        if hole[row, column]:
            continue
        i = min(int(y[n] / scale_y), grid_height - 1)
        j = min(int(x[n] / scale_x), grid_width - 1)
        back_u, back_v = _flow_at(back, x[n] / scale_x, y[n] / scale_y)
        returns = not back_trusted[i, j] or _cancels(u, v, back_u, back_v)
        if not returns or unit * disparity[row, column] < lowest[n] or unit * disparity[row, column] > highest[n]:
            found[n] = -1
        elif _is_clear(disparity, unit, hole, row, column, highest[n]):
            found[n] = number
            _cubic(view, zero, scale, x[n], y[n], colour[n])


@numba.njit(cache=True)
def _is_clear(disparity, unit, hole, row, column, highest):
    """Whether within `CLEARANCE_PX` there is no hole, and nothing of a disparity above the highest."""
    height, width = hole.shape
    for y in range(max(row - CLEARANCE_PX, 0), min(row + CLEARANCE_PX + 1, height)):
        for x in range(max(column - CLEARANCE_PX, 0), min(column + CLEARANCE_PX + 1, width)):
            if hole[y, x] or unit * disparity[y, x] > highest:
                return False
    return True


@numba.njit(cache=True, inline="always")
def _cancels(u, v, back_u, back_v):
    lengths = u * u + v * v + back_u * back_u + back_v * back_v
    return (u + back_u) ** 2 + (v + back_v) ** 2 < RELATIVE * lengths + ABSOLUTE_PX2


@numba.njit(cache=True, inline="always")
def _flow_at(flow, x, y):
    """Bilinear look-up, the border repeated."""
    _, height, width = flow.shape
    x = min(max(x - 0.5, 0.0), width - 1.0)
    y = min(max(y - 0.5, 0.0), height - 1.0)
    left, top = int(x), int(y)
    right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
    across, down = x - left, y - top
    upper_u = flow[0, top, left] * (1 - across) + flow[0, top, right] * across
    lower_u = flow[0, bottom, left] * (1 - across) + flow[0, bottom, right] * across
    upper_v = flow[1, top, left] * (1 - across) + flow[1, top, right] * across
    lower_v = flow[1, bottom, left] * (1 - across) + flow[1, bottom, right] * across
    return upper_u * (1 - down) + lower_u * down, upper_v * (1 - down) + lower_v * down


@numba.njit(cache=True, inline="always")
def _cubic_weight(distance):
    if distance <= 1:
        return ((CUBIC + 2) * distance - (CUBIC + 3)) * distance * distance + 1
    if distance < 2:
        return ((CUBIC * distance - 5 * CUBIC) * distance + 8 * CUBIC) * distance - 4 * CUBIC
    return 0.0


@numba.njit(cache=True)
def _cubic(view, zero, scale, x, y, colour):
    """Keys' cubic convolution at a position, the border repeated, clamped to [0, 1]; written into colour (3,)."""
    _, height, width = view.shape
    left, top = int(np.floor(x - 0.5)), int(np.floor(y - 0.5))
    for channel in range(3):
        total = 0.0
        for i in range(top - 1, top + 3):
            across = 0.0
            for j in range(left - 1, left + 3):
                value = view[channel, min(max(i, 0), height - 1), min(max(j, 0), width - 1)]
                across += (value + zero) * _cubic_weight(abs(x - 0.5 - j))
            total += across * _cubic_weight(abs(y - 0.5 - i))
        colour[channel] = min(max(total * scale, 0.0), 1.0)
