"""The synthetic scenes keep their promises: their flows, eyes and holes agree with each other."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from tests.scenes import Layer, LayeredScene, clip, depth_clip, square_scene, true_warped_clip


def moving_scene() -> LayeredScene:
    """A square that moves by whole pixels and comes nearer, before a slanted wall that slides by."""
    return square_scene(
        frames=3,
        square_nearness=0.9,
        square_velocity=(3.0, -1.0),
        background_nearness=0.3,
        background_velocity=(-2.0, 1.0),
        background_slant=(0.3, 0.0),
    )


def follow(picture: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """Read a picture where the flow leads: (T, C, H, W)."""
    height, width = picture.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    grid = torch.stack([(x + flow[:, 0]) / width * 2 - 1, (y + flow[:, 1]) / height * 2 - 1], -1)
    return F.grid_sample(picture, grid, mode="bicubic", align_corners=False)


def test_left_flow_leads_to_the_same_colour():
    scene = moving_scene()
    reached = follow(scene.left[1:], scene.flow_forward[:-1])
    seen = scene.forward_visible[:-1]
    assert seen.float().mean() > 0.9
    assert not scene.forward_visible[-1].any()
    # whole-pixel motion: float32 rounding only
    torch.testing.assert_close(reached * seen, scene.left[:-1] * seen, atol=1e-4, rtol=0)
    back = follow(scene.left[:-1], scene.flow_backward[1:])
    seen = scene.backward_visible[1:]
    torch.testing.assert_close(back * seen, scene.left[1:] * seen, atol=1e-4, rtol=0)


def test_right_flow_leads_to_the_same_colour():
    scene = moving_scene()
    error = (follow(scene.right[1:], scene.flow_right_forward[:-1]) - scene.right[:-1]).abs()
    inside = error[..., 4:-4, 4:-4]
    # 4 % of the points vanish behind the square or come from behind it; the rest differ by the reading's own error
    assert inside.quantile(0.93) < 0.01
    # 8 px of budget, a slope of 0.3 over 128 px, and 2 px of motion to the left per frame
    slid = scene.flow_right_forward[:, :1][scene.layer_right == 0]
    torch.testing.assert_close(slid, torch.full_like(slid, -2 + 8 * 0.3 / 128 * 2))


def test_disparity_joins_the_eyes():
    scene = moving_scene()
    shift = torch.cat([scene.disparity_right, torch.zeros_like(scene.disparity_right)], 1)
    found = follow(scene.left, shift)  # x_left = x_right + disparity
    interior = F.max_pool2d((scene.hole | (scene.layer_right == 0).logical_not()).float(), 9, 1, 4) == 0
    interior[..., :4] = interior[..., -4:] = False
    error = ((found - scene.right).abs() * interior).max()
    assert error < 0.02  # bicubic reading of 7 px waves


def test_holes_are_what_the_left_eye_does_not_see():
    scene = square_scene()  # 4 px before and behind the screen
    columns = scene.hole[0, 0, 32].nonzero().flatten().tolist()
    assert columns == [0, 1, 2, 3, *range(72, 80)]
    assert scene.hole[0, 0, 0].nonzero().flatten().tolist() == [0, 1, 2, 3]
    warped = true_warped_clip(scene)
    assert not warped.view[warped.hole.expand_as(warped.view)].any()


def test_clips_carry_the_scene():
    scene = square_scene(frames=2)
    assert len(clip(scene)) == len(depth_clip(scene)) == 2
    assert clip(scene).starts_shot
    assert clip(scene).ends_shot
    torch.testing.assert_close(depth_clip(scene).nearness.unique(), torch.tensor([0.0, 1.0]))


def test_impossible_scenes_are_refused():
    with pytest.raises(ValueError, match="the right eye sees its back"):
        LayeredScene(100, 20, 1, (Layer(0.5, slant=(-1.0, 0.0)),), max_disparity_percent=100)
    with pytest.raises(ValueError, match="nearness leaves"):
        LayeredScene(100, 20, 1, (Layer(0.9, slant=(0.5, 0.0)),))
