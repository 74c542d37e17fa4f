"""The converter as a whole, on frames in memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spatialme.errors import OptionError
from spatialme.pipeline import Converter
from spatialme.settings import ConverterSettings, plan_branches
from spatialme.shots import to_tensor
from spatialme.types import Clip, DepthClip, cut, join
from tests import scenes

QUALITIES = ["draft", "fast"]


class KnownDepth:
    """Gives clips the nearness of a scene, by frame number."""

    name = "known"
    lookback = 0
    lookahead = 0

    def __init__(self, nearness: torch.Tensor):
        self.nearness = nearness
        self.notices: list[str] = []

    def stream(self, clips):
        for clip in clips:
            yield DepthClip(clip, self.nearness[clip.first_index : clip.first_index + len(clip)])


@pytest.fixture(scope="module")
def scene() -> scenes.LayeredScene:
    return scenes.square_scene(frames=7, square_velocity=(3.0, 0.0))


def converter(scene: scenes.LayeredScene, **choices) -> Converter:
    settings = ConverterSettings(max_disparity=scene.max_disparity_percent, convergence=scene.convergence, **choices)
    return Converter(settings, depth=KnownDepth(scene.nearness))


def eyes(scene: scenes.LayeredScene, *, size: int = 7, **choices):
    """Convert the scene cut into clips of `size` frames; the joined stereo clip."""
    whole = scenes.clip(scene)
    clips = [cut(whole, start, min(start + size, len(whole))) for start in range(0, len(whole), size)]
    return join(list(converter(scene, **choices).stereo(clips)))


def psnr(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(-10 * torch.log10((first - second).square().mean()))


@pytest.mark.parametrize("quality", QUALITIES)
def test_the_right_view_of_a_known_scene_is_right(scene, quality):
    stereo = eyes(scene, quality=quality)
    assert stereo.left is None  # the source picture itself
    seen = ~scene.hole.expand_as(scene.right)
    # outside holes only the square's hard edge, which no resampling can place between two pixels, costs accuracy
    assert psnr(stereo.right[seen], scene.right[seen]) > 35
    assert psnr(stereo.right, scene.right) > psnr(scene.left, scene.right) + 5
    assert stereo.right.isfinite().all()


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_result_does_not_depend_on_how_a_shot_was_cut_into_clips(scene, quality, size):
    assert torch.equal(eyes(scene, quality=quality, size=size).right, eyes(scene, quality=quality).right)


@pytest.mark.parametrize("quality", QUALITIES)
def test_a_left_view_is_the_mirror_image_of_a_right_view(scene, quality):
    left_made = eyes(scene, quality=quality, eye="right")
    assert left_made.right is None
    whole = scenes.clip(scene)
    mirrored = Clip(whole.frames.flip(-1), whole.pictures, 0, 0, True, True)
    other = converter(scene, quality=quality)
    other.depth = KnownDepth(scene.nearness.flip(-1))
    (right_made,) = other.stereo([mirrored])
    assert torch.equal(left_made.left, right_made.right.flip(-1))


def test_both_eyes_share_the_disparity(scene):
    stereo = eyes(scene, quality="draft", eye="both")
    half = converter(scene, quality="draft")
    half.warper.params = type(half.warper.params)(scene.max_disparity_percent / 2, scene.convergence)
    (right,) = half.stereo([scenes.clip(scene)])
    torch.testing.assert_close(stereo.right, right.right)
    assert psnr(stereo.left, scene.left) < 60  # made anew, not the source


def test_arrays_go_in_and_come_out_as_pairs(scene):
    frames = [(frame.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8) for frame in scene.left]
    pairs = list(converter(scene, quality="draft").stream(frames))
    assert len(pairs) == len(frames)
    (expected,) = converter(scene, quality="draft").stereo(
        [Clip(to_tensor(frames, "cpu"), tuple(frames), 0, 0, True, True)]
    )
    for frame, (left, right), wanted in zip(frames, pairs, expected.right):
        np.testing.assert_array_equal(left, frame)
        assert right.dtype == np.uint8
        np.testing.assert_array_equal(right, (wanted.permute(1, 2, 0).numpy() * 255 + 0.5).astype(np.uint8))


def test_no_frames_give_no_pairs(scene):
    assert list(converter(scene).stream([])) == []


def test_inference_mode_does_not_leak_into_the_users_loop(scene):
    for _ in converter(scene, quality="draft").stereo([scenes.clip(scene)]):
        assert not torch.is_inference_mode_enabled()


def test_the_stream_reads_no_further_ahead_than_declared(scene):
    made = converter(scene, quality="fast")
    pulled = 0

    def one_by_one():
        nonlocal pulled
        long = scenes.square_scene(frames=60)
        made.depth.nearness = long.nearness
        for start in range(60):
            pulled += 1
            yield cut(scenes.clip(long), start, start + 1)

    stream = made.stereo(one_by_one())
    next(stream)
    assert pulled <= made.lookahead + 1


@pytest.mark.parametrize("branch", ["poly", "propagation", "expansion"])
def test_a_single_branch_is_written_when_asked_for(scene, branch):
    made = converter(scene, branch=branch)
    assert made.written == f"branch {branch}"
    (stereo,) = made.stereo([scenes.clip(scene)])
    assert stereo.right.shape == scene.right.shape


@pytest.mark.parametrize(
    ("choices", "ready", "gpu", "names"),
    [
        ({"quality": "draft"}, True, True, ("poly",)),
        ({"quality": "fast"}, True, True, ("poly", "propagation", "expansion")),
        ({"quality": "full"}, False, False, ("poly", "propainter", "propainter_expansion")),
        ({}, True, True, ("poly", "propainter", "propainter_expansion")),
        ({}, True, False, ("poly", "propagation", "expansion")),
        ({}, False, True, ("poly", "propagation", "expansion")),
        ({"inpaint": "propainter"}, False, False, ("poly", "propainter", "propainter_expansion")),
        ({"quality": "full", "inpaint": "propagation"}, True, True, ("poly", "propagation", "expansion")),
        ({"branch": "expansion", "quality": "draft"}, True, True, ("expansion",)),
    ],
)
def test_quality_engine_and_branch_settle_what_runs(choices, ready, gpu, names):
    plan = plan_branches(ConverterSettings(**choices), propainter_ready=ready, gpu=gpu)
    assert plan.names == names
    assert plan.refined == (len(names) == 3)


def test_an_engine_is_refused_where_it_has_no_use():
    with pytest.raises(OptionError, match="--inpaint propagation has no use with --quality draft"):
        plan_branches(ConverterSettings(quality="draft", inpaint="propagation"), propainter_ready=True, gpu=True)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"max_disparity": 0}, "0 % of the width"),
        ({"max_disparity": float("nan")}, "nan % of the width"),
        ({"convergence": 1.5}, "convergence is 1.5"),
        ({"device": "tpu"}, "tpu"),
        ({"device": "cuda:99"}, "cuda:99"),
        ({"depth_size": 3}, "3"),
        ({"depth": "crystal-ball"}, "crystal-ball"),
    ],
)
def test_nonsense_choices_are_refused(choices, message):
    with pytest.raises(OptionError, match=message):
        Converter(ConverterSettings(**choices))
