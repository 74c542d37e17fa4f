"""The poly branch: known scenes, a brute-force reference on tiny rows, and the two versions against each other."""

from __future__ import annotations

import itertools

import numba
import numpy as np
import pytest
import torch

from spatialme.inpaint.polyline import PLATEAU_HALF_WIDTH_PX, Polyline, rasterise_polylines
from spatialme.types import Clip, WarpedClip, cut

HEIGHT, WIDTH = 6, 64
FLOAT32 = 2e-6  # a few roundings of values in [0, 1]


def brute_force_row(colours, shift_px, half_width):
    """Area integral of a polyline row: all segments tried on every interval, O(W^2), in plain Python.

    Args:
        colours: (3, W); shift_px: (W,); half_width: of the plateaus, 0 for the soft form.

    Returns:
        (3, W) colours, (W,) share of stretch, (3, W) total variation of the visible colour over each pixel.
    """
    width = len(shift_px)
    vertices = []  # x, closeness, column
    for c in range(width):
        centre = c + 0.5 - float(shift_px[c])
        vertices += [(centre - half_width, float(shift_px[c]), c), (centre + half_width, float(shift_px[c]), c)]
    infinity = 10.0 * width + 2 * np.abs(shift_px).max()
    vertices = [(-infinity, -1e9, 0), *vertices, (infinity, -1e9, width - 1)]
    colours = np.asarray(colours, np.float64)
    view, stretch, variation = np.zeros((3, width)), np.zeros(width), np.zeros((3, width))
    for pixel in range(width):
        inner = {x for x, _, _ in vertices if pixel < x < pixel + 1}
        breaks = sorted(inner | {pixel, pixel + 1})
        last = None
        for left, right in itertools.pairwise(breaks):
            middle = (left + right) / 2
            best = None
            for i, (start, end) in enumerate(itertools.pairwise(vertices)):
                if not start[0] < middle < end[0]:
                    continue
                outside = i in (0, len(vertices) - 2)
                along = (middle - start[0]) / (end[0] - start[0])
                closeness = -1e9 if outside else start[1] + along * (end[1] - start[1])
                if best is None or closeness > best[0]:
                    best = closeness, start, end

            def colour(x, best=best):
                _, start, end = best
                return colours[:, start[2]] + (x - start[0]) / (end[0] - start[0]) * (
                    colours[:, end[2]] - colours[:, start[2]]
                )

            view[:, pixel] += (right - left) * colour(middle)
            stretch[pixel] += (right - left) * (best[2][0] - best[1][0] > 1.5)
            variation[:, pixel] += np.abs(colour(right) - colour(left))
            if last is not None:
                variation[:, pixel] += np.abs(colour(left) - last)
            last = colour(right)
    return view, stretch, variation


def rough_scene(*, frames=2, seed=0, strength_px=6.0):
    """Random colours and a disparity with smooth parts, folds, and layers from one to eight columns wide."""
    rng = np.random.default_rng(seed)
    layer = np.repeat(np.arange(WIDTH), rng.integers(1, 9, WIDTH))[:WIDTH]
    steps = rng.uniform(-1, 1, (frames, 1, HEIGHT, WIDTH))[..., layer]
    ripple = 0.2 * np.sin(np.linspace(0, 9, WIDTH)) + 0.02 * rng.normal(size=(frames, 1, HEIGHT, WIDTH))
    disparity = torch.from_numpy(strength_px * (steps + ripple)).float()
    return torch.from_numpy(rng.uniform(size=(frames, 3, HEIGHT, WIDTH))).float(), disparity


def layered_row(*, foreground_px, background_px=0.0):
    """Background ramp of colours with a foreground bar of 1.0 in columns 24..39, all rows alike."""
    colour = torch.linspace(0, 0.5, WIDTH).repeat(1, 3, HEIGHT, 1)
    disparity = torch.full((1, 1, HEIGHT, WIDTH), background_px)
    colour[..., 24:40] = 1.0
    disparity[..., 24:40] = foreground_px
    return colour, disparity


