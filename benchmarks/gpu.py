"""One command for a lent GPU: first the kernels against the CPU, then frames per second by stage, and memory.

    python benchmarks/gpu.py [--seconds 25] [--only 720] [--device cuda] [--compile] [--small] [--without av,cv2]

Needs PyTorch, Triton, torchvision, transformers and safetensors; for what else is missing there are stand-ins, and
nothing is fetched. Exit code 1: a check failed; 2: no GPU. Within eight minutes with the defaults.

Frames are 8-bit images in memory; sending them to the GPU, and the finished eye back as 4:2:0 planes, counts; decoding,
cut detection and encoding do not. All networks but `tiny` have random weights, which cost what real ones do: Depth
Anything V2 Small at 518, RAFT, the refiner and, for `full`, ProPainter. As depth that means nothing, the frames'
brightness takes its place once it is computed. The rate is that of the clips that came out after the first three.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import stand_ins

sys.path.insert(0, os.path.dirname(__file__))
WARM_UP_CLIPS = 3


@dataclass(frozen=True)
class Case:
    """One line of the table; the targets are those of issue 6 for one H200."""

    quality: str
    height: int
    width: int
    target_fps: float | None


CASES = (
    Case("draft", 720, 1280, 200),
    Case("draft", 1080, 1920, 100),
    Case("fast", 1080, 1920, 60),
    Case("full", 1080, 1920, 12),
    Case("draft", 2160, 3840, None),
    Case("fast", 2160, 3840, None),
)
SMALL_CASES = (Case("draft", 96, 160, None), Case("fast", 96, 160, None))


def main() -> int:
    """Check, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=25, help="for each line of the table, after the first clips")
    parser.add_argument("--only", default="", help="lines whose name holds this, such as fast or 1080")
    parser.add_argument("--compile", action="store_true", help="networks through torch.compile; the checks without")
    parser.add_argument("--small", action="store_true", help="small frames and few of them: a rehearsal")
    parser.add_argument("--without", default="", help="packages to take as missing, for a rehearsal")
    options = parser.parse_args()
    missing = stand_ins.prepare([name for name in options.without.split(",") if name])

    import torch

    if options.device.startswith("cuda") and not torch.cuda.is_available():
        print("no CUDA device here; --device cpu --small rehearses")
        return 2
    device = torch.device(options.device)
    from gpu_checks import run_checks

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU, a rehearsal"
    how = ", compiled" if options.compile else ""
    print(f"{name}, PyTorch {torch.__version__}{how}, stand-ins for: {', '.join(missing) or 'nothing'}\n")
    good = run_checks(device)
    print("\n| quality | size | fps (target) | GPU memory | GPU ms/frame by stage |\n|---|---|---|---|---|")
    for case in SMALL_CASES if options.small else CASES:
        if options.only in f"{case.quality} {case.height}":
            try:
                row = measure(case, device, options.seconds, small=options.small, compile=options.compile)
            except Exception as error:  # the other lines shall still be measured
                good, row = False, f"- | - | {type(error).__name__}: {str(error).splitlines()[0][:300]}"
            target = f" ({case.target_fps:g})" if case.target_fps else ""
            print(f"| {case.quality} | {case.height} | {row.replace('@', target)} |", flush=True)
    return 0 if good else 1


def measure(case: Case, device, seconds: float, *, small: bool, compile: bool) -> str:
    """Run one case, a few frames of it where `small`; a row of the table, @ for the target."""
    import torch
    from gpu_scenes import encoding, endless

    from spatialme.colour_torch import DepartingPlanes
    from spatialme.profiling import TracingClock
    from spatialme.report import Tally

    converter = make_converter(case.quality, device, small=small)
    if compile:
        compile_networks(converter)
    gpu = device.type == "cuda"
    if gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    length = 2 if small else converter.clip_length(case.width, case.height)
    finished: list[float] = []  # when each clip had come back

    def goes_on() -> bool:
        if len(finished) <= WARM_UP_CLIPS:
            return not (small and finished)
        return finished[-1] - finished[WARM_UP_CLIPS] < seconds

    clock = TracingClock(device)
    tally = Tally(clock)
    clips = endless(case.height, case.width, length, device, goes_on=goes_on)
    departing: deque[DepartingPlanes] = deque()
    for stereo in converter.stereo(clock.timed("upload", clips), tally=tally):
        departing.append(DepartingPlanes(stereo.right, encoding()))
        if len(departing) > 1:
            departing.popleft().arrays()
            finished.append(time.perf_counter())
    departing.popleft().arrays()
    tally.check_disparity()
    finished.append(time.perf_counter())
    rate = (len(finished) - 1) * length / (finished[-1] - finished[0])
    if len(finished) > WARM_UP_CLIPS + 2:
        rate = (len(finished) - 1 - WARM_UP_CLIPS) * length / (finished[-1] - finished[WARM_UP_CLIPS])
    memory = torch.cuda.max_memory_reserved(device) / 1e9 if gpu else 0.0
    spent = [(cost.gpu_seconds if gpu else cost.seconds, cost.name) for cost in clock.costs()]
    stages = ", ".join(f"{name} {1000 * (cost or 0) / tally.frames:.2f}" for cost, name in spent)
    return f"{rate:.1f}@ | {memory:.2f} GB | {stages}; holes {100 * tally.hole_share:.1f} %"


