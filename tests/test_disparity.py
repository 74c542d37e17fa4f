"""Nearness to disparity, and the automatic screen plane."""

from __future__ import annotations

import pytest
import torch

from spatialme.errors import OptionError
from spatialme.types import Clip, DepthClip, cut
from spatialme.warp import AutoConvergence, DisparityParams, to_disparity
from spatialme.warp.disparity import PLANE_RANGE


def shot(subject: list[float], *, ends_shot: bool = True, number: int = 0) -> DepthClip:
    """Frames of 32 x 32 whose middle has the given nearness before a far background."""
    frames = len(subject)
    nearness = torch.zeros(frames, 1, 32, 32)
    nearness[:, :, 6:26, 6:26] = torch.tensor(subject)[:, None, None, None]
    clip = Clip(torch.zeros(frames, 3, 32, 32), (None,) * frames, 0, number, starts_shot=True, ends_shot=ends_shot)
    return DepthClip(clip, nearness)


def planes(stage: AutoConvergence, clips: list[DepthClip]) -> torch.Tensor:
    return torch.cat([plane for _, plane in stage.stream(clips)])


def test_disparity_is_the_budget_times_the_distance_from_the_screen():
    nearness = torch.tensor([0.0, 0.25, 0.5, 1.0]).reshape(1, 1, 1, 4).expand(2, 1, 5, 4)
    disparity = to_disparity(nearness, DisparityParams(max_disparity_percent=20, convergence=0.25))
    torch.testing.assert_close(disparity[1, 0, 3], torch.tensor([-0.2, 0.0, 0.2, 0.6]))  # 20 % of 4 px is 0.8 px
    half = to_disparity(nearness, DisparityParams(20, 0.25), share=0.5)
    torch.testing.assert_close(half, disparity / 2)


def test_range_is_what_nearness_can_reach():
    params = DisparityParams(max_disparity_percent=2.5, convergence=0.3)
    nearness = torch.tensor([0.0, 1.0]).expand(1, 1, 1, 1920 // 2, 2).reshape(1, 1, 1, 1920)
    disparity = to_disparity(nearness, params, 0.5)
    budget = params.range_px(1920, torch.tensor([0.3, 0.5]), 0.5)
    torch.testing.assert_close(budget, torch.tensor([[disparity.min(), disparity.max()], [-12.0, 12.0]]))
    assert params.budget_px(1920) == pytest.approx(48)


def test_convergence_may_differ_from_frame_to_frame():
    nearness = torch.full((2, 1, 2, 100), 0.5)
    disparity = to_disparity(nearness, DisparityParams(10, 0.0), convergence=torch.tensor([0.5, 0.2]))
    torch.testing.assert_close(disparity[:, 0, 0, 0], torch.tensor([0.0, 3.0]))


@pytest.mark.parametrize("percent", [0, -1, 20.1, float("nan"), float("inf")])
def test_budget_out_of_range_is_refused(percent):
    with pytest.raises(
        OptionError, match=r"maximum disparity is .* % of the width, expected more than 0 and at most 20"
    ):
        DisparityParams(max_disparity_percent=percent)


@pytest.mark.parametrize("convergence", [-0.01, 1.01, float("nan")])
def test_screen_plane_out_of_range_is_refused(convergence):
    with pytest.raises(OptionError, match=r"convergence is .*, expected 0 \(all in front\) to 1"):
        DisparityParams(convergence=convergence)


def test_automatic_plane_rests_on_the_subject_and_stands_still_in_a_still_shot():
    found = planes(AutoConvergence(3, 2), [shot([0.6] * 9)])
    torch.testing.assert_close(found, torch.full((9,), 0.6))


def test_automatic_plane_stays_inside_its_range():
    assert planes(AutoConvergence(), [shot([1.0])]) == pytest.approx(PLANE_RANGE[1])
    assert planes(AutoConvergence(), [shot([0.0])]) == pytest.approx(PLANE_RANGE[0])


def test_automatic_plane_moves_smoothly_when_the_subject_jumps():
    found = planes(AutoConvergence(8, 4), [shot([0.3] * 20 + [0.7] * 20)])
    steps = found.diff()
    assert steps.min() >= -1e-6
    assert steps.max() < 0.4 / 4  # a jump of 0.4 spread over 12 frames
    torch.testing.assert_close(found[[0, 15, 28, 39]], torch.tensor([0.3, 0.3, 0.7, 0.7]))  # only within the window


@pytest.mark.parametrize("sizes", [(1,) * 12, (5, 7), (11, 1)])
def test_automatic_plane_does_not_depend_on_how_the_shot_was_cut(sizes):
    whole = shot([0.2 + 0.05 * t for t in range(12)])
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    clips = [cut(whole, start, start + size) for start, size in zip(starts, sizes)]
    stage = AutoConvergence(lookback=4, lookahead=3)
    assert torch.equal(planes(stage, clips), planes(stage, [whole]))
    assert [len(clip) for clip, _ in stage.stream(clips)] == list(sizes)


def test_automatic_plane_starts_afresh_at_a_cut():
    near, far = shot([0.8] * 5), shot([0.3] * 5, number=1)
    together = planes(AutoConvergence(4, 4), [near, far])
    torch.testing.assert_close(together, torch.tensor([0.8] * 5 + [0.3] * 5))


def test_automatic_plane_waits_for_no_more_than_its_look_ahead():
    whole = shot([0.5] * 12)
    taken = 0

    def counted():
        nonlocal taken
        for t in range(12):
            taken += 1
            yield cut(whole, t, t + 1)

    stream = AutoConvergence(lookback=2, lookahead=3).stream(counted())
    for answered in range(1, 9):
        next(stream)
        assert taken == answered + 3


def test_unfinished_stream_is_refused():
    with pytest.raises(ValueError, match="must have ends_shot set"):
        planes(AutoConvergence(2, 2), [shot([0.5] * 3, ends_shot=False)])


def test_negative_window_is_refused():
    with pytest.raises(ValueError, match="must not be negative, got 3 and -1"):
        AutoConvergence(3, -1)
