"""The propagation and expansion branches, and what they are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from spatialme.flow import FlowEstimator
from spatialme.flow.dis import Dis
from spatialme.inpaint import background_torch, trace, trace_torch
from spatialme.inpaint.background import WIDEST_PX, fill_background
from spatialme.inpaint.background_torch import fill_background_torch
from spatialme.inpaint.expansion_branch import Expansion
from spatialme.inpaint.propagation import Propagation
from spatialme.levels import to_levels, to_steps
from spatialme.types import FilledView, Motion, WarpedClip, cut, join
from tests.scenes import LayeredScene, square_scene, true_warped_clip

FRAMES = 7
BUDGET = 5.0


@pytest.fixture(scope="module")
def scene() -> LayeredScene:
    """A square that leaves 4 to 5 px of its hidden background free in every frame."""
    return square_scene(
        width=240,
        height=120,
        frames=FRAMES,
        square_size=50,
        square_velocity=(5.0, 1.0),
        background_velocity=(0.7, 0.3),
        max_disparity_percent=BUDGET,
    )


@pytest.fixture(scope="module")
def moving(scene: LayeredScene) -> WarpedClip:
    """With the flow that DIS finds."""
    (clip,) = FlowEstimator(Dis()).stream([true_warped_clip(scene)])
    return clip


def knowing(scene: LayeredScene) -> WarpedClip:
    """With the true flow."""
    motion = Motion(scene.flow_forward, scene.flow_backward, scene.forward_visible, scene.backward_visible)
    return replace(true_warped_clip(scene), motion=motion)


def in_pieces(clip: WarpedClip, size: int) -> list[WarpedClip]:
    return [cut(clip, i, min(i + size, len(clip))) for i in range(0, len(clip), size)]


def fill(clip: WarpedClip, branch: Propagation | Expansion | None = None) -> FilledView:
    (filled,) = (branch or Propagation()).stream([clip])
    return filled


def behind_square(scene: LayeredScene, frame: int) -> Tensor:
    """(1, H, W): holes that the square opens, away from the frame's edges."""
    hole = scene.hole[frame].clone()
    hole[..., :20] = False
    hole[..., -20:] = False
    assert hole.sum() > 300
    return hole


def psnr(view: Tensor, truth: Tensor, where: Tensor) -> float:
    return float(-10 * (view - truth).square()[:, where[0]].mean().log10())


def test_what_the_square_uncovered_is_recovered(scene: LayeredScene) -> None:
    view = fill(knowing(scene)).view
    # one cubic look-up of a texture whose finest wave is 7 px long; 12 px of hole need 3 frames of history
    for frame in range(4, FRAMES):
        assert psnr(view[frame], scene.right[frame], behind_square(scene, frame)) > 35


def test_it_is_recovered_with_estimated_flow_too(scene: LayeredScene, moving: WarpedClip) -> None:
    view = fill(moving).view
    single = fill(moving, Propagation(reach=1)).view
    for frame in range(4, FRAMES):
        hole = behind_square(scene, frame)
        # up to four steps of DIS add up to a few tenths of a pixel, and the last pixels beside the square stay open
        assert psnr(view[frame], scene.right[frame], hole) > 28
        assert psnr(view[frame], scene.right[frame], hole) > psnr(single[frame], scene.right[frame], hole) + 3


def test_the_foreground_is_never_copied(scene: LayeredScene, moving: WarpedClip) -> None:
    painted = torch.where(moving.disparity > 0, torch.tensor([1.0, 0.0, 1.0]).view(1, 3, 1, 1), moving.view)
    painted = torch.where(moving.hole, 0.0, painted)
    view = fill(replace(moving, view=painted)).view
    magenta = view - torch.tensor([1.0, 0.0, 1.0]).view(1, 3, 1, 1)
    nearest = magenta.abs().amax(1, keepdim=True)[scene.hole].min()
    assert nearest > 0.35  # the background's own colours are at least that far from it


