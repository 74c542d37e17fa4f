"""Long shots in rounds, large frames in tiles."""

from __future__ import annotations

import itertools

import pytest
import torch

from spatialme.evaluation.baselines.diffusion.rounds import in_rounds, padded, per_shot, rounds
from spatialme.evaluation.baselines.diffusion.tiles import Tiling
from spatialme.evaluation.run_method import warped_clips
from spatialme.types import cut
from tests.scenes import square_scene


@pytest.mark.parametrize(
    ("count", "window", "overlap"), [(1, 23, 3), (23, 23, 3), (24, 23, 3), (100, 23, 3), (40, 16, 0)]
)
def test_rounds_cover_the_shot_are_full_and_know_the_end_of_the_one_before(count, window, overlap):
    found = rounds(count, window, overlap)
    assert found[0].start == 0
    assert found[0].made == 0
    assert found[-1].stop == count
    for before, one in itertools.pairwise(found):
        assert one.start + one.made == before.stop
        assert one.made >= overlap
        assert one.made < one.stop - one.start
    assert all(one.stop - one.start == min(window, count) for one in found)


def test_frames_that_a_round_takes_over_are_kept():
    shown = []

    def make(one, made):
        shown.append(made)
        return torch.full((one.stop - one.start, 1), float(len(shown)))

    frames = in_rounds(7, 4, 2, make)
    assert frames[:, 0].tolist() == [1, 1, 1, 1, 2, 2, 3]
    assert shown[0] is None
    assert shown[1][:, 0].tolist() == [1, 1]
    assert shown[2][:, 0].tolist() == [1, 2, 2]  # the last round is moved back, and sees more


def test_a_shot_is_converted_whole_however_it_was_cut():
    scene = square_scene(frames=3)
    (whole,) = warped_clips(scene.left, scene.disparity)
    parts = [cut(whole, 0, 1), cut(whole, 1, 3)]
    seen = []

    def convert(shot):
        seen.append(len(shot))
        return shot.view + shot.view.mean()

    views = list(per_shot(parts, convert))
    assert seen == [3]
    assert [len(view) for view in views] == [1, 2]
    assert torch.equal(torch.cat(views), next(per_shot([whole], convert)))
    with pytest.raises(ValueError, match="the last clip of a stream must have ends_shot set"):
        list(per_shot(parts[:1], convert))


def test_padding_continues_the_last_column_and_row():
    image = torch.rand(1, 3, 5, 6)
    found = padded(image, 8, 7)
    assert found.shape == (1, 3, 8, 7)
    assert torch.equal(found[..., :5, :6], image)
    assert torch.equal(found[..., 7, :6], image[..., 4, :])
    assert torch.equal(found[..., :5, 6], image[..., :, 5])


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("length", [64, 200, 576, 1080, 1920])
def test_tiles_cover_a_side_in_multiples_of_64(count, length):
    tiling = Tiling(count)
    assert tiling.tile_px(length) % 64 == 0
    assert tiling.padded_px(length) >= length
    assert tiling.padded_px(length) % 64 == 0
    starts = [where.start for where in tiling._slices(length)]
    assert len(starts) == count
    assert tiling._slices(length)[-1].stop == tiling.padded_px(length)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_tiles_of_one_picture_blend_to_that_picture(count):
    tiling = Tiling(count)
    height, width = 300, 420
    size = (tiling.padded_px(height) // 8, tiling.padded_px(width) // 8)
    picture = torch.rand(2, 4, *size)

    def latents_of(rows, columns):
        return picture[..., rows.start // 8 : rows.stop // 8, columns.start // 8 : columns.stop // 8]

    # weights that add up to one in float32
    torch.testing.assert_close(tiling.run(height, width, latents_of), picture, atol=1e-6, rtol=1e-6)


def test_tiles_that_differ_leave_no_seam():
    tiling, made = Tiling(2), []

    def latents_of(rows, columns):
        made.append((rows.start, columns.start))
        level = float(len(made) - 1)
        return torch.full((1, 4, (rows.stop - rows.start) // 8, (columns.stop - columns.start) // 8), level)

    found = tiling.run(300, 420, latents_of)
    assert made == [(0, 0), (0, made[1][1]), (made[2][0], 0), (made[2][0], made[1][1])]
    steps = torch.cat((found.diff(dim=-1).abs().flatten(), found.diff(dim=-2).abs().flatten()))
    # three levels at most between neighbouring tiles, over 16 latents of overlap
    assert float(steps.max()) <= 2 / 16 + 1e-6
    assert float(found.min()) == 0
    assert float(found.max()) == 3
