"""The background's texture in holes: whence it comes, and what does not come along."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from spatialme.inpaint.background import fill_background
from spatialme.inpaint.background_torch import fill_background_torch
from spatialme.inpaint.texture import LIMIT

Fill = Callable[[Tensor, Tensor, Tensor], Tensor]
HEIGHT, WIDTH = 24, 80
twins = pytest.mark.parametrize("fill", [fill_background, fill_background_torch])


def waves(period_px: float, zero_px: float) -> Tensor:
    """Vertical stripes of small contrast: (3, H, W); a sine that is zero and rises at the centre of column zero_px."""
    phase = (torch.arange(WIDTH) - zero_px) * (2 * math.pi / period_px)
    return (0.5 + 0.03 * phase.sin()).expand(3, HEIGHT, WIDTH).clone()


def between_surfaces(start: int, stop: int) -> tuple[Tensor, Tensor]:
    """Hole and disparity of a foreground that ends at column `start` and a background that begins at `stop`."""
    hole = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
    hole[..., start:stop] = True
    disparity = torch.zeros(1, HEIGHT, WIDTH)
    disparity[..., :start] = 6.0
    return hole, disparity


def likeness(first: Tensor, second: Tensor) -> float:
    """Correlation."""
    return float(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1])


@twins
def test_beside_a_foreground_the_texture_is_shifted_by_the_holes_width_and_one(fill: Fill) -> None:
    hole, disparity = between_surfaces(20, 35)
    truth = waves(4, 35)  # 16 px further on the same again; reflected at column 35 it would be turned round
    filled = fill(torch.where(hole, 0.0, truth), hole, disparity)
    # where the hole is smoothed over several periods: the detail is the wave, less the limit's share
    assert likeness(filled[..., 22:30], truth[..., 22:30]) > 0.9
    assert filled[..., 22:30].std() > 0.5 * truth[..., 22:30].std()


@twins
def test_beside_the_frame_the_texture_is_reflected(fill: Fill) -> None:
    hole = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
    hole[..., :15] = True
    truth = waves(6, 13.5)  # a crest in the border's column 15: the same on either side of it, but not 16 px further on
    filled = fill(torch.where(hole, 0.0, truth), hole, torch.zeros(1, HEIGHT, WIDTH))
    assert likeness(filled[..., 2:11], truth[..., 2:11]) > 0.9


@twins
def test_a_surface_narrower_than_the_hole_lends_nothing(fill: Fill) -> None:
    hole, disparity = between_surfaces(20, 35)
    disparity[..., 45:] = 3.0  # a nearer object 10 px into the background
    view = torch.full((3, HEIGHT, WIDTH), 0.25)
    view[:, :, 40:] = 1.0
    filled = fill(torch.where(hole, 0.0, view), hole, disparity)
    assert torch.allclose(filled[..., 20:35], torch.tensor(0.25))
    disparity[..., 45:] = 0.0  # now it is wide enough
    assert not torch.allclose(fill(torch.where(hole, 0.0, view), hole, disparity)[..., 20:35], torch.tensor(0.25))


@twins
def test_a_strong_edge_comes_as_a_faint_one(fill: Fill) -> None:
    hole, disparity = between_surfaces(20, 35)
    view = torch.full((3, HEIGHT, WIDTH), 0.25)
    view[:, :, 40:44] = 1.0
    filled = fill(torch.where(hole, 0.0, view), hole, disparity)
    difference = (filled[..., 20:35] - 0.25).abs().max()
    assert 0.05 < difference < LIMIT


def test_both_twins_lend_the_same_texture() -> None:
    random = np.random.default_rng(1)
    hole = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
    for row in range(HEIGHT):
        start, size = 18 + int(random.integers(0, 4)), int(random.integers(1, 12))
        hole[0, row, start : start + size] = hole[0, row, : int(random.integers(0, 6))] = True
        hole[0, row, WIDTH - int(random.integers(1, 9)) :] = True
    disparity = torch.zeros(1, HEIGHT, WIDTH)
    disparity[..., :18] = 6.0
    disparity[:, ::5, 35:] = -3.0
    view = torch.from_numpy(random.random((3, HEIGHT, WIDTH)).astype(np.float32)) * ~hole
    # sums of up to 33 weighted float32 colours, in two orders, twice
    filled = fill_background(view, hole, disparity)
    assert torch.allclose(filled, fill_background_torch(view, hole, disparity), atol=1e-5)
    assert torch.equal(filled[:, ~hole[0]], view[:, ~hole[0]])