def test_a_frame_with_nothing_else_to_see_is_filled_from_itself(scene: LayeredScene, moving: WarpedClip) -> None:
    lone = replace(
        cut(moving, 3, 4),
        motion=Motion(*(torch.zeros_like(part[:1]) for part in vars(moving.motion).values())),
    )
    lone = replace(lone, clip=replace(lone.clip, starts_shot=True, ends_shot=True))
    filled = fill(lone).view[0]
    assert torch.equal(filled, fill_background(lone.view[0], lone.hole[0], lone.disparity[0]))


@pytest.mark.parametrize("size", [1, 3])
def test_the_result_does_not_depend_on_clip_cuts(moving: WarpedClip, size: int) -> None:
    branch = Propagation(reach=2)
    whole = fill(moving, branch)
    pieces = list(branch.stream(in_pieces(moving, size)))
    assert [len(piece) for piece in pieces] == [len(piece) for piece in in_pieces(moving, size)]
    assert torch.equal(join(pieces).view, whole.view)


def test_a_frame_depends_on_its_reach_only(moving: WarpedClip) -> None:
    changed = moving.view.clone()
    changed[0] = torch.where(moving.hole[0], 0.0, 0.5)
    reach = 2
    before, after = fill(moving, Propagation(reach)).view, fill(replace(moving, view=changed), Propagation(reach)).view
    assert not torch.equal(before[reach], after[reach])
    assert torch.equal(before[reach + 1 :], after[reach + 1 :])


def test_a_cut_resets(moving: WarpedClip) -> None:
    other = replace(moving, view=moving.view.flip(1), clip=replace(moving.clip, shot=1))
    first, second = Propagation().stream([moving, other])
    assert torch.equal(first.view, fill(moving).view)
    assert torch.equal(second.view, fill(other).view)


def test_a_static_shot_does_not_flicker(scene: LayeredScene) -> None:
    still = square_scene(width=240, height=120, frames=3, square_size=50, max_disparity_percent=BUDGET)
    (clip,) = FlowEstimator(Dis()).stream([true_warped_clip(still)])
    view = fill(clip).view
    assert torch.equal(view[0], view[1])
    assert torch.equal(view[0], view[2])


def test_motion_is_required(scene: LayeredScene) -> None:
    with pytest.raises(ValueError, match="put a FlowEstimator before"):
        fill(true_warped_clip(scene))


def test_reach_must_be_positive() -> None:
    with pytest.raises(ValueError, match="reach must be at least 1 frame, got 0"):
        Propagation(0)


@pytest.mark.parametrize("resting", [False, True])
def test_walking_in_pytorch_equals_walking_in_numba(moving: WarpedClip, resting: bool) -> None:
    motion = moving.motion
    assert motion is not None
    points = trace.background_points(moving.disparity[5], moving.hole[5])
    twins = trace_torch.background_points(moving.disparity[5], moving.hole[5])
    for name, ours, theirs in zip(points._fields, points, twins):
        assert torch.allclose(ours.double(), theirs.double(), atol=1e-5), name
    steps = [
        trace.Step(
            motion.backward[t],
            motion.backward_valid[t],
            motion.forward[t - 1],
            motion.forward_valid[t - 1],
            to_levels(moving.view[t - 1]) if resting else moving.view[t - 1],
            moving.hole[t - 1],
            to_steps(moving.disparity[t - 1]) if resting else moving.disparity[t - 1],
        )
        for t in (5, 4, 3, 2)
    ]
    numba, twin = trace.walk(points, steps), trace_torch.walk(points, steps)
    assert len(set(numba.steps.tolist())) >= 3  # some found at once, some later, some never
    # flow is float32 in one and float64 in the other, and a point may lie on a pixel's border
    same = numba.steps == twin.steps
    assert same.float().mean() > 0.999
    found = same & (numba.steps > 0)
    assert torch.allclose(numba.colour[found], twin.colour[found], atol=1e-4)


def striped(height: int, width: int) -> Tensor:
    """A picture that is the same in every row, with vertical stripes."""
    row = torch.linspace(0, 25, width).sin() * 0.4 + 0.5
    return row.expand(3, height, width).clone()


