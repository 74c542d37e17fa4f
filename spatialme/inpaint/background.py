"""Fill what no other frame shows from the background's side of the hole, as a function of the frame alone. Numba.

Each row repeats the background's colour at the hole, and the further from it, the wider that is smoothed, down first,
then across: rows do not know of each other, and alone they would comb. Between a near surface and the background the
second pixel counts, for depth never fits a picture to the pixel and the first one is often half the foreground's; at
the frame's edge there is no foreground, and the first one counts. Where both borders are one surface, both sides are
continued and cross-faded.

On 95 real pairs of right views (Middlebury, KITTI, OAK-D; at most 640 px wide, matched by SGBM), in the holes: PSNR
20.9 dB and LPIPS 0.147; OpenCV's Navier-Stokes 20.4 and 0.152, poly 20.4 and 0.154, the texture reflected as far as its
surface reaches 20.0 and 0.154 (a narrow surface at the frame's edge should go on, which reflection cannot give). With
foregrounds 2 px too narrow, the inner holes of 19 of them: 20.8 dB, from the first pixel 18.8.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spatialme.flow.runs import BORDER, NO_BORDER, ROW, START, STEP, STOP, hole_runs
from spatialme.warp.surface import TEAR_PX

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
    distance = _continue_rows(filled, mask, surface, runs, np.float32(SAME_SURFACE * mask.shape[1]))
    smooth = _smooth_across(_smooth_down(filled, distance, mask, runs), distance, mask, runs)
    return torch.from_numpy(_fill_empty_rows(smooth, np.all(mask, axis=1)))


@numba.njit(parallel=True, cache=True, nogil=True)
def _continue_rows(filled, hole, disparity, runs, same):
    """Fill the holes in place; returns every hole pixel's distance from the known background, (H, W) int32."""
    _, width = hole.shape
    distance = np.zeros(hole.shape, np.int32)
    for n in numba.prange(len(runs)):
        y, start, stop, border, step = runs[n, ROW], runs[n, START], runs[n, STOP], runs[n, BORDER], runs[n, STEP]
        if border == NO_BORDER:
            continue
        other = start - 1 if step > 0 else stop
        inside = 0 <= other < width
        both = inside and abs(disparity[y, other] - disparity[y, border]) <= same
        source, beyond = border, border + step
        if inside and not both and 0 <= beyond < width and not hole[y, beyond]:
            source = beyond if abs(disparity[y, beyond] - disparity[y, border]) <= TEAR_PX else border
        for x in range(start, stop):
            k = abs(x - border)
            distance[y, x] = min(k, stop - start + 1 - k) if both else k
            share = np.float32(k / (stop - start + 1)) if both else np.float32(0)
            for c in range(3):
                filled[c, y, x] = filled[c, y, source]
                if both:
                    filled[c, y, x] += share * (filled[c, y, other] - filled[c, y, source])
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
