"""The stages as a GPU runs them, on PyTorch's `meta` device: shapes without values.

There, whatever would wait for a device (reading a number, a copy to the host, a result as long as its values say)
raises, and so does an operation on tensors of two devices. Every stage takes the way of a device that is not the CPU.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torchvision.models.optical_flow import raft_large

from spatialme.depth.network import NetworkDepth
from spatialme.depth.tiny import TinyDepth, TinyNetwork
from spatialme.flow.dis import Dis
from spatialme.flow.estimator import FlowEstimator
from spatialme.flow.raft import Raft
from spatialme.inpaint import propagation, trace
from spatialme.pipeline import Converter
from spatialme.refine import Refiner
from spatialme.refine.mhfu import MHFU, SIZES
from spatialme.report import Tally
from spatialme.settings import ConverterSettings
from spatialme.types import Clip, Motion
from tests.meta_kernels import META, Recalled, install
from tests.scenes import square_scene, true_warped_clip

HEIGHT, WIDTH, LENGTH = 128, 160, 2


def clips(device: torch.device) -> list[Clip]:
    """A shot of two clips, a cut, and a shot of one clip."""
    made = []
    for number, (shot, starts, ends) in enumerate([(0, 1, 0), (0, 0, 1), (1, 1, 1)]):
        frames = torch.zeros(LENGTH, 3, HEIGHT, WIDTH, device=device)
        made.append(Clip(frames, (None,) * LENGTH, number * LENGTH, shot, bool(starts), bool(ends)))
    return made


@pytest.fixture(scope="module")
def raft(tmp_path_factory) -> FlowEstimator:
    path = tmp_path_factory.mktemp("raft") / "raft_large.pth"
    torch.save(raft_large(weights=None, progress=False).state_dict(), path)
    return FlowEstimator(Raft(path, META, iterations=1))


@pytest.fixture
def on_meta(monkeypatch):
    """Makes converters whose stages all run on the meta device."""
    install(monkeypatch.setattr)

    def make(flow: FlowEstimator | None = None, **choices) -> Converter:
        depth = NetworkDepth(TinyNetwork(device=META, model=TinyDepth().eval()))
        converter = Converter(ConverterSettings(device="cpu", **choices), depth=depth)
        converter.device = META
        if converter.flow:
            converter.flow = flow
            converter.refiner = Refiner(MHFU(SIZES["small"]), trained=True, device=META)
        return converter

    return make


def test_a_draft_never_waits_for_the_device(on_meta):
    check(on_meta(quality="draft", convergence="auto"))


@pytest.mark.slow
def test_three_branches_never_wait_for_the_device(on_meta, raft):
    check(on_meta(raft, quality="fast"))


def check(converter: Converter) -> None:
    tally = Tally()
    count = 0
    for stereo in converter.stereo(clips(META), tally=tally):
        for eye in (stereo.left, stereo.right):
            assert eye is None or (eye.device == META and eye.shape == stereo.clip.frames.shape)
        count += 1
    assert count == 3
    with pytest.raises((RuntimeError, NotImplementedError)):
        tally.check_disparity()  # as it must where values are read


def test_flow_found_on_the_cpu_goes_where_the_frames_are(monkeypatch):
    """`Dis` returns tensors of the CPU."""
    method = Dis()
    monkeypatch.setattr(method, "prepare", lambda frame: torch.zeros(frame.shape[1:]).byte().numpy())
    for _, motion in FlowEstimator(method).with_motion(clips(META), lambda clip: clip):
        assert {part.device for part in vars(motion).values()} == {META}


def test_filling_whole_frames_is_filling_the_list_of_their_holes(monkeypatch):
    scene = square_scene(width=96, height=40, frames=4, square_size=20, square_velocity=(5.0, 1.0))
    motion = Motion(scene.flow_forward, scene.flow_backward, scene.forward_visible, scene.backward_visible)
    clip = replace(true_warped_clip(scene), motion=motion)
    (wanted,) = propagation.Propagation(reach=2).stream([clip])

    def listed(disparity, hole, walks):
        """What the kernel returns, by the CPU's walk."""
        points = trace.background_points(disparity, hole)
        surface, answers = torch.full_like(disparity, torch.nan), []
        surface[0, points.row, points.column] = points.surface
        for steps in walks:
            found = trace.walk(points, steps)
            colour, count = torch.zeros(3, *hole.shape[1:]), torch.zeros(hole.shape[1:], dtype=torch.int32)
            colour[:, points.row, points.column] = found.colour.T
            count[points.row, points.column] = found.steps.int()
            answers.append(Recalled(count, colour))
        return surface, answers

    monkeypatch.setattr(propagation, "computes_with_triton", lambda device: True)
    monkeypatch.setattr(propagation, "_walk_everywhere", listed)
    (found,) = propagation.Propagation(reach=2).stream([clip])
    assert torch.equal(found.view, wanted.view)
    assert not torch.equal(found.view, clip.view)