def holed(shape: tuple[int, int], columns: slice) -> Tensor:
    hole = torch.zeros(1, *shape, dtype=torch.bool)
    hole[..., columns] = True
    return hole


@pytest.mark.parametrize(("further", "source"), [(3.0, 19), (-3.0, 18)])
def test_the_second_pixel_of_the_background_is_repeated_unless_it_is_another_surface(
    further: float, source: int
) -> None:
    shape, hole = (9, 60), holed((9, 60), slice(10, 18))
    view, disparity = striped(*shape), torch.full((1, *shape), 3.0)
    disparity[..., :10] = 5.0  # the foreground
    disparity[..., 19:] = further
    disparity[..., 24:45] -= 9.0  # surfaces narrower than the holes lend no texture
    filled = fill_background(view, hole, disparity)
    assert torch.allclose(filled[:, :, 10:18], view[:, :, source : source + 1], atol=1e-6)  # all rows are alike
    beside_edge = fill_background(view, holed(shape, slice(50, 60)), disparity)
    assert torch.allclose(beside_edge[:, :, 50:], view[:, :, 49:50], atol=1e-6)  # no foreground there: the first one


def test_the_fill_never_shows_the_foreground() -> None:
    view = striped(20, 60) * 0.2
    view[:, :, :20] = 1.0
    disparity = torch.zeros(1, 20, 60)
    disparity[..., :20] = 6.0
    filled = fill_background(view, holed((20, 60), slice(20, 30)), disparity)
    assert filled[:, :, 20:30].max() < 0.25


def test_between_borders_of_one_surface_the_fill_fades_from_side_to_side() -> None:
    view = torch.zeros(3, 10, 50)
    view[:, :, 30:] = 1.0
    filled = fill_background(view, holed((10, 50), slice(20, 30)), torch.zeros(1, 10, 50))[0, 5, 20:30]
    assert (filled.diff() > 0).all()
    assert filled[0] < 0.35
    assert filled[-1] > 0.65


def test_rows_that_disagree_are_smoothed_into_each_other() -> None:
    """Alternating rows must not comb into the hole."""
    view = torch.zeros(3, 40, 60)
    view[:, ::2] = 1.0
    disparity = torch.zeros(1, 40, 60)
    disparity[..., :20] = 6.0
    filled = fill_background(view, holed((40, 60), slice(20, 40)), disparity)
    far = filled[:, 10:30, 20:30]
    assert (far[:, 1:] - far[:, :-1]).abs().max() < 0.1


@pytest.mark.parametrize("row", [0, 5])
def test_a_row_without_any_known_pixel_takes_its_neighbours(row: int) -> None:
    view, hole = striped(10, 40), torch.zeros(1, 10, 40, dtype=torch.bool)
    hole[:, row] = True
    filled = fill_background(view * ~hole, hole, torch.zeros(1, 10, 40))
    assert torch.equal(filled, view)


def test_a_frame_without_any_known_pixel_stays_as_it_is() -> None:
    black, everywhere = torch.zeros(3, 8, 8), torch.ones(1, 8, 8, dtype=torch.bool)
    assert torch.equal(fill_background(black, everywhere, torch.zeros(1, 8, 8)), black)


@pytest.mark.parametrize("density", [0.02, 0.5])
@pytest.mark.parametrize("band_pixels", [background_torch.BAND_PIXELS, 90 * 13])
def test_filling_in_pytorch_equals_filling_in_numba(
    density: float, band_pixels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_torch, "BAND_PIXELS", band_pixels)  # the smaller: bands that see their neighbours
    random = np.random.default_rng(0)
    shape = (50, 90)
    hole = random.random(shape) < density
    hole[10:20, 30:70] = hole[:, :5] = hole[25] = True
    disparity = torch.from_numpy(np.cumsum(random.choice([-2.0, 0.0, 0.0, 0.1, 2.0], shape), 1).astype(np.float32))
    view = torch.from_numpy(random.random((3, *shape)).astype(np.float32)) * ~torch.from_numpy(hole)
    arguments = view, torch.from_numpy(hole)[None], disparity[None]
    # sums of up to 33 weighted float32 colours, in two orders, twice
    assert torch.allclose(fill_background(*arguments), fill_background_torch(*arguments), atol=1e-5)
    assert WIDEST_PX * 2 + 1 == 33


