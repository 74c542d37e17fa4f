"""Optical flow: its stage, its check, its carrying to the other eye, and RAFT's weights."""

from __future__ import annotations

import itertools
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from spatialme.errors import WeightsError
from spatialme.flow import FlowEstimator, carry_flow, carry_motion, forward_backward_valid, open_flow
from spatialme.flow.dis import Dis
from spatialme.flow.grid import bounded_size
from spatialme.flow.raft import Raft, raft_things_to_torchvision
from spatialme.flow.reuse_torch import carry_flow_torch
from spatialme.flow.runs import BORDER, NO_BORDER, ROW, START, STEP, STOP, hole_runs
from spatialme.flow.runs_torch import hole_sides
from spatialme.types import Motion, WarpedClip, cut, join
from tests.scenes import LayeredScene, square_scene, true_warped_clip

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def scene() -> LayeredScene:
    return square_scene(
        width=320,
        height=180,
        frames=4,
        square_size=70,
        square_velocity=(3.0, 1.0),
        background_velocity=(-1.5, 0.5),
        max_disparity_percent=4,
    )


@pytest.fixture(scope="module")
def moving(scene: LayeredScene) -> WarpedClip:
    """The scene with the flow that DIS finds."""
    (clip,) = FlowEstimator(Dis()).stream([true_warped_clip(scene)])
    return clip


def true_motion(scene: LayeredScene) -> Motion:
    return Motion(scene.flow_forward, scene.flow_backward, scene.forward_visible, scene.backward_visible)


def error_px(flow: Tensor, truth: Tensor, where: Tensor) -> float:
    return float((flow - truth).norm(dim=1, keepdim=True)[where].mean())


def in_pieces(clip: WarpedClip, size: int) -> list[WarpedClip]:
    return [cut(clip, i, min(i + size, len(clip))) for i in range(0, len(clip), size)]


def test_dis_finds_known_motion(scene: LayeredScene, moving: WarpedClip) -> None:
    assert moving.motion is not None
    ahead = slice(0, -1)
    # patches straddle the square's edge; elsewhere the error is a few hundredths of a pixel
    assert error_px(moving.motion.forward[ahead], scene.flow_forward[ahead], scene.forward_visible[ahead]) < 0.2
    behind = slice(1, None)
    assert error_px(moving.motion.backward[behind], scene.flow_backward[behind], scene.backward_visible[behind]) < 0.2


def test_the_ends_of_a_shot_have_no_motion(moving: WarpedClip) -> None:
    assert moving.motion is not None
    assert not moving.motion.forward[-1].any()
    assert not moving.motion.forward_valid[-1].any()
    assert not moving.motion.backward[0].any()
    assert not moving.motion.backward_valid[0].any()


@pytest.mark.parametrize("size", [1, 3])
def test_motion_does_not_depend_on_clip_cuts(moving: WarpedClip, size: int) -> None:
    pieces = list(FlowEstimator(Dis()).stream(in_pieces(replace(moving, motion=None), size)))
    assert [len(piece) for piece in pieces] == [len(piece) for piece in in_pieces(moving, size)]
    again = join(pieces).motion
    assert again is not None
    assert moving.motion is not None
    for name in ("forward", "backward", "forward_valid", "backward_valid"):
        assert torch.equal(getattr(again, name), getattr(moving.motion, name)), name


def test_a_cut_resets_motion(moving: WarpedClip) -> None:
    bare = replace(moving, motion=None)
    first, second = FlowEstimator(Dis()).stream([bare, replace(bare, clip=replace(bare.clip, shot=1))])
    assert first.motion is not None
    assert second.motion is not None
    assert torch.equal(first.motion.forward, second.motion.forward)
    assert torch.equal(first.motion.backward, second.motion.backward)


def test_every_pair_is_computed_once(moving: WarpedClip) -> None:
    class Counting(Dis):
        pairs = 0
        prepared = 0

        def both_ways(self, first: np.ndarray, second: np.ndarray) -> tuple[Tensor, Tensor]:
            self.pairs += 1
            return super().both_ways(first, second)

        def prepare(self, frame: Tensor) -> np.ndarray:
            self.prepared += 1
            return super().prepare(frame)

    method = Counting()
    list(FlowEstimator(method).stream(in_pieces(moving, 1)))
    assert method.pairs == len(moving) - 1
    assert method.prepared == len(moving)


def test_a_stream_that_ends_inside_a_shot_is_refused(moving: WarpedClip) -> None:
    open_ended = replace(moving, clip=replace(moving.clip, ends_shot=False))
    with pytest.raises(ValueError, match="must have ends_shot"):
        list(FlowEstimator(Dis()).stream([open_ended]))


