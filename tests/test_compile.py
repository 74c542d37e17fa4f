"""`--compile`: the same picture but for the last bits, one program for all sizes, and nothing behind anyone's back."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from spatialme import networks
from spatialme.cli import main
from spatialme.depth import open_depth
from spatialme.depth.network import NetworkDepth
from spatialme.depth.tiny import TinyNetwork
from spatialme.errors import OptionError
from spatialme.film.fingerprint import picture_key
from spatialme.flow.estimator import FlowEstimator
from spatialme.flow.raft import Raft
from spatialme.inpaint.propainter import Propainter, PropainterExpansion
from spatialme.networks import compiled, held_networks
from spatialme.pipeline import Converter
from spatialme.refine import Refiner
from spatialme.refine.mhfu import MHFU, SIZES
from spatialme.settings import ConverterSettings
from spatialme.video.reader import open_source
from spatialme.video.writer import OutputOptions, plan_output
from tests import films, scenes

CPU = torch.device("cpu")
# Of sums in another order; half a step of a picture of 8 bits is 2e-3. Found: 1e-7 of a refined picture, 3e-7 of the
# range of `tiny`.
TOLERANCE = 1e-5


@pytest.fixture
def programs(monkeypatch) -> list[tuple[str, bool]]:
    """What would be compiled: the functions' names, and whether for any size. Nothing is compiled."""
    made = []

    def take_note(function, *, dynamic=None):
        made.append((function.__qualname__, dynamic))
        return function

    monkeypatch.setattr(networks, "_check_compiler", lambda device: None)
    monkeypatch.setattr(torch, "compile", take_note)
    return made


def random_refiner() -> Refiner:
    torch.manual_seed(0)
    network = MHFU(SIZES["small"])
    nn.init.normal_(network.tail[-1].weight, std=0.3)
    return Refiner(network, trained=True)


def test_every_kind_of_network_is_compiled_in_its_parts(programs, tmp_path):
    import spatialme_propainter as propainter
    from torchvision.models.optical_flow import raft_large

    torch.save(raft_large(weights=None, progress=False).state_dict(), tmp_path / "raft.pth")
    with torch.device("meta"):
        both = propainter.Networks(propainter.InpaintGenerator(), propainter.FlowCompletion())
    branches = [Propainter(both), PropainterExpansion(Propainter(both))]
    stages = (open_depth("tiny"), FlowEstimator(Raft(tmp_path / "raft.pth", CPU)), branches, random_refiner())
    compiled(stages, CPU)
    assert sorted(programs) == sorted(
        [
            ("TinyDepth.forward", False),
            ("MHFU.estimate", True),
            *[("FeatureEncoder.forward", False)] * 2,
            ("UpdateBlock.forward", False),
            ("MaskPredictor.forward", False),
            ("Encoder.forward", True),
            *[("DeformableAlignment.forward", False)] * 4,
        ]
    )


def test_compiling_leaves_the_originals_alone_and_shares_weights(programs):
    depth, blend = open_depth("tiny"), Refiner.untrained()
    stages = (depth, None, [random_refiner(), blend], blend)
    made = compiled(stages, CPU)
    assert made[2][1] is made[3]
    for old, new in zip(held_networks(stages), held_networks(made)):
        assert new is not old
        assert not any("forward" in vars(part) or "estimate" in vars(part) for part in old.modules())
        assert all(one is other for one, other in zip(old.parameters(), new.parameters()))
        assert list(old.state_dict()) == list(new.state_dict())


def test_a_stage_without_networks_stays_itself(programs):
    unlike = object()
    assert compiled((unlike, None), CPU) == (unlike, None)


def test_the_journals_key_tells_a_compiled_run_apart(programs, tmp_path):
    film = films.write_film(tmp_path / "film.mp4", (3,), gop=3, options={})
    with open_source(film) as source:
        plan = plan_output(tmp_path / "out.mp4", source, OutputOptions())
        keys = {
            picture_key(
                film,
                source.info,
                plan,
                Converter(ConverterSettings(depth="tiny", quality="draft", device="cpu", compile=choice)),
                start_seconds=None,
                keep_going=False,
            )
            for choice in (False, True)
        }
    assert len(keys) == 2
    assert programs == [("TinyDepth.forward", False)]  # of the second converter