@pytest.mark.parametrize("make", [Propagation, lambda: Propagation(reach=3)])
def test_known_pixels_are_kept(moving: WarpedClip, make: Callable[[], Propagation]) -> None:
    filled = fill(moving, make())
    known = (~moving.hole).expand_as(moving.view)
    assert torch.equal(filled.view[known], moving.view[known])
    assert torch.equal(filled.hole, moving.hole)


def test_expansion_fills_wider_holes_without_the_foreground(scene: LayeredScene, moving: WarpedClip) -> None:
    filled = fill(moving, Expansion(Propagation()))
    assert filled.hole.sum() > 0
    assert not torch.equal(filled.hole, moving.hole)
    # the square is red: more red than green, as nothing behind it is
    inside = behind_square(scene, 5)
    redness = (filled.view[5, 0] - filled.view[5, 1])[inside[0]]
    truth = (scene.right[5, 0] - scene.right[5, 1])[inside[0]]
    assert redness.max() < truth.max() + 0.1


def one_step(**changes: float | bool) -> trace.Step:
    """A still frame of 12 x 20 px all of background at disparity -2, coloured 0.25; changes apply all over."""
    shape = (1, 12, 20)
    hole = torch.full(shape, bool(changes.get("hole", False)))
    disparity = torch.full(shape, float(changes.get("disparity", -2.0)))
    way_back = torch.zeros(2, 12, 20)
    way_back[0] = changes.get("way_back", 0.0)
    return trace.Step(
        flow=torch.zeros(2, 12, 20),
        trusted=torch.full(shape, bool(changes.get("trusted", True))),
        way_back=way_back,
        way_back_trusted=torch.full(shape, bool(changes.get("way_back_trusted", True))),
        view=torch.full((3, 12, 20), 0.25),
        hole=hole,
        disparity=disparity,
    )


@pytest.mark.parametrize("backend", [trace, trace_torch])
@pytest.mark.parametrize(
    ("first", "found_after"),
    [
        (one_step(), 1),
        (one_step(hole=True), 2),  # not to be seen there yet
        (one_step(disparity=2.0), 0),  # the foreground hides it: lost, although the next frame shows the background
        (one_step(disparity=-9.0), 0),  # a surface behind it
        (one_step(trusted=False), 0),
        (one_step(way_back=3.0), 0),  # what is seen there came from elsewhere
        (one_step(way_back=3.0, way_back_trusted=False), 1),  # just uncovered: nobody knows where it came from
    ],
)
def test_a_point_is_found_goes_on_or_is_lost(backend: ModuleType, first: trace.Step, found_after: int) -> None:
    hole = holed((12, 20), slice(8, 11))
    disparity = torch.full((1, 12, 20), -2.0)
    disparity[..., :8] = 2.0
    points = backend.background_points(disparity, hole)
    found = backend.walk(points, [first, one_step()])
    assert (found.steps == found_after).all()
    if found_after:
        assert torch.allclose(found.colour, torch.tensor(0.25))


@pytest.mark.parametrize("backend", [trace, trace_torch])
def test_colours_beside_a_hole_or_a_foreground_are_not_copied(backend: ModuleType) -> None:
    points = trace.background_points(torch.full((1, 12, 20), -2.0), holed((12, 20), slice(8, 9)))
    step = one_step()
    step.hole[..., 10] = True  # two pixels from where the point lies
    assert (backend.walk(points, [step]).steps == 0).all()
    step.hole[..., 10], step.hole[..., 11] = False, True
    assert (backend.walk(points, [step]).steps == 1).all()
    step = one_step()
    step.disparity[..., 10] = 4.0
    assert (backend.walk(points, [step]).steps == 0).all()


def test_expansion_refuses_a_clip_without_its_depth_budget(moving: WarpedClip) -> None:
    with pytest.raises(ValueError, match="range_px"):
        fill(replace(moving, range_px=None), Expansion(Propagation()))