def warped_clip(frames, disparity):
    clip = Clip(frames, (None,) * len(frames), first_index=0, shot=0, starts_shot=True, ends_shot=True)
    return WarpedClip(
        clip, disparity, torch.zeros_like(frames), torch.zeros_like(disparity), torch.zeros_like(disparity).bool()
    )


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("soft", [False, True])
def test_zero_disparity_changes_little_and_nothing_is_stretched(exact, soft):
    frames, _ = rough_scene()
    view, stretch = rasterise_polylines(frames, torch.zeros(2, 1, HEIGHT, WIDTH), exact=exact, soft=soft)
    # sharp: 95 % plateau, the rest half-way to a neighbour; soft: a quarter-pixel triangle towards each neighbour
    assert (view - frames).abs().max() <= (0.26 if soft else 0.026)
    assert stretch.sum() == 0


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("shift", [-3.0, 2.0])
def test_constant_disparity_moves_the_picture_and_repeats_its_border(exact, shift):
    frames, _ = rough_scene()
    view, stretch = rasterise_polylines(frames, torch.full((2, 1, HEIGHT, WIDTH), shift), exact=exact)
    source = torch.arange(WIDTH) + int(shift)
    expected = frames[..., source.clamp(0, WIDTH - 1)]
    outside = (source < 0) | (source >= WIDTH)
    assert (view - expected).abs().max() <= 0.026  # joints, as above
    assert torch.equal(stretch[0, 0, 0], outside)
    assert torch.equal(view[..., outside], expected[..., outside])


@pytest.mark.parametrize("exact", [False, True])
def test_near_plane_covers_far_plane_and_the_hole_blends_its_two_borders(exact):
    frames, disparity = layered_row(foreground_px=8.0)
    view, stretch = rasterise_polylines(frames, disparity, exact=exact)
    # the bar, 8 px to the left, over the background; its plateaus leave 0.05 px at either side to the neighbour
    assert (view[..., 17:31] == 1).all()
    assert (view[..., [16, 31]] >= 0.95).all()
    blend = (torch.arange(32, 40) + 0.5 - 31.95) / 8.1  # the torn joint leads from x = 31.95 to 40.05
    expected = 1 + blend * (frames[0, 0, 0, 40] - 1)
    # an eighth sub-sample step along the slope is the most that sampling can lose, plus the joint's two ends
    torch.testing.assert_close(view[0, 0, 0, 32:40], expected, atol=0.006, rtol=0)
    assert torch.equal(stretch[0, 0, 0].nonzero().flatten(), torch.arange(32, 40))


def test_far_plane_never_shows_through_a_near_one():
    frames, disparity = layered_row(foreground_px=-2.0, background_px=-9.0)  # all of it behind the screen
    view, _ = rasterise_polylines(frames, disparity)
    assert (view[..., 26:42] == 1).all()


@pytest.mark.parametrize("exact", [False, True])
def test_a_middle_layer_pierces_the_joint_that_falls_from_near_to_far(exact):
    frames = torch.zeros(1, 3, 1, 24)
    disparity = torch.zeros(1, 1, 1, 24)
    disparity[..., :12] = 8.0  # the near layer ends at x = 4; from there the joint falls to x = 12
    disparity[..., 13:] = 4.0  # the middle layer starts at x = 9, where the joint is only 3 px close
    frames[..., 13:] = 1.0
    view, _ = rasterise_polylines(frames, disparity, exact=exact)
    assert (view[..., 4:9] <= 0.05 + FLOAT32).all()
    assert (view[..., 10:20] == 1).all()


@pytest.mark.parametrize("soft", [False, True])
def test_exact_version_equals_brute_force(soft):
    frames, disparity = rough_scene(frames=1, seed=3)
    frames, disparity = frames[..., :24], disparity[..., :24]
    view, stretch = rasterise_polylines(frames, disparity, exact=True, soft=soft)
    for y in range(HEIGHT):
        half_width = 0.0 if soft else PLATEAU_HALF_WIDTH_PX
        expected, share, _ = brute_force_row(frames[0, :, y].numpy(), disparity[0, 0, y].numpy(), half_width)
        np.testing.assert_allclose(view[0, :, y], expected, atol=FLOAT32)
        clear = np.abs(share - 0.5) > 1e-6  # at one half, rounding decides
        np.testing.assert_array_equal(stretch[0, 0, y].numpy()[clear], share[clear] > 0.5)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("samples", [1, 4, 7])
