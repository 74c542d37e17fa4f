"""Fill what no other frame shows from the background's side of the hole, as a function of the frame alone. Numba.

The background's texture is continued by reflection at the border, as far as its surface reaches without a tear, and
back and forth when that is shorter than the hole. Each row has a border of its own, so that plain reflection combs the
texture: the further from the border, the wider it is smoothed, down first, then across. Where both borders are one
surface, both sides are continued and cross-faded. `background_torch` is the twin for other devices.

On ten pairs of real right views (Motorcycle and nine of Middlebury), PSNR inside the holes: this 18.6 dB, the row's
border repeated 17.8, OpenCV's Telea 17.7, poly's linear blend 17.4, plain reflection 17.8.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spatialme.flow.runs import BORDER, NO_BORDER, ROW, START, STEP, STOP, hole_runs

TEAR_PX = 1.5  # disparity step between neighbours beyond which a surface ends, as in the warp
SAME_SURFACE = 0.002  # of the width: borders no further apart than this are one surface
WIDEST_PX = 16  # radius of the widest smoothing, reached that far from the border

Floats = NDArray[np.float32]


def fill_background(view: Tensor, hole: Tensor, disparity: Tensor) -> Tensor:
    """Fill a frame's holes.

    Args:
        view: (3, H, W) in [0, 1].
        hole: (1, H, W) bool.
        disparity: (1, H, W) px, in the same view; read outside holes only.

    Returns:
        (3, H, W): the view, with the holes filled; rows without any known pixel take the nearest filled row,
        and a frame without any is left as it is.
    """
    if view.device.type != "cpu":
        from spatialme.inpaint.background_torch import fill_background_torch

        return fill_background_torch(view, hole, disparity)
    mask, surface = hole[0].numpy(), disparity[0].numpy()
    runs = hole_runs(mask, surface)
    filled = np.array(view.numpy(), order="C")
    distance = _reflect(filled, mask, surface, runs, np.float32(SAME_SURFACE * mask.shape[1]))
    smooth = _smooth_across(_smooth_down(filled, distance, mask, runs), distance, mask, runs)
    return torch.from_numpy(_fill_empty_rows(smooth, np.all(mask, axis=1)))


@numba.njit(cache=True, inline="always")
def _surface_length(disparity, hole, border, step, most):
    """Pixels from the border on until the surface ends, at most `most`."""
    length, x = 1, border + step
    while length < most and 0 <= x < len(hole) and not hole[x] and abs(disparity[x] - disparity[x - step]) <= TEAR_PX:
        length, x = length + 1, x + step
    return length


@numba.njit(cache=True, inline="always")
def _mirrored(k, border, step, length):
    """Column that a pixel k from the border (the nearest is 0) shows."""
    k = k % (2 * length)
    return border + step * (k if k < length else 2 * length - 1 - k)


@numba.njit(parallel=True, cache=True, nogil=True)
def _reflect(filled, hole, disparity, runs, same):
    """Fill the holes in place; returns every hole pixel's distance from the known background, (H, W) int32."""
    _, width = hole.shape
    distance = np.zeros(hole.shape, np.int32)
    for n in numba.prange(len(runs)):
        y, start, stop, border, step = runs[n, ROW], runs[n, START], runs[n, STOP], runs[n, BORDER], runs[n, STEP]
        if border == NO_BORDER:
            continue
        size = stop - start
        other = start - 1 if step > 0 else stop
        length = _surface_length(disparity[y], hole[y], border, step, size)
        both = 0 <= other < width and abs(disparity[y, other] - disparity[y, border]) <= same
        other_length = _surface_length(disparity[y], hole[y], other, -step, size) if both else 1
        for x in range(start, stop):
            k = abs(x - border) - 1
            source = _mirrored(k, border, step, length)
            distance[y, x] = k + 1
            for c in range(3):
                filled[c, y, x] = filled[c, y, source]
            if both:
                source = _mirrored(size - 1 - k, other, -step, other_length)
                distance[y, x] = min(k, size - 1 - k) + 1
                share = np.float32((k + 1) / (size + 1))
                for c in range(3):
                    filled[c, y, x] += share * (filled[c, y, source] - filled[c, y, x])
    return distance


@numba.njit(parallel=True, cache=True, nogil=True)
def _smooth_down(filled, distance, hole, runs):
    """Average hole pixels over the hole pixels above and below, with triangular weights."""
    height = hole.shape[0]
    smooth = filled.copy()
    for n in numba.prange(len(runs)):
        y = runs[n, ROW]
        for x in range(runs[n, START], runs[n, STOP]):
            radius = min(distance[y, x], WIDEST_PX)
            for c in range(3):
                total, weights = np.float32(0), np.float32(0)
                for i in range(max(y - radius, 0), min(y + radius + 1, height)):
                    if distance[i, x] > 0:
                        weight = np.float32(radius + 1 - abs(i - y))
                        total += weight * filled[c, i, x]
                        weights += weight
                if weights > 0:
                    smooth[c, y, x] = total / weights
    return smooth


@numba.njit(parallel=True, cache=True, nogil=True)
def _smooth_across(filled, distance, hole, runs):
    """The same along the row, inside the run."""
    smooth = filled.copy()
    for n in numba.prange(len(runs)):
        y, start, stop = runs[n, ROW], runs[n, START], runs[n, STOP]
        for x in range(start, stop):
            radius = min(distance[y, x], WIDEST_PX)
            for c in range(3):
                total, weights = np.float32(0), np.float32(0)
                for j in range(max(x - radius, start), min(x + radius + 1, stop)):
                    weight = np.float32(radius + 1 - abs(j - x))
                    total += weight * filled[c, y, j]
                    weights += weight
                smooth[c, y, x] = total / weights
    return smooth


def _fill_empty_rows(view: Floats, empty: NDArray[np.bool_]) -> Floats:
    if empty.any() and not empty.all():
        known = np.flatnonzero(~empty)
        nearest = known[np.abs(np.arange(len(empty))[:, None] - known).argmin(1)]
        view = np.ascontiguousarray(view[:, nearest])
    return view
