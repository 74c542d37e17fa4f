"""GPU memory of whole conversions, measured without a GPU, beside the count of `spatialme.memory`.

    python benchmarks/gpu_memory.py [--only fast] [--length 1] [--frames 40]

Tensors are PyTorch's fake ones: they have a device, `cuda`, and no values, so that every stage takes its way for a GPU,
half precision included. Added up are the bytes of all storages that are alive, and noted is the most at any time, with
the stages that had made them. Triton's kernels are not started, but what their callers allocate counts. Decisions that
need values are taken for the most work: to ProPainter every tile of every frame has a hole that no neighbour fills.

Not seen: the CUDA context and loaded kernels (`memory.CUDA_BYTES`), cuDNN's work spaces, and what PyTorch's allocator
loses in gaps. Networks have random weights: Depth Anything V2 Small at 518, RAFT, the refiner and, for `full`,
ProPainter. The lines `propainter` are about one such branch alone, with the warped clips that it is given (`given`).
Takes one to ten minutes a line, whatever the size.
"""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Iterator
from typing import Any
from unittest import mock

import stand_ins

SIZES = ((720, 1280), (1080, 1920), (2160, 3840))
FRAMES = {"draft": 24, "fast": 36, "full": 130, "propainter": 130}  # until as much waits as ever does
RAFT_ITERATIONS = 1  # memory does not depend on their number


def main() -> int:
    """Measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="lines whose name holds this, such as fast or full 1080")
    parser.add_argument("--length", type=int, help="frames per clip; as on a GPU of 80 GB when left out")
    parser.add_argument("--frames", type=int, help="in all; until nothing more is held when left out")
    options = parser.parse_args()
    stand_ins.prepare()
    print("| quality | size | frames per clip | measured | counted | made by, GB | at work |")
    print("|---|---|---|---|---|---|---|")
    for quality, frames in FRAMES.items():
        for height, width in SIZES:
            if options.only in f"{quality} {height}":
                measured = measure_branch if quality == "propainter" else measure
                print(measured(quality, height, width, options.length, options.frames or frames), flush=True)
    return 0


def measure(quality: str, height: int, width: int, length: int | None, frames: int) -> str:
    """A line of the table."""
    import torch
    from fake_gpu import Meter, Stages, pretended_gpu

    from spatialme import memory
    from spatialme.report import Tally

    clock = Stages()
    with pretended_gpu(), Meter(clock) as meter:
        converter = make_converter(quality, torch.device("cuda"))
        length = length or converter.clip_length(width, height)
        departing: deque[Any] = deque(maxlen=2)
        for stereo in converter.stereo(clock.timed("upload", clips(height, width, length, frames)), tally=Tally(clock)):
            departing.append(stereo.right.clamp(0, 1).mul(255).add_(0.5).to(torch.uint8))
        counted = memory.gpu_bytes(converter.reach, length, width * height) - memory.CUDA_BYTES
    return line(quality, height, width, length, meter, counted)


def measure_branch(quality: str, height: int, width: int, length: int | None, frames: int) -> str:
    """A line for one ProPainter branch; counted is what it holds and makes beside what it is given."""
    import gpu
    import torch
    from fake_gpu import Meter, Stages, pretended_gpu

    from spatialme import memory

    clock, length = Stages(), length or 4
    with pretended_gpu(), Meter(clock) as meter:
        branch = gpu.propainter_branches(torch.device("cuda"))[0]
        given = clock.timed("given", warped_clips(height, width, length, frames))
        with torch.inference_mode(), torch.autocast("cuda", dtype=torch.float16):
            for _ in clock.timed("propainter", branch.stream(given)):
                pass
    counted = (memory.PROPAINTER_BYTES + memory.PROPAINTING_BYTES) * height * width + memory.PORTION_BYTES
    return line(quality, height, width, length, meter, counted)


def line(quality: str, height: int, width: int, length: int, meter: Any, counted: int) -> str:
    """As it stands in the table."""
    made = ", ".join(f"{stage} {held / 1e9:.2f}" for stage, held in meter.peak.most_common(8))
    figures = f"{meter.peak_bytes / 1e9:.2f} | {counted / 1e9:.2f}"
    return f"| {quality} | {width}x{height} | {length} | {figures} | {made} | {meter.at_peak} |"


def make_converter(quality: str, device: Any) -> Any:
    """The converter of `gpu.py`; its RAFT comes without the detour through a file, which fake tensors cannot take."""
    import gpu

    with mock.patch.object(gpu, "random_raft", raft):
        return gpu.make_converter(quality, device, small=False)


def raft(device: Any, *, small: bool) -> Any:
    """The flow stage."""
    from torchvision.models.optical_flow import raft_large

    from spatialme.flow.estimator import FlowEstimator
    from spatialme.flow.raft import Raft

    with mock.patch.object(Raft, "__init__", return_value=None):
        method = Raft()  # type: ignore[call-arg]
    method._device, method._iterations = device, RAFT_ITERATIONS
    method._network = raft_large(weights=None, progress=False).to(device).eval().requires_grad_(False)
    return FlowEstimator(method)


def clips(height: int, width: int, length: int, frames: int) -> Iterator[Any]:
    """A shot of clips, made of 8-bit images as `shots.to_tensor` does it, and two wait, as in `film.eyes`."""
    import torch

    from spatialme.levels import resting
    from spatialme.types import Clip

    waiting: deque[Clip] = deque()
    for first in range(0, frames, length):
        levels = torch.zeros(length, height, width, 3, dtype=torch.uint8, device="cuda")
        images = levels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format).div_(255)
        waiting.append(resting(Clip(images, (None,) * length, first, 0, first == 0, first + length >= frames)))
        del levels, images
        if len(waiting) > 2:
            yield waiting.popleft()
    yield from waiting


def warped_clips(height: int, width: int, length: int, frames: int) -> Iterator[Any]:
    """A shot of warped clips with motion, as they wait on a GPU."""
    import torch

    from spatialme.flow.grid import bounded_size
    from spatialme.flow.raft import LONG_SIDE_PX
    from spatialme.types import Motion, WarpedClip

    def zeros(channels: int, size: tuple[int, int] = (height, width), dtype: torch.dtype = torch.int16) -> Any:
        return torch.zeros(length, channels, *size, dtype=dtype, device="cuda")

    grid = bounded_size(height, width, long_side=min(LONG_SIDE_PX, width // 2), multiple=8)
    for clip in clips(height, width, length, frames):
        flows = (zeros(2, grid, torch.float32) for _ in range(2))
        valid = (zeros(1, grid, torch.bool) for _ in range(2))
        yield WarpedClip(clip, zeros(1), zeros(3), zeros(1), zeros(1, dtype=torch.bool), None, Motion(*flows, *valid))


if __name__ == "__main__":
    sys.exit(main())