def test_sampling_error_is_bounded_by_the_colour_variation_inside_the_pixel(soft, samples):
    frames, disparity = rough_scene(frames=1, seed=5)
    frames, disparity = frames[..., :24], disparity[..., :24]
    fast, stretch = rasterise_polylines(frames, disparity, soft=soft, samples=samples)
    for y in range(HEIGHT):
        half_width = 0.0 if soft else PLATEAU_HALF_WIDTH_PX
        expected, share, variation = brute_force_row(frames[0, :, y].numpy(), disparity[0, 0, y].numpy(), half_width)
        # The midpoint rule over cells of 1 / samples loses at most half a cell times the variation inside it;
        # positions are float32, so an edge may in addition sit 1e-5 px aside.
        bound = variation * (0.5 / samples + 1e-5) + 1e-5
        assert (np.abs(fast[0, :, y].numpy() - expected) <= bound).all()
        clear = np.abs(share - 0.5) > 2 / samples
        np.testing.assert_array_equal(stretch[0, 0, y].numpy()[clear], share[clear] > 0.5)


def test_fast_and_exact_agree_on_a_smooth_picture():
    _, disparity = rough_scene(strength_px=3.0)
    frames = torch.linspace(0, 1, WIDTH).repeat(2, 3, HEIGHT, 1)
    fast, _ = rasterise_polylines(frames, disparity)
    exact, _ = rasterise_polylines(frames, disparity, exact=True)
    # colours differ by 1/63 per column; a step of 6 px puts 0.1 of variation into a pixel, an eighth of which is lost
    assert (fast - exact).abs().max() <= 0.125 * 0.1 * 2
    assert (fast - exact).abs().mean() <= 1e-3


@pytest.mark.parametrize("exact", [False, True])
def test_every_pixel_is_covered_even_by_absurd_disparity(exact):
    frames, disparity = rough_scene(strength_px=500.0)
    view, _ = rasterise_polylines(0.5 + 0.5 * frames, disparity, exact=exact)
    assert view.min() >= 0.5 - FLOAT32
    assert view.max() <= 1 + FLOAT32


def test_a_foreground_leaving_through_the_border_leaves_its_own_colour_behind():
    frames, disparity = layered_row(foreground_px=5.0)
    view, stretch = rasterise_polylines(frames[..., 24:40], disparity[..., 24:40])
    assert (view == 1).all()
    assert torch.equal(stretch[0, 0, 0].nonzero().flatten(), torch.arange(11, 16))


def test_result_depends_neither_on_the_cut_into_clips_nor_on_threads_nor_on_strides():
    frames, disparity = rough_scene(frames=5, seed=1)
    whole = warped_clip(frames, disparity)
    branch = Polyline()
    (expected,) = branch.stream([whole])
    parts = list(branch.stream([cut(whole, 0, 2), cut(whole, 2, 5)]))
    assert [len(part) for part in parts] == [2, 3]
    assert torch.equal(torch.cat([part.view for part in parts]), expected.view)
    assert torch.equal(torch.cat([part.hole for part in parts]), expected.hole)
    strided = frames.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    assert not strided.is_contiguous()
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        view, stretch = rasterise_polylines(strided, disparity)
    finally:
        numba.set_num_threads(before)
    assert torch.equal(view, expected.view)
    assert torch.equal(stretch, expected.hole)


def test_soft_branch_is_the_soft_rasteriser_and_keeps_the_dtype():
    frames, disparity = rough_scene()
    (filled,) = Polyline(soft=True).stream([warped_clip(frames.half(), disparity)])
    expected, _ = rasterise_polylines(frames.half().float(), disparity, soft=True)
    assert filled.view.dtype == torch.float16
    assert torch.equal(filled.view, expected.half())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_tensors_come_back_on_their_device():
    frames, disparity = rough_scene()
    view, stretch = rasterise_polylines(frames.cuda(), disparity.cuda())
    expected, expected_stretch = rasterise_polylines(frames, disparity)
    assert view.is_cuda
    assert torch.equal(view.cpu(), expected)
    assert torch.equal(stretch.cpu(), expected_stretch)


def test_wrong_arguments_are_named():
    frames, disparity = rough_scene()
    with pytest.raises(ValueError, match=r"disparity \(T, 1, H, W\), got .*\(1, 1, 6, 64\)"):
        rasterise_polylines(frames, disparity[:1])
    with pytest.raises(ValueError, match="frames must be"):
        rasterise_polylines(frames[:, :2], disparity)
    with pytest.raises(ValueError, match="samples must be at least 1, got 0"):
        rasterise_polylines(frames, disparity, samples=0)
    disparity[0, 0, 2, 3] = torch.nan
    with pytest.raises(ValueError, match="disparity must be finite"):
        rasterise_polylines(frames, disparity)