def test_dis_does_not_depend_on_threads(scene: LayeredScene) -> None:
    method = Dis()
    pair = method.prepare(scene.left[0]), method.prepare(scene.left[1])
    threads = cv2.getNumThreads()
    flows = []
    try:
        for number in (1, 2, 3):
            cv2.setNumThreads(number)
            flows.append(torch.stack(method.both_ways(*pair)))
    finally:
        cv2.setNumThreads(threads)
    assert torch.equal(flows[0], flows[1])
    assert torch.equal(flows[0], flows[2])


@pytest.mark.parametrize("size", [(16, 16), (17, 640), (300, 16), (9, 1300)])
def test_dis_takes_any_shape(size: tuple[int, int]) -> None:
    frame = torch.rand((3, *size), generator=torch.Generator().manual_seed(0))
    method = Dis()
    there, back = method.both_ways(method.prepare(frame), method.prepare(frame))
    assert there.shape == back.shape == (2, *method.grid(*size))
    assert there.isfinite().all()


def test_bounded_size_keeps_the_shape() -> None:
    assert bounded_size(1080, 1920, long_side=640) == (360, 640)
    assert bounded_size(240, 320, long_side=640) == (240, 320)
    assert bounded_size(1080, 1920, long_side=960, multiple=8) == (544, 960)
    assert bounded_size(1, 4000, long_side=640) == (1, 640)


def test_forward_backward_check_keeps_consistent_flow_and_drops_the_rest() -> None:
    forward = torch.zeros(1, 2, 8, 40)
    forward[:, 0] = 4.0
    backward = -forward
    backward[:, :, :, 20:24] = 0.0  # the way back from there does not lead home
    valid = forward_backward_valid(forward, backward)[0, 0]
    assert valid[:, :16].all()
    assert not valid[:, 16:20].any()
    assert not valid[:, 37:].any()  # x + 4 lies outside the picture
    assert valid[:, 20:36].all()


def test_true_flow_is_carried_exactly_and_filled_with_the_backgrounds(scene: LayeredScene) -> None:
    clip = replace(true_warped_clip(scene), motion=true_motion(scene))
    carried = carry_motion(clip, None, None)
    ahead, behind = slice(0, -1), slice(1, None)
    known = ~scene.hole & carried.forward_valid
    assert error_px(carried.forward[ahead], scene.flow_right_forward[ahead], known[ahead]) < 0.02
    known = ~scene.hole & carried.backward_valid
    assert error_px(carried.backward[behind], scene.flow_right_backward[behind], known[behind]) < 0.02
    assert error_px(carried.forward[ahead], scene.flow_right_forward[ahead], scene.hole[ahead]) < 0.02
    assert error_px(carried.backward[behind], scene.flow_right_backward[behind], scene.hole[behind]) < 0.02


def test_carried_dis_beats_dis_on_the_holed_view(scene: LayeredScene, moving: WarpedClip) -> None:
    ahead = slice(0, -1)
    carried = carry_motion(moving, None, None).forward[ahead]
    holed = replace(moving, clip=replace(moving.clip, frames=moving.view), motion=None)
    (direct,) = FlowEstimator(Dis()).stream([holed])
    assert direct.motion is not None
    truth = scene.flow_right_forward[ahead]
    assert error_px(carried, truth, ~scene.hole[ahead]) < 0.2  # the brief's bound is 0.1 to 0.3 px
    assert error_px(carried, truth, scene.hole[ahead]) < 0.2
    assert error_px(direct.motion.forward[ahead], truth, scene.hole[ahead]) > 1.0


def test_motion_in_depth_is_carried() -> None:
    """The correction for a change of disparity: a wall that is passed by, and approaches along its slant."""
    scene = square_scene(
        width=200,
        frames=2,
        square_size=0,
        background_nearness=0.5,
        background_slant=(0.9, 0.0),
        background_velocity=(8.0, 0.0),
        max_disparity_percent=10,
    )
    clip = replace(true_warped_clip(scene), motion=true_motion(scene))
    carried = carry_motion(clip, None, None)
    known = (~scene.hole & carried.forward_valid)[:1]
    change = (scene.flow_right_forward - scene.flow_forward)[:1, :1].abs().mean()
    assert change > 0.5  # there is something to correct
    assert error_px(carried.forward[:1], scene.flow_right_forward[:1], known) < 0.02


