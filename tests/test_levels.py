"""What waits on a GPU takes 16 bits, and comes back as it was."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from spatialme.flow import FlowEstimator
from spatialme.flow.dis import Dis
from spatialme.inpaint import BRANCHES
from spatialme.levels import awake_warp, resting, resting_warp, to_colours, to_levels, to_pixels, to_steps
from spatialme.types import WarpedClip
from tests.scenes import square_scene, warped_clip

META = torch.device("meta")


@pytest.fixture(scope="module")
def clip() -> WarpedClip:
    scene = square_scene(
        width=160, height=96, frames=5, square_size=40, square_velocity=(4.0, 1.0), max_disparity_percent=5.0
    )
    (moving,) = FlowEstimator(Dis()).stream([warped_clip(scene)])
    return moving


def at_rest(clip: WarpedClip) -> WarpedClip:
    """As a GPU's clips wait; here the CPU's."""
    return replace(
        clip,
        clip=replace(clip.clip, frames=to_levels(clip.clip.frames)),
        source_disparity=to_steps(clip.source_disparity),
        view=to_levels(clip.view),
        disparity=to_steps(clip.disparity),
    )


@pytest.mark.parametrize("top", [255, 1023, 65535])
def test_every_level_of_a_picture_comes_back_to_the_bit(top: int) -> None:
    colours = torch.arange(top + 1).float() / top
    back = to_colours(to_levels(colours))
    if top == 1023:  # 10 bits reach the stages as 16
        assert (back - colours).abs().max() < 0.51 / 65535
    else:
        assert torch.equal(back, colours)


@pytest.mark.parametrize("width", [160, 1280, 3840])
def test_disparity_comes_back_within_half_a_step(width: int) -> None:
    disparity = (torch.rand(1, 1, 7, width, generator=torch.Generator().manual_seed(0)) - 0.5) * 0.4 * width
    back = to_pixels(to_steps(disparity))
    assert (back - disparity).abs().max() < 0.51 * width / 131072  # and float32 rounds, too
    assert torch.equal(to_pixels(to_steps(back)), back)


def test_what_is_at_rest_stays_and_floats_are_awake(clip: WarpedClip) -> None:
    rested = at_rest(clip)
    assert to_levels(rested.view) is rested.view
    assert to_steps(rested.disparity) is rested.disparity
    assert awake_warp(clip).view is clip.view
    assert (awake_warp(rested).view - clip.view).abs().max() < 0.51 / 65535


def test_clips_rest_on_a_gpu_only(clip: WarpedClip) -> None:
    assert resting_warp(clip) is clip
    assert resting(clip.clip) is clip.clip
    there = replace(clip.clip, frames=torch.empty(clip.clip.frames.shape, device=META))
    assert resting(there).frames.dtype == torch.int16


@pytest.mark.parametrize("name", ["poly", "propagation", "expansion"])
def test_a_branch_answers_the_same_for_clips_at_rest(clip: WarpedClip, name: str) -> None:
    branch = BRANCHES[name](torch.device("cpu"), "any")
    (wanted,), (found,) = branch.stream([clip]), branch.stream([at_rest(clip)])
    assert found.view.dtype == torch.float32
    assert (found.hole != wanted.hole).float().mean() < 1e-3  # a step of disparity may move a border pixel
    error = (found.view - wanted.view).abs()
    assert not torch.equal(found.view, wanted.view)
    assert (error < 0.003).float().mean() > 0.998


def test_carried_motion_is_the_same_for_clips_at_rest(clip: WarpedClip) -> None:
    from spatialme.flow import carry_motion

    wanted, found = carry_motion(clip, None, None), carry_motion(at_rest(clip), None, None)
    close = (found.forward - wanted.forward).abs() < 0.01
    assert close.float().mean() > 0.99
