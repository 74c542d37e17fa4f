"""Refining only around holes: the same numbers as from the whole frame, for less work."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spatialme import memory
from spatialme.refine import Refiner
from spatialme.refine.mhfu import MHFUSize
from spatialme.refine.regions import bands, hole_regions
from spatialme.refine.seam import soften_seams
from tests.test_refine import trained, views, warped_clip

LEVELS = [(4, 6), (4, 6, 8), (4, 4, 6, 8)]
FLOAT32 = 1e-6  # a few roundings of values in [0, 1]; convolutions of another size may sum in another order


def scattered_holes(height, width, seed):
    """Bars as beside foreground objects, and the strip at the frame's right edge."""
    random = np.random.default_rng(seed)
    hole = np.zeros((height, width), bool)
    for _ in range(3):
        top, left = random.integers(0, height - 20), random.integers(0, width - 12)
        hole[top : top + 20, left : left + random.integers(1, 12)] = True
    hole[5:40, -3:] = True
    return hole


@pytest.mark.parametrize("channels", LEVELS)
def test_nothing_beyond_the_reach_matters_and_nothing_less_would_do(channels):
    size = MHFUSize(channels=channels)
    network = trained(size).double()
    side = 4 * (size.reach_px // size.step_px + 1) * size.step_px
    branches = [torch.rand(1, 3, side, side, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    farthest = 0
    for offset in range(size.step_px):  # what a pixel sees depends on where it lies in the coarsest one
        middle = side // 2 + offset
        answer = network(*branches, torch.zeros(1, 1, side, side, dtype=torch.float64)).fused[0, 0, middle, middle]
        (gradient,) = torch.autograd.grad(answer, branches[0])
        columns = torch.nonzero(gradient.abs().amax((0, 1, 2)))[:, 0]
        farthest = max(farthest, middle - int(columns.min()), int(columns.max()) - middle)
    assert size.reach_px - 2 * size.step_px <= farthest <= size.reach_px


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("height", "width"), [(131, 237), (96, 400)])
def test_holes_come_out_as_from_the_whole_frame(height, width, seed):
    branches, _ = views(frames=2, height=height, width=width, seed=seed)
    hole = torch.from_numpy(np.stack([scattered_holes(height, width, seed + k) for k in (0, 10)]))[:, None]
    warped = warped_clip(hole)
    refiner = Refiner(trained(MHFUSize(channels=(4, 6, 8))), trained=True)
    whole = soften_seams(torch.where(hole, refiner(warped, *branches, mode="everywhere"), warped.view), hole)
    torch.testing.assert_close(refiner(warped, *branches), whole, atol=FLOAT32, rtol=0)


def test_a_frame_without_holes_costs_nothing_and_stays_as_it_is():
    branches, hole = views()
    warped = warped_clip(torch.zeros_like(hole))
    refiner = Refiner(trained(), trained=True)
    refiner.network.forward = None  # whoever calls it fails
    assert torch.equal(refiner(warped, *branches), warped.view)


@pytest.mark.parametrize("seed", range(10))
def test_regions_hold_every_hole_with_its_surroundings_and_no_more_than_the_frame(seed):
    hole = scattered_holes(300, 500, seed)
    found = hole_regions(hole, reach_px=22, step_px=4)
    left_over = hole.copy()
    for inner, outer in found:
        left_over[inner.slices] = False
        assert outer.top % 4 == outer.left % 4 == 0
        assert outer.top <= max(0, inner.top - 22)
        assert outer.left <= max(0, inner.left - 22)
        assert outer.bottom >= min(300, inner.bottom + 22)
        assert outer.right >= min(500, inner.right + 22)
    assert not left_over.any()
    assert sum(outer.area for _, outer in found) < 0.6 * hole.size  # a few bars of 20x12 px


def test_holes_everywhere_are_one_region():
    hole = np.zeros((200, 320), bool)
    hole[::9, ::9] = True
    ((_, outer),) = hole_regions(hole, reach_px=58, step_px=8)
    assert outer.slices == (slice(0, 200), slice(0, 320))


@pytest.mark.parametrize("seed", range(2))
def test_bands_come_out_as_the_whole_frame(seed):
    height, width = 131, 90
    branches, hole = views(frames=1, height=height, width=width, seed=seed)
    refiner = Refiner(trained(MHFUSize(channels=(4, 6, 8))), trained=True)
    size = refiner.network.size
    fused = torch.full_like(branches[0], torch.nan)
    cut = bands(height, width, most_pixels=40 * width, reach_px=size.reach_px, step_px=size.step_px)
    assert [inner.top for inner, _ in cut] == [0, 40, 80, 120]
    with torch.inference_mode():
        whole = refiner._fuse_whole(*branches, hole)
        for inner, outer in cut:
            part = refiner._fuse_whole(*(view[..., slice(*_rows(outer)), :] for view in (*branches, hole)))
            fused[..., slice(*_rows(inner)), :] = part[..., inner.within(outer)[0], :]
    torch.testing.assert_close(fused, whole, atol=FLOAT32, rtol=0)


def test_a_gpu_refines_small_frames_whole_and_large_ones_in_bands(monkeypatch):
    seen = []
    refiner = Refiner(trained(MHFUSize(channels=(4, 6, 8))), trained=True, device="meta")
    monkeypatch.setattr(refiner, "_fuse_whole", lambda poly, *_: seen.append(poly.shape[-2]) or poly)
    frame = torch.zeros(1, 3, 2160, 3840, device="meta")
    assert refiner._fuse_bands(frame, frame, frame, frame[:, :1]).shape == frame.shape
    assert len(seen) == 4
    assert max(seen) * 3840 < memory.REFINED_PIXELS
    seen.clear()
    small = torch.zeros(1, 3, 1080, 1920, device="meta")
    refiner._fuse_bands(small, small, small, small[:, :1])
    assert seen == [1080]


def _rows(region):
    return region.top, region.bottom