def test_a_small_change_of_disparity_is_noise(scene: LayeredScene) -> None:
    clip = replace(true_warped_clip(scene), motion=true_motion(scene))
    assert clip.motion is not None
    shifted = clip.source_disparity + 0.2  # px, under the dead zone
    arguments = clip.source_disparity, shifted, clip.disparity, clip.hole, "forward"
    same = clip.source_disparity, clip.source_disparity, clip.disparity, clip.hole, "forward"
    inside = (~clip.hole)[..., 40:-40]
    noisy, _ = carry_flow(clip.motion, *arguments)
    quiet, _ = carry_flow(clip.motion, *same)
    equal = (noisy == quiet).all(1, keepdim=True)[..., 40:-40][inside]
    assert equal.float().mean() > 0.97  # not where the bilinear look-up straddles the square's edge


@pytest.mark.parametrize("grid", [(180, 320), (90, 160), (67, 120)])
def test_carrying_in_pytorch_equals_carrying_in_numba(scene: LayeredScene, grid: tuple[int, int]) -> None:
    clip = true_warped_clip(scene)
    shrink = torch.tensor([grid[1] / 320, grid[0] / 180]).view(1, 2, 1, 1)
    flow = torch.nn.functional.interpolate(scene.flow_forward, grid, mode="nearest") * shrink
    valid = torch.rand((len(clip), 1, *grid), generator=torch.Generator().manual_seed(1)) > 0.3
    motion = Motion(flow, flow, valid, valid)
    following = clip.source_disparity.roll(-1, 0)
    numba = carry_flow(motion, clip.source_disparity, following, clip.disparity, clip.hole, "forward")
    twin = carry_flow_torch(flow, valid, clip.source_disparity, following, clip.disparity, clip.hole)
    # positions are float64 in both; a look-up may fall on either side of a pixel's border
    assert ((numba[0] - twin[0]).abs().amax(1) > 1e-3).float().mean() < 1e-3
    assert (numba[1] != twin[1]).float().mean() < 1e-3


def test_carrying_needs_motion(scene: LayeredScene) -> None:
    with pytest.raises(ValueError, match="without motion cannot be carried"):
        carry_motion(true_warped_clip(scene), None, None)


def test_a_run_belongs_to_its_farther_border() -> None:
    hole = np.zeros((4, 9), bool)
    hole[0, 3:5] = hole[1, 3:5] = hole[2, :2] = hole[2, 7:] = True
    hole[3] = True
    disparity = np.zeros((4, 9), np.float32)
    disparity[0, :3], disparity[1, 5:] = 4, 4
    runs = hole_runs(hole, disparity)
    table = [tuple(run[i] for i in (ROW, START, STOP, BORDER, STEP)) for run in runs]
    assert table == [(0, 3, 5, 5, 1), (1, 3, 5, 2, -1), (2, 0, 2, 2, 1), (2, 7, 9, 6, -1), (3, 0, 9, NO_BORDER, 0)]


def test_sides_in_pytorch_equal_runs_in_numba() -> None:
    random = np.random.default_rng(3)
    hole = random.random((40, 50)) < 0.5
    hole[7] = True
    disparity = random.integers(0, 4, hole.shape).astype(np.float32)  # with ties
    sides = hole_sides(torch.from_numpy(hole)[None, None], torch.from_numpy(disparity)[None, None])
    seen = 0
    for y, start, stop, border, step in hole_runs(hole, disparity):
        assert (sides.left[0, 0, y, start:stop] == start - 1).all()
        assert (sides.right[0, 0, y, start:stop] == stop).all()
        assert (sides.border[0, 0, y, start:stop] == border).all()
        assert (sides.step[0, 0, y, start:stop] == step).all()
        seen += stop - start
    assert seen == hole.sum()


