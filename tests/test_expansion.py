"""Disparity expansion: a literal reference, and what it is for: background on both sides of every hole."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from spatialme.types import mirror
from spatialme.warp import expand_disparity, forward_warp
from spatialme.warp.expansion import CANNY_THRESHOLDS
from tests.scenes import Layer, LayeredScene, Texture, square_scene


def literal_expansion(
    disparity: np.ndarray, low_px: float, high_px: float, radius: int, threshold_px: float
) -> np.ndarray:
    """METHOD.md section 3, word for word, for one map (H, W)."""
    rows, columns = disparity.shape
    grey = np.clip(np.rint((disparity - low_px) / (high_px - low_px) * 255), 0, 255).astype(np.uint8)
    edges = cv2.Canny(grey, *CANNY_THRESHOLDS)
    expanded, written = disparity.copy(), np.zeros(disparity.shape, dtype=bool)
    for i, j in np.argwhere(edges != 0):
        if not (radius <= i < rows - radius and radius <= j < columns - radius):
            continue
        if disparity[i, j - 1] - disparity[i, j + 1] > threshold_px:
            for y in range(i - radius, i + radius):
                for x in range(j - radius, j + radius):
                    value = disparity[i, j - 1]
                    expanded[y, x] = max(value, expanded[y, x]) if written[y, x] else value
                    written[y, x] = True
    return expanded


def blobs(seed: int) -> torch.Tensor:
    """(1, 1, 48, 64) px: smooth hills and valleys with cliffs, within -10 .. 10."""
    random = np.random.default_rng(seed)
    smooth = cv2.GaussianBlur(random.standard_normal((48, 64)).astype(np.float32), (0, 0), 4)
    terraces = np.round(smooth / np.abs(smooth).max() * 4) * 2 + smooth
    return torch.from_numpy(np.clip(terraces, -10, 10))[None, None]


@pytest.mark.parametrize("radius", [1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_expansion_equals_the_literal_algorithm(seed, radius):
    disparity = blobs(seed)
    expanded = expand_disparity(disparity, low_px=-10, high_px=10, radius_px=radius, threshold_px=1.5)
    wanted = literal_expansion(disparity[0, 0].numpy(), -10, 10, radius, 1.5)
    np.testing.assert_array_equal(expanded[0, 0], wanted)
    assert not torch.equal(expanded, disparity)


def test_both_borders_of_every_hole_are_background():
    stripes = Texture(seed=1, colour=(0.2, 0.6, 0.2), contrast=0.15)
    red = Texture(seed=2, colour=(0.8, 0.1, 0.1), contrast=0.05)
    layers = (Layer(0.1, stripes), Layer(0.9, red, shape="square", centre=(64, 32), size=24))
    scene = LayeredScene(128, 64, 1, layers, max_disparity_percent=10)
    low, high = -scene.budget_px / 2, scene.budget_px / 2
    expanded = expand_disparity(scene.disparity, low_px=low, high_px=high, radius_px=3)
    warped = forward_warp(scene.left, expanded)
    is_square = (warped.view[:, :1] > warped.view[:, 1:2]) & ~warped.hole  # red exceeds green nowhere else
    assert is_square.sum() == 24 * 24  # the whole square is still there
    beside_hole = torch.nn.functional.max_pool2d(warped.hole.float(), 3, stride=1, padding=1) > 0
    right_of_square = torch.arange(128) > 64
    assert warped.hole[..., right_of_square].any()
    assert not (is_square & beside_hole & right_of_square).any()
    # and this is the expansion's doing
    plain = forward_warp(scene.left, scene.disparity)
    was_square = (plain.view[:, :1] > plain.view[:, 1:2]) & ~plain.hole
    plain_beside = torch.nn.functional.max_pool2d(plain.hole.float(), 3, stride=1, padding=1) > 0
    assert (was_square & plain_beside & right_of_square).any()


def test_only_the_right_border_of_a_foreground_moves():
    scene = square_scene()
    expanded = expand_disparity(scene.disparity, low_px=-4, high_px=4, radius_px=3)
    changed = (expanded != scene.disparity)[0, 0].nonzero()
    assert changed[:, 1].min() >= 76 - 4  # the square covers columns 52 .. 75; only above and below its corners is
    assert changed[:, 1].max() < 76 + 3  # anything left of its right border written
    assert expanded.max() == 4.0
    mirrored = mirror(expand_disparity(mirror(scene.disparity), low_px=-4, high_px=4, radius_px=3))
    moved = (mirrored != scene.disparity)[0, 0].nonzero()
    assert moved[:, 1].max() < 52 + 4
    assert moved[:, 1].min() >= 52 - 3


def test_radius_and_threshold_scale_with_the_width():
    for width, radius in ((1920, 5), (960, 2), (96, 1), (3840, 10)):
        disparity = torch.full((1, 1, 32, width), -8.0)
        disparity[..., : width // 2] = 8.0
        expanded = expand_disparity(disparity, low_px=-8, high_px=8)
        # Canny puts the edge on the last near or the first far column; radius - 1 more columns are written
        assert int((expanded[0, 0, 16] == 8).sum()) - width // 2 in (radius - 1, radius)
    step = torch.full((1, 1, 32, 3840), 0.0)
    step[..., :1900] = 1.9  # under the threshold of 2 px at this width
    assert torch.equal(expand_disparity(step, low_px=0, high_px=2), step)
    assert not torch.equal(expand_disparity(step, low_px=0, high_px=2, threshold_px=1.8), step)


def test_frames_are_independent_and_the_input_is_left_alone():
    disparity = torch.cat([blobs(1), blobs(2)])
    before = disparity.clone()
    together = expand_disparity(disparity, low_px=-10, high_px=10, radius_px=2)
    assert torch.equal(disparity, before)
    for t in range(2):
        assert torch.equal(
            together[t : t + 1], expand_disparity(before[t : t + 1], low_px=-10, high_px=10, radius_px=2)
        )


def test_moving_screen_plane_is_given_per_frame():
    disparity = torch.cat([blobs(1), blobs(1) + 3])
    low = torch.tensor([-10.0, -7.0])
    expanded = expand_disparity(disparity, low_px=low, high_px=low + 20, radius_px=2)
    torch.testing.assert_close(expanded[1], expanded[0] + 3)


def test_flat_disparity_stays_as_it_is():
    flat = torch.full((1, 1, 20, 30), 2.5)
    assert torch.equal(expand_disparity(flat, low_px=-4, high_px=4), flat)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match=r"disparity must be \(T, 1, H, W\)"):
        expand_disparity(torch.zeros(1, 2, 8, 8), low_px=0, high_px=1)
    with pytest.raises(ValueError, match="low_px must be below high_px"):
        expand_disparity(torch.zeros(1, 1, 8, 8), low_px=1, high_px=1)
    with pytest.raises(ValueError, match="radius is 0 px"):
        expand_disparity(torch.zeros(1, 1, 8, 8), low_px=0, high_px=1, radius_px=0)
