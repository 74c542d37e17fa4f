"""Triton's kernels, run by Triton's interpreter on a CPU, against their twins: python -m tests.triton_cases

Prints one JSON object: for every case, whether the kernel gave the twin's very bits. A process of its own, as Triton
learns from the environment, before it is first imported, that it is to interpret.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable

os.environ["TRITON_INTERPRET"] = "1"

import torch
from torch import Tensor

from spatialme.depth import edges
from spatialme.depth.median_triton import median
from spatialme.inpaint import background_triton, polyline_torch, polyline_triton, trace, trace_triton
from spatialme.inpaint.background_torch import smooth
from spatialme.inpaint.polyline import PLATEAU_HALF_WIDTH_PX, rasterise_polylines
from spatialme.levels import to_levels, to_steps
from spatialme.warp.scanline import forward_warp_numba
from spatialme.warp.splat import forward_warp_torch
from spatialme.warp.splat_triton import forward_warp_triton

RANDOM = torch.Generator().manual_seed(4)
WIDTH = 40


def noise(*shape: int) -> Tensor:
    return torch.rand(shape, generator=RANDOM)


def rows(frames: int = 1) -> Tensor:
    """Disparity that stretches, squeezes, folds, tears, ties and leaves the frame, a row of each: (T, 1, 6, W)."""
    shape = (frames, WIDTH)
    wander = torch.randn(shape, generator=RANDOM).cumsum(-1)
    steps = noise(frames, WIDTH // 5).repeat_interleave(5, -1)
    kinds = [
        4 * torch.randn(shape, generator=RANDOM),
        0.4 * torch.randn(shape, generator=RANDOM),
        (wander * 8).round() / 8,  # centres meet the ends of pieces exactly, and surfaces tie
        torch.randint(-6, 6, shape, generator=RANDOM) / 2,
        60 * torch.randn(shape, generator=RANDOM),
        12 * steps - 6,
    ]
    return torch.stack(kinds, 1)[:, None]


def same(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> bool:
    assert len(first) == len(second)
    return all(one.dtype == other.dtype and torch.equal(one, other) for one, other in zip(first, second))


def warp_equals_numba_and_torch() -> bool:
    disparity = rows().view(2, 1, 3, WIDTH)
    frames = noise(2, 3, 3, WIDTH)
    found = forward_warp_triton(frames, disparity)
    assert found.hole.any()
    return same(found, forward_warp_numba(frames, disparity)) and same(found, forward_warp_torch(frames, disparity))


def warp_drops_what_is_not_finite() -> bool:
    disparity = torch.zeros(1, 1, 1, 16)
    disparity[..., 5], disparity[..., 9] = torch.nan, torch.inf
    found = forward_warp_triton(noise(1, 3, 1, 16), disparity)
    return found.hole.flatten().nonzero().flatten().tolist() == [5, 9]


def polylines_equal_numba_and_torch(*, soft: bool, samples: int) -> bool:
    disparity, frames = rows()[:, :, [0, 2, 5]], noise(1, 3, 3, WIDTH)
    wanted = rasterise_polylines(frames, disparity, soft=soft, samples=samples)
    assert wanted[1].any()
    half_width = 0.0 if soft else PLATEAU_HALF_WIDTH_PX
    answers = (
        back_end.sample_polylines(frames, disparity[:, 0], half_width, samples)
        for back_end in (polyline_torch, polyline_triton)
    )
    return all(same(answer, wanted) for answer in answers)


def polylines_in_parts() -> bool:
    disparity, frames = rows(frames=3)[:, :, 5:], noise(3, 3, 1, WIDTH)
    polyline_triton.KEYS_AT_ONCE = 2 * WIDTH * 4  # two frames together, then one
    found = polyline_triton.sample_polylines(frames, disparity[:, 0], PLATEAU_HALF_WIDTH_PX, 4)
    return same(found, rasterise_polylines(frames, disparity))


def median_equals_torch() -> bool:
    values = (noise(2, 1, 3, 11) * 20).round() / 20  # with ties
    edges.MEDIAN_SIDE = 3  # interpreted, 5 takes seven times as long
    return same((median(values, edges.MEDIAN_SIDE),), (edges.median_torch(values),))


def smoothing_equals_torch() -> bool:
    image, distance = noise(3, 11, 24), torch.zeros(1, 11, 24, dtype=torch.int64)
    hole = torch.zeros(1, 11, 24, dtype=torch.bool)
    hole[:, 2:10, 5:14] = hole[:, 6:8, 18:] = True
    distance[hole] = torch.randint(0, 20, (int(hole.sum()),), generator=RANDOM)
    runs = torch.where(hole, torch.where(torch.arange(24) < 16, 5, 18), -1)
    for axis in (1, 2):
        counts = (distance > 0) if axis == 1 else hole
        wanted = smooth(image, distance, counts, runs, axis=axis)
        assert not torch.equal(wanted, image)
        if not same((background_triton.smooth(image, distance, counts, runs, axis=axis),), (wanted,)):
            return False
    return True


def walk_equals_numba(*, levels: bool) -> bool:
    height, width, count = 9, 40, 5
    disparity = (noise(count, 1, height, width) * 0.4).contiguous()
    hole = torch.zeros(count, 1, height, width, dtype=torch.bool)
    for t in range(count):
        hole[t, :, :, 16 + t : 24 + t] = True
    steps = []
    for t in range(1, count):
        flow = torch.tensor([-1.3, 0.2])[:, None, None] + 0.8 * noise(2, 5, 16)  # of 2.5 px
        trusted = noise(2, 1, 5, 16) < 0.95
        view = to_levels(noise(3, height, width)) if levels else noise(3, height, width)
        back = -flow.flip(0) * 0.2 - 0.8 * flow + 0.3 * noise(2, 5, 16)
        seen = to_steps(disparity[t]) if levels else disparity[t]
        steps.append(trace.Step(flow, trusted[0], back, trusted[1], view, hole[t], seen))
    points = trace.background_points(disparity[0], hole[0])
    surface, (found,) = trace_triton.walk(disparity[0], hole[0], [steps])
    wanted = trace.walk(points, steps)
    assert {0, 1, 2} <= set(wanted.steps.tolist())
    where = points.row, points.column
    assert not (found.steps * ~hole[0, 0]).any()
    assert torch.equal(surface[0][where], points.surface)
    return torch.equal(found.steps[where], wanted.steps.int()) and torch.equal(
        found.colour[:, points.row, points.column].T, wanted.colour
    )


CASES: dict[str, Callable[[], bool]] = {
    "warp": warp_equals_numba_and_torch,
    "warp, not finite": warp_drops_what_is_not_finite,
    "polylines": lambda: polylines_equal_numba_and_torch(soft=False, samples=4),
    "polylines, soft, 3 samples": lambda: polylines_equal_numba_and_torch(soft=True, samples=3),
    "polylines, in parts": polylines_in_parts,
    "median": median_equals_torch,
    "smoothing": smoothing_equals_torch,
    "walk": lambda: walk_equals_numba(levels=False),
    "walk, levels": lambda: walk_equals_numba(levels=True),
}


if __name__ == "__main__":
    warnings.filterwarnings("ignore", "divide by zero|invalid value", RuntimeWarning)  # lanes that are masked out
    chosen = sys.argv[1:] or list(CASES)
    print(json.dumps({name: CASES[name]() for name in chosen}))