@pytest.fixture(scope="module")
def raft_states() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Seeded weights of torchvision's network, and the same under the authors' names."""
    from torchvision.models.optical_flow import raft_large

    torch.manual_seed(0)
    ours = raft_large(weights=None, progress=False).state_dict()
    return ours, {authors_name(name): value for name, value in ours.items()}


def authors_name(name: str) -> str:
    """torchvision's name -> the authors', spelt out independently of the map under test."""
    parts = name.split(".")
    encoders = {"feature_encoder": "fnet", "context_encoder": "cnet"}
    if parts[0] in encoders:
        parts[0] = encoders[parts[0]]
        if parts[1] == "convnormrelu":
            parts[1:3] = ["conv1" if parts[2] == "0" else "norm1"]
        elif parts[1] == "conv":
            parts[1] = "conv2"
        elif parts[3].startswith("convnormrelu"):
            parts[3:5] = [("conv" if parts[4] == "0" else "norm") + parts[3][-1]]
    elif parts[0] == "mask_predictor":
        parts[:3] = (
            ["update_block", "mask", "0", parts[-1]] if parts[1] == "convrelu" else ["update_block", "mask", "2"]
        )
        parts = [*parts[:3], name.split(".")[-1]]
    elif parts[1] == "motion_encoder":
        layer = parts[2].replace("convcorr", "convc").replace("convflow", "convf")
        parts[1:4] = ["encoder", layer]
    elif parts[1] == "recurrent_block":
        parts[1:4] = ["gru", parts[3] + parts[2][-1]]
    return "module." + ".".join(parts)


def test_the_authors_raft_weights_load_strictly(raft_states: tuple[dict[str, Tensor], dict[str, Tensor]]) -> None:
    ours, authors = raft_states
    for name in [name for name in authors if ".downsample.1." in name]:
        authors[name.replace("downsample.1", "norm3")] = authors[name]  # the checkpoint holds these twice
    for known in (
        "module.fnet.layer1.0.conv1.weight",
        "module.cnet.norm1.running_mean",
        "module.fnet.conv2.bias",
        "module.update_block.encoder.convf2.weight",
        "module.update_block.encoder.conv.weight",
        "module.update_block.gru.convq2.bias",
        "module.update_block.flow_head.conv1.weight",
        "module.update_block.mask.2.weight",
    ):
        assert known in authors
    mapped = raft_things_to_torchvision(authors)
    assert mapped.keys() == ours.keys()
    assert all(torch.equal(mapped[name], ours[name]) for name in ours)


def test_raft_gives_the_same_from_either_file(raft_states, tmp_path) -> None:
    flows = []
    frames = torch.rand((2, 3, 64, 96), generator=torch.Generator().manual_seed(0))
    for name, state in zip(("torchvision", "authors"), raft_states):
        path = tmp_path / f"{name}.pth"
        torch.save(state, path)
        method = Raft(path, CPU, iterations=1)
        flows.append(torch.stack(method.both_ways(*(method.prepare(frame) for frame in frames))))
    assert flows[0].shape == (2, 2, *method.grid(64, 96)) == (2, 2, 128, 128)
    assert torch.equal(*flows)


def test_raft_encodes_each_frame_once_and_gives_the_networks_own_flow(raft_states, tmp_path) -> None:
    path = tmp_path / "raft.pth"
    torch.save(raft_states[0], path)
    method = Raft(path, CPU, iterations=3)
    encoded: list[Tensor] = []
    method._network.feature_encoder.register_forward_pre_hook(lambda _, inputs: encoded.append(*inputs))
    frames = torch.rand((3, 3, 264, 272), generator=torch.Generator().manual_seed(0))
    prepared = [method.prepare(frame) for frame in frames]
    pairs = [method.both_ways(*pair) for pair in itertools.pairwise(prepared)]
    assert [len(images) for images in encoded] == [1, 1, 1]
    for (first, second), (there, back) in zip(itertools.pairwise(encoded.copy()), pairs):
        wanted = method._network(torch.cat((first, second)), torch.cat((second, first)), num_flow_updates=3)[-1]
        # of a flow of up to 30 px; convolutions sum in another order for another batch
        torch.testing.assert_close(torch.stack((there, back)), wanted, atol=1e-3, rtol=0)
        assert wanted.abs().max() > 1


def test_raft_runs_at_half_resolution_or_less(raft_states, tmp_path) -> None:
    path = tmp_path / "raft.pth"
    torch.save(raft_states[0], path)
    method = Raft(path, CPU)
    assert method.grid(720, 1280) == (360, 640)
    assert method.grid(2160, 4096) == (504, 960)


def test_other_weights_are_refused(tmp_path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(1)}, path)
    with pytest.raises(WeightsError, match="does not hold RAFT-large"):
        Raft(path, CPU)
    path.write_bytes(b"nonsense")
    with pytest.raises(WeightsError, match="does not hold RAFT-large"):
        Raft(path, CPU)


def test_the_engine_is_chosen_by_device_and_weights(raft_states, tmp_path) -> None:
    path = tmp_path / "raft.pth"
    torch.save(raft_states[0], path)
    assert isinstance(open_flow("auto", CPU, find_weights=lambda name: path).method, Dis)
    assert isinstance(open_flow("dis", CPU).method, Dis)
    assert isinstance(open_flow("raft", CPU, find_weights=lambda name: path).method, Raft)
    assert isinstance(open_flow("auto", torch.device("cuda"), find_weights=lambda name: None).method, Dis)
    with pytest.raises(WeightsError, match="spatialme weights fetch raft-large"):
        open_flow("raft", CPU, find_weights=lambda name: None)
