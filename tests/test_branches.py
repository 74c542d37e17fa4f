"""The contract of every inpainting branch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from spatialme.flow import FlowEstimator
from spatialme.flow.dis import Dis
from spatialme.inpaint import BRANCHES, Branch
from spatialme.types import WarpedClip, cut, join
from tests.scenes import square_scene, warped_clip


@pytest.fixture(scope="module")
def clip() -> WarpedClip:
    scene = square_scene(
        width=160, height=96, frames=7, square_size=40, square_velocity=(4.0, 1.0), max_disparity_percent=5.0
    )
    (moving,) = FlowEstimator(Dis()).stream([warped_clip(scene)])
    return moving


# ProPainter's branches need weights: test_propainter_branch holds them to the same contract with seeded ones
WEIGHT_FREE = sorted(name for name in BRANCHES if not name.startswith("propainter"))


@pytest.fixture(params=WEIGHT_FREE)
def branch(request: pytest.FixtureRequest) -> Branch:
    return BRANCHES[request.param](torch.device("cpu"), "any")


def test_a_branch_is_named_as_in_the_table() -> None:
    for name in WEIGHT_FREE:
        assert BRANCHES[name](torch.device("cpu"), "any").name == name


def test_no_hole_is_left_and_known_pixels_stay(branch: Branch, clip: WarpedClip) -> None:
    (filled,) = branch.stream([clip])
    assert filled.view.shape == clip.view.shape
    assert filled.view.isfinite().all()
    assert filled.view.min() >= 0
    assert filled.view.max() <= 1
    composed = torch.where(clip.hole, filled.view, clip.view)
    known = (~clip.hole).expand_as(clip.view)
    assert torch.equal(composed[known], clip.view[known])
    # the warp's holes are black and nothing in the scene is darker than 0.02
    assert composed.amax(1).min() > 0.02


def test_the_result_does_not_depend_on_clip_cuts(branch: Branch, clip: WarpedClip) -> None:
    (whole,) = branch.stream([clip])
    for size in (1, 3):
        pieces = list(branch.stream(cut(clip, i, min(i + size, len(clip))) for i in range(0, len(clip), size)))
        assert torch.equal(join(pieces).view, whole.view), size
        assert torch.equal(join(pieces).hole, whole.hole), size


def test_a_frame_depends_on_the_declared_neighbours_only(branch: Branch, clip: WarpedClip) -> None:
    if branch.lookback >= len(clip) - 1:
        pytest.skip(f"{branch.name} sees all {len(clip)} frames")
    (whole,) = branch.stream([clip])
    other = clip.clip.frames.clone()
    other[0] = 0.5
    changed = replace(clip, clip=replace(clip.clip, frames=other), view=clip.view * (other == clip.clip.frames))
    (again,) = branch.stream([changed])
    assert torch.equal(again.view[branch.lookback + 1 :], whole.view[branch.lookback + 1 :])


def test_two_shots_in_one_stream_are_two_streams(branch: Branch, clip: WarpedClip) -> None:
    second = replace(clip, clip=replace(clip.clip, shot=1, frames=clip.clip.frames.flip(1)), view=clip.view.flip(1))
    alone = [next(iter(branch.stream([each]))) for each in (clip, second)]
    together = list(branch.stream([clip, second]))
    assert len(together) == 2
    for one, other in zip(alone, together):
        assert torch.equal(one.view, other.view)
