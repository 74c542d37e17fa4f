"""A near surface holds its outline: the columns in which its colours mix with what is behind it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from spatialme.depth import outlines
from spatialme.warp import forward_warp
from tests.meta_kernels import META

HEIGHT, WIDTH, OUTLINE = 12, 48, 24
NEAR_COLOUR, FAR_COLOUR = torch.tensor([0.8, 0.3, 0.2]), torch.tensor([0.2, 0.5, 0.4])


def scene(*, inside: int, mixed: tuple[float, ...] = (), behind: Tensor = FAR_COLOUR) -> tuple[Tensor, Tensor]:
    """Nearness (1, 1, H, W) and frame of a surface on the left whose last column of its own colour is OUTLINE - 1.

    Args:
        inside: Columns that the step of nearness lies left of that.
        mixed: Share of the near colour in the columns from OUTLINE on.
        behind: The far colour.
    """
    share = torch.zeros(WIDTH)
    share[:OUTLINE] = 1
    share[OUTLINE : OUTLINE + len(mixed)] = torch.tensor(mixed)
    colours = share * NEAR_COLOUR.view(3, 1, 1) + (1 - share) * behind.view(3, 1, 1)
    nearness = torch.full((1, 1, HEIGHT, WIDTH), 0.1)
    nearness[..., : OUTLINE - inside] = 0.7
    return nearness, colours.expand(3, HEIGHT, WIDTH)[None].contiguous()


def edge_of(nearness: Tensor) -> int:
    """The first column that is not near, the same in every row."""
    near = nearness[0, 0] > 0.5
    assert (near == near[:1]).all()
    return int(near[0].sum())


@pytest.mark.parametrize("inside", [0, 1, 2, 3])
def test_a_surface_reaches_its_outline(inside: int):
    found = edge_of(outlines.extend(*scene(inside=inside)))
    assert found == OUTLINE + (inside == 0)  # it grows by one column, whatever the colours are


def test_what_lies_deeper_inside_is_left_to_growing():
    """Its colours say nothing of where the surface ends."""
    assert edge_of(outlines.extend(*scene(inside=4))) == OUTLINE - 3


def test_mixed_columns_are_the_near_surfaces():
    assert edge_of(outlines.extend(*scene(inside=0, mixed=(0.7, 0.3)))) == OUTLINE + 2
    assert edge_of(outlines.extend(*scene(inside=0, mixed=(0.7, 0.1)))) == OUTLINE + 1


def test_colours_that_are_alike_add_nothing():
    assert edge_of(outlines.extend(*scene(inside=2, behind=NEAR_COLOUR + 0.05))) == OUTLINE - 1


def test_a_slope_grows_by_a_column_and_no_more():
    slope = torch.linspace(0.9, 0.1, WIDTH).expand(1, 1, HEIGHT, WIDTH).contiguous()
    _, frame = scene(inside=2)
    grown = torch.cat((slope[..., :1], slope[..., :-1]), dim=-1)
    assert torch.equal(outlines.extend(slope, frame), grown)


@pytest.mark.parametrize("width", [2, 3])
def test_what_is_narrow_grows_by_a_column_each_way(width: int):
    """A pole before a wall, whose colour reaches two columns farther than its nearness."""
    nearness = torch.full((1, 1, HEIGHT, WIDTH), 0.1)
    nearness[..., OUTLINE : OUTLINE + width] = 0.7
    frame = F.max_pool2d(nearness, (1, 5), 1, (0, 2)).expand(1, 3, -1, -1)
    assert int((outlines.extend(nearness, frame)[0, 0, 0] > 0.5).sum()) == width + 2


def test_no_ghost_stays_beside_the_hole():
    """Warped, the near colour is to the left of the hole only."""
    nearness, frame = scene(inside=2, mixed=(0.5,))
    for given, ghost in ((nearness, True), (outlines.extend(nearness, frame), False)):
        warped = forward_warp(frame, 20 * given)
        row, hole = warped.view[0, :, 0], warped.hole[0, 0, 0]
        right_of_hole = row[:, int(hole[:-14].nonzero().max()) + 1 : WIDTH - 14]  # what is left of 14 is a hole, too
        assert bool((right_of_hole - FAR_COLOUR.view(3, 1)).abs().max() > 0.05) == ghost


def natural(width: int) -> tuple[Tensor, Tensor]:
    """Two frames of blobs at several depths, ramps a few columns wide, colours that go with them and noise."""
    generator = torch.Generator().manual_seed(4)
    coarse = torch.rand(2, 1, 8, max(1, width // 9), generator=generator)
    nearness = (F.interpolate(coarse, size=(40, width), mode="bilinear") * 4).round() / 4
    nearness = F.avg_pool2d(nearness, (1, 3), 1, (0, 1))
    shifted = torch.cat([F.avg_pool2d(nearness.roll(k, -1), (1, 5), 1, (0, 2)) for k in (-2, 0, 2)], dim=1)
    return nearness, (shifted + 0.1 * torch.rand(2, 3, 40, width, generator=generator)).clamp(0, 1)


@pytest.mark.parametrize("width", [160, 13, 12, 1])
def test_the_compiled_loops_do_what_pytorch_does(width: int):
    nearness, frames = natural(width)
    fast, plain = outlines.extend_numba(nearness, frames), outlines.extend_torch(nearness, frames)
    assert torch.equal(fast, plain)
    grown = F.max_pool2d(nearness, (1, 3), 1, (0, 1))
    assert (fast > grown).sum() > 20 or width < 160


def test_both_directions_are_alike():
    nearness, frames = natural(160)
    mirrored = outlines.extend(nearness.flip(-1).contiguous(), frames.flip(-1).contiguous())
    assert torch.equal(mirrored.flip(-1), outlines.extend(nearness, frames))


def test_a_gpu_is_not_waited_for():
    nearness, frames = (values.to(META) for values in natural(160))
    assert outlines.extend(nearness, frames).shape == nearness.shape
