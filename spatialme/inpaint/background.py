"""Fill what no other frame shows from the background's side of the hole, as a function of the frame alone. Numba.

Each row repeats the background's colour at the hole, and the further from it, the wider that is smoothed, down first,
then across: rows do not know of each other, and alone they would comb. Between a near surface and the background the
second pixel counts, for depth never fits a picture to the pixel and the first one is often half the foreground's; at
the frame's edge there is no foreground, and the first one counts. Where both borders are one surface, both sides are
continued and cross-faded. Elsewhere the background's fine detail is laid over that (`texture`).

On 95 real pairs of right views (Middlebury, KITTI, OAK-D; at most 640 px wide, matched by SGBM), in the holes: PSNR
20.7 dB and LPIPS 0.134; without the detail 20.9 and 0.147; OpenCV's Navier-Stokes 20.4 and 0.152, poly 20.4 and 0.154,
the texture itself reflected as far as its surface reaches 20.0 and 0.154 (a narrow surface at the frame's edge should
go on, which reflection cannot give). With foregrounds 2 px too narrow, the inner holes of 19 of them, without the
detail: 20.8 dB, from the first pixel 18.8.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spatialme.flow.runs import BORDER, NO_BORDER, ROW, START, STEP, STOP, hole_runs
from spatialme.inpaint.texture import borrowed_texture, lay_over
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
    same = np.float32(SAME_SURFACE * mask.shape[1])
    texture, textured = borrowed_texture(filled, mask, surface, runs, same)
    distance = _continue_rows(filled, mask, surface, runs, same)
    _smooth(filled, distance, runs, filled)
    smooth = np.empty_like(texture)
    _smooth(texture, textured, runs, smooth)
    lay_over(filled, texture, smooth, textured, runs)
    return torch.from_numpy(_fill_empty_rows(filled, np.all(mask, axis=1)))


def _smooth(image: Floats, distance: NDArray[np.int32], runs: NDArray[np.int32], result: Floats) -> None:
    """Average pixels over those beside them, those that have a distance only, down and then across; writes no others.

    Args:
        image: (3, H, W).
        distance: (H, W) px from the known background, on which the width of the average depends; 0 does not count.
        runs: As `hole_runs` lists them; no pixel outside them counts.
        result: (3, H, W), may be the image.
    """
    between = np.empty_like(image)
    _smooth_down(image, distance, runs, between)
    _smooth_across(between, distance, runs, result)


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
def _smooth_down(image, distance, runs, result):
    """With triangular weights."""
    height = distance.shape[0]
    for n in numba.prange(len(runs)):
        y = runs[n, ROW]
        for x in range(runs[n, START], runs[n, STOP]):
            if distance[y, x] == 0:
                continue
            radius = min(distance[y, x], WIDEST_PX)
            red = green = blue = weights = np.float32(0)
            for i in range(max(y - radius, 0), min(y + radius + 1, height)):
                if distance[i, x] > 0:
                    weight = np.float32(radius + 1 - abs(i - y))
                    red += weight * image[0, i, x]
                    green += weight * image[1, i, x]
                    blue += weight * image[2, i, x]
                    weights += weight
            result[0, y, x], result[1, y, x], result[2, y, x] = red / weights, green / weights, blue / weights


@numba.njit(parallel=True, cache=True, nogil=True)
def _smooth_across(image, distance, runs, result):
    """The same along the row, inside the run, all of which has a distance or nothing has."""
    for n in numba.prange(len(runs)):
        y, start, stop = runs[n, ROW], runs[n, START], runs[n, STOP]
        if distance[y, start] == 0:
            continue
        for x in range(start, stop):
            radius = min(distance[y, x], WIDEST_PX)
            red = green = blue = weights = np.float32(0)
            for j in range(max(x - radius, start), min(x + radius + 1, stop)):
                weight = np.float32(radius + 1 - abs(j - x))
                red += weight * image[0, y, j]
                green += weight * image[1, y, j]
                blue += weight * image[2, y, j]
                weights += weight
            result[0, y, x], result[1, y, x], result[2, y, x] = red / weights, green / weights, blue / weights


def _fill_empty_rows(view: Floats, empty: NDArray[np.bool_]) -> Floats:
    if empty.any() and not empty.all():
        known = np.flatnonzero(~empty)
        nearest = known[np.abs(np.arange(len(empty))[:, None] - known).argmin(1)]
        view = np.ascontiguousarray(view[:, nearest])
    return view
