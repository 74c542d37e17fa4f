"""Soft seams, against SciPy and the plain PyTorch version."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from spatialme.refine import Refiner, compose
from spatialme.refine.seam import REACH_PX, SIDE_PX, TAPS, soften_seams, soften_seams_torch
from tests.test_refine import views, warped_clip

FLOAT32 = 1e-6  # sums of 25 products of numbers up to 1, in another order


@pytest.fixture(scope="module")
def scene():
    """Two frames of noise with holes of any size, also at every edge of the frame."""
    random = np.random.default_rng(0)
    view = torch.from_numpy(random.random((2, 3, 40, 56), dtype=np.float32))
    field = ndimage.gaussian_filter(random.normal(size=(2, 40, 56)), (0, 3, 3))
    hole = torch.from_numpy(field > 0)[:, None]
    hole[0, 0, :, 44:] = True
    hole[1, 0, 10:30, 10:40] = True
    assert hole[..., 0].any()
    assert hole[..., 0, :].any()
    assert hole[..., -1, :].any()
    return view, hole


def test_near_a_seam_the_filling_is_a_binomial_smoothing_by_the_share_of_known_pixels(scene):
    view, hole = scene
    smooth = ndimage.correlate1d(ndimage.correlate1d(view.numpy(), TAPS, 2, mode="nearest"), TAPS, 3, mode="nearest")
    known = ndimage.uniform_filter((~hole).numpy().astype(float), (0, 0, SIDE_PX, SIDE_PX), mode="constant")
    weight = np.where(hole.numpy(), np.minimum(1, 2 * known), 0)
    expected = view.numpy() + weight * (smooth - view.numpy())
    for soften in (soften_seams, soften_seams_torch):
        np.testing.assert_allclose(soften(view, hole).numpy(), expected, atol=FLOAT32)


def test_known_pixels_and_the_depths_of_holes_stay_to_the_bit(scene):
    view, hole = scene
    near = ndimage.binary_dilation((~hole).numpy(), np.ones((1, 1, SIDE_PX, SIDE_PX)))
    changing = torch.from_numpy(near) & hole
    for soften in (soften_seams, soften_seams_torch):
        finished = soften(view, hole)
        changed = (finished != view).any(1, keepdim=True)
        assert torch.equal(changed, changing)
    assert (hole & ~changing).any(), f"no hole here is deeper than {REACH_PX} px"


def test_a_frame_without_holes_and_one_of_nothing_else_are_left_alone(scene):
    view, hole = scene
    for mask in (torch.zeros_like(hole), torch.ones_like(hole)):
        assert torch.equal(soften_seams(view, mask), view)
        assert torch.equal(soften_seams_torch(view, mask), view)


def test_the_refiners_views_have_soft_seams_in_mode_holes_only():
    branches, hole = views()
    warped, refiner = warped_clip(hole), Refiner.untrained()
    poly, expansion, dl = branches
    blend = refiner(warped, poly, expansion, dl, mode="everywhere")
    finished = refiner(warped, poly, expansion, dl)
    torch.testing.assert_close(finished, soften_seams(torch.where(hole, blend, warped.view), hole))
    assert not torch.equal(finished, compose(warped.view, hole, blend))