def make_converter(quality: str, device, *, small: bool):
    """A converter whose networks have random weights."""
    import torch

    from spatialme import pipeline
    from spatialme.depth.network import NetworkDepth
    from spatialme.settings import ConverterSettings

    torch.manual_seed(0)
    if quality != "draft":
        # in place of OpenCV's search, which is for CPUs
        pipeline.open_flow = lambda engine, device: random_raft(device, small=small)
    settings = ConverterSettings(quality="draft" if quality == "draft" else "fast", device=str(device))
    converter = pipeline.Converter(settings, depth=NetworkDepth(ByBrightness(depth_network(device))))
    if quality == "draft":
        return converter
    from spatialme.refine import Refiner
    from spatialme.refine.mhfu import MHFU, SIZES

    size = "base" if quality == "full" else "small"
    converter.refiner = Refiner(MHFU(SIZES[size]), trained=True, device=device)
    if quality == "full":
        converter.branches[1:] = propainter_branches(device)
    return converter


def compile_networks(converter) -> None:
    """What `ConverterSettings.compile` does, for networks that were put into the converter afterwards."""
    from spatialme.networks import compiled

    by_brightness = converter.depth.network  # not ours, so not looked into
    stages = by_brightness.network, converter.flow, converter.branches, converter.refiner
    stages = compiled(stages, converter.device)
    by_brightness.network, converter.flow, converter.branches, converter.refiner = stages


def random_raft(device, *, small: bool):
    """The flow stage; fewer iterations where `small`."""
    import torch
    from torchvision.models.optical_flow import raft_large

    from spatialme.flow.estimator import FlowEstimator
    from spatialme.flow.raft import ITERATIONS, Raft

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "raft.pth"
        torch.save(raft_large(weights=None, progress=False).state_dict(), path)
        return FlowEstimator(Raft(path, device, iterations=1 if small else ITERATIONS))


def propainter_branches(device) -> Sequence:
    """The DL and DE branches, sharing networks."""
    import torch
    from spatialme_propainter import FlowCompletion, InpaintGenerator, Networks

    from spatialme.inpaint.propainter import Propainter, PropainterExpansion

    generator = InpaintGenerator().eval().requires_grad_(False).to(device)
    if device.type == "cuda":
        generator = generator.half().to(memory_format=torch.channels_last)
    networks = Networks(generator, FlowCompletion().eval().requires_grad_(False).to(device))
    return [Propainter(networks), PropainterExpansion(Propainter(networks))]


def depth_network(device):
    """Depth Anything V2 Small's layers; on a CPU `tiny`, for a rehearsal."""
    if device.type == "cpu":
        from spatialme.depth.tiny import TinyNetwork

        return TinyNetwork(device=device, short_side=64)
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    from spatialme.depth.anything import AnythingNetwork

    backbone = Dinov2Config(
        hidden_size=384,
        num_attention_heads=6,
        num_hidden_layers=12,
        image_size=518,
        patch_size=14,
        out_features=["stage3", "stage6", "stage9", "stage12"],
        apply_layernorm=True,
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=14,
        reassemble_hidden_size=384,
        neck_hidden_sizes=[48, 96, 192, 384],
        fusion_hidden_size=64,
        head_hidden_size=32,
    )
    return AnythingNetwork(DepthAnythingForDepthEstimation(config), name="random", device=device)


class ByBrightness:
    """Computes a network's answer, and gives the frames' brightness in its stead."""

    def __init__(self, network) -> None:
        self.network, self.name, self.device = network, network.name, network.device

    def __call__(self, frames):
        from torch.nn import functional as F

        answer = self.network(frames)
        size = answer.shape[-2:]
        return F.interpolate(frames.mean(1, keepdim=True), size=size, mode="bilinear", antialias=True).float()


if __name__ == "__main__":
    sys.exit(main())