def test_without_a_compiler_there_is_one_line(monkeypatch, tmp_path, capsys):
    def fail(function, **_):
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found\n\nSet TORCHDYNAMO_VERBOSE=1")

    monkeypatch.setattr(torch, "compile", fail)
    film = films.write_film(tmp_path / "film.mp4", (3,), gop=3, options={})
    assert main(["convert", str(film), str(tmp_path / "out.mp4"), "--depth", "tiny", "--compile"]) == 2
    assert capsys.readouterr().err == (
        "spatialme: --compile needs a C++ compiler (InvalidCxxCompiler: No working C++ compiler found); install it or "
        "leave --compile out\n"
    )
    assert not (tmp_path / "out.mp4").exists()
    with pytest.raises(OptionError, match="needs Triton and a C compiler"):
        networks._check_compiler(torch.device("cuda"))


@pytest.mark.slow
def test_the_compiler_is_looked_for_by_using_it(tmp_path):
    code = "import torch; from spatialme.networks import compiled; compiled((), torch.device('cpu'))"
    environment = {**os.environ, "CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert "OptionError: --compile needs a C++ compiler" in done.stderr.splitlines()[-1]
    assert "no-such-compiler" in done.stderr.splitlines()[-1]


@pytest.fixture
def forgetful():
    """Leaves nothing compiled behind, nor begins with it."""
    import torch._dynamo

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.usefixtures("forgetful")
def test_tiny_is_compiled_once_for_a_size_and_gives_the_same_depth():
    network = TinyNetwork(device=CPU, short_side=64)
    (compiled_depth,) = compiled((NetworkDepth(network),), CPU)
    frames = torch.rand(4, 3, 90, 160, generator=torch.Generator().manual_seed(0))
    wanted = torch.cat([network(frame[None]) for frame in frames])

    def one(index: int) -> torch.Tensor:
        with torch.inference_mode():
            return compiled_depth.network(frames[index : index + 1])

    with ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        found = torch.cat(list(pool.map(one, range(4))))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2  # the compiler's check is one
    assert (found - wanted).abs().max() < TOLERANCE * (wanted.max() - wanted.min())


@pytest.mark.slow
@pytest.mark.usefixtures("forgetful")
def test_the_refiner_is_compiled_for_rectangles_of_all_sizes_and_gives_the_same_picture():
    import torch._dynamo

    draw = torch.Generator().manual_seed(1)
    rectangles = []
    for height, width in [(136, 184), (144, 136), (160, 203), (133, 240), (152, 152)]:
        branches = [torch.rand(1, 3, height, width, generator=draw) for _ in range(3)]
        rectangles.append([*branches, torch.rand(1, 1, height, width, generator=draw) < 0.1])
    eager = random_refiner()
    found = []
    for order in (1, -1):  # whichever comes first and is compiled for
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        (refiner,) = compiled((eager,), CPU)
        with torch.inference_mode():
            found.append([refiner.network(*rectangle).fused for rectangle in rectangles[::order]][::order])
        # The compiler's check is one program; what begins with a square has another for squares. A frame's size adds
        # a few: oneDNN takes convolutions of many pixels only.
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == (2 if order == 1 else 3)
    for rectangle, one, other in zip(rectangles, *found):
        wanted = eager.network(*rectangle).fused
        assert (one - wanted).abs().max() < TOLERANCE
        assert torch.equal(one, other)


@pytest.mark.slow
@pytest.mark.usefixtures("forgetful")
def test_a_compiled_converter_gives_the_same_stereo():
    scene = scenes.square_scene(frames=3)
    settings = {"depth": "tiny", "depth_size": 64, "quality": "draft", "device": "cpu"}
    plain, made = (
        next(Converter(ConverterSettings(**settings, compile=choice)).stereo([scenes.clip(scene)])).right
        for choice in (False, True)
    )
    # a disparity's last bits move an edge's colours by as much
    assert (plain - made).abs().max() < 1e-2
    assert (plain - made).abs().mean() < 1e-5
