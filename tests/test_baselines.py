"""The compared methods: one contract for all, and what each of them is."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from spatialme.evaluation.baselines import DIFFUSION_METHODS, METHODS
from spatialme.evaluation.baselines.backward_warp import look_up
from spatialme.evaluation.baselines.stretch import stretch_rows
from spatialme.evaluation.run_method import MethodRunner, as_shot, disparity_range, warped_clips
from spatialme.flow import open_flow
from spatialme.inpaint import BRANCHES
from spatialme.refine import compose
from tests.scenes import square_scene

CPU = torch.device("cpu")
WEIGHT_FREE = [name for name in METHODS if not name.startswith("propainter") and name not in DIFFUSION_METHODS]
CHANGES_KNOWN_PIXELS = {"copy_left", "backward_warp", "everywhere"}  # all others start from the forward warp


@pytest.fixture(scope="module")
def scene():
    return square_scene(frames=3, square_velocity=(2.0, 0.0))


@pytest.fixture(scope="module")
def runs(scene):
    flow = open_flow("dis", CPU)
    return {name: MethodRunner(name, CPU, flow)(scene.left, scene.disparity) for name in WEIGHT_FREE}


@pytest.fixture(scope="module")
def warped(scene):
    return next(warped_clips(scene.left, scene.disparity))


@pytest.mark.parametrize("name", WEIGHT_FREE)
def test_every_method_gives_a_whole_finite_view_and_its_cost(name, runs, scene, warped):
    run = runs[name]
    assert run.view.shape == scene.left.shape
    assert bool(run.view.isfinite().all())
    assert run.view.min() >= 0
    assert run.view.max() <= 1
    assert run.seconds > 0
    assert run.peak_memory_mb > 0
    if name not in CHANGES_KNOWN_PIXELS:
        known = ~warped.hole.expand_as(run.view)
        assert torch.equal(run.view[known], warped.view.clamp(0, 1)[known])
    if name != "no_fill":
        assert run.view.amax(1).min() > 0.05, "a hole was left black; the scene has no colour below 0.05"


def test_every_branch_is_a_method():
    assert set(BRANCHES) | {"refined"} <= set(METHODS)


def test_copy_left_is_the_left_view(runs, scene):
    assert torch.equal(runs["copy_left"].view, scene.left)


def test_no_fill_is_black_in_holes(runs, warped):
    assert float(runs["no_fill"].view[warped.hole.expand(-1, 3, -1, -1)].max()) == 0


@pytest.mark.parametrize("name", [name for name in WEIGHT_FREE if name in BRANCHES])
def test_a_branch_fills_the_holes_with_its_own_answer(name, runs, warped, scene):
    branch = BRANCHES[name](CPU, "any")
    clips = warped_clips(scene.left, scene.disparity)
    clips = open_flow("dis", CPU).stream(clips) if branch.needs_motion else clips
    filled = next(iter(branch.stream(clips))).view.clamp(0, 1)
    hole = warped.hole.expand_as(filled)
    assert torch.equal(runs[name].view[hole], filled[hole])


def test_refined_mixes_the_three_branches(runs, warped):
    hole = warped.hole.expand(-1, 3, -1, -1)
    three = torch.stack([runs[name].view[hole] for name in ("poly", "propagation", "expansion")])
    refined = runs["everywhere"].view[hole]
    low, high = three.amin(0), three.amax(0)
    # the initial blend leaves 0.25 % to a colour of the network's own
    assert bool(((refined >= low - 0.005) & (refined <= high + 0.005)).all())
    composed = compose(warped.view.clamp(0, 1), warped.hole, runs["everywhere"].view, soft=True)
    torch.testing.assert_close(runs["refined"].view, composed)


def test_stretch_is_numpys_interpolation_along_each_row():
    random = np.random.default_rng(0)
    view = torch.from_numpy(random.random((2, 3, 5, 40), dtype=np.float32))
    hole = torch.from_numpy(random.random((2, 1, 5, 40)) < 0.5)
    hole[0, 0, 0] = True
    hole[0, 0, 1, :7] = True
    hole[0, 0, 1, 30:] = True
    found = stretch_rows(view, hole)
    columns = np.arange(40)
    for frame, channel, row in np.ndindex(2, 3, 5):
        known = ~hole[frame, 0, row].numpy()
        values = view[frame, channel, row].numpy()
        wanted = np.interp(columns, columns[known], values[known]) if known.any() else values
        np.testing.assert_allclose(found[frame, channel, row], wanted, atol=1e-6)


def test_backward_warp_reads_where_the_disparity_at_the_same_place_sends_it():
    random = np.random.default_rng(0)
    frames = torch.from_numpy(random.random((1, 3, 4, 30), dtype=np.float32))
    disparity = torch.from_numpy(random.uniform(-6, 6, (1, 1, 4, 30)).astype(np.float32))
    found = look_up(frames, disparity)
    columns = np.arange(30)
    for channel, row in np.ndindex(3, 4):
        wanted = np.interp(columns + disparity[0, 0, row].numpy(), columns, frames[0, channel, row].numpy())
        np.testing.assert_allclose(found[0, channel, row], wanted, atol=1e-5)  # float32 positions of 30 px


@pytest.mark.parametrize(("name", "algorithm"), [("telea", cv2.INPAINT_TELEA), ("navier_stokes", cv2.INPAINT_NS)])
def test_opencv_fills_the_holes_of_the_eight_bit_view(name, algorithm, runs, warped):
    frame = 1
    picture = (warped.view[frame] * 255).round().byte().permute(1, 2, 0).numpy()
    mask = warped.hole[frame, 0].numpy()
    wanted = cv2.inpaint(picture, mask.astype(np.uint8), 3.0, algorithm)[mask] / 255
    np.testing.assert_allclose(runs[name].view[frame].permute(1, 2, 0).numpy()[mask], wanted, atol=1e-6)


def test_results_do_not_depend_on_how_a_shot_is_cut_into_clips(runs, scene, monkeypatch):
    monkeypatch.setattr("spatialme.evaluation.run_method.CLIP_FRAMES", 1)
    flow = open_flow("dis", CPU)
    for name in ("refined", "telea"):
        assert torch.equal(MethodRunner(name, CPU, flow)(scene.left, scene.disparity).view, runs[name].view)


def test_the_range_of_disparity_leaves_mistakes_out_and_is_never_empty():
    disparity = torch.linspace(0, 10, 1001).view(1, 1, 7, 143)
    disparity[0, 0, 0, 0], disparity[0, 0, -1, -1] = -500, 500
    low, high = disparity_range(disparity)
    assert float(low) == pytest.approx(0.05, abs=0.02)
    assert float(high) == pytest.approx(9.95, abs=0.02)
    flat = disparity_range(torch.full((1, 1, 4, 4), 3.0))
    assert flat.tolist() == [3, 4]


def test_as_shot_is_one_whole_shot(scene):
    shot = as_shot(scene.left)
    assert shot.starts_shot
    assert shot.ends_shot
    assert len(shot) == scene.frames
