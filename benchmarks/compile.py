"""What `--compile` gains, network by network: eager and compiled in turn, as a Markdown table.

    python benchmarks/compile.py [--device cpu] [--threads 1] [--rounds 10] [--only refiner]

Random weights, which cost what real ones do; `tiny` has its own. The time is the processor's on a CPU, which others on
the machine disturb least, and the clock's on a GPU, under the autocast of a conversion. The gain is the median over the
rounds of eager by compiled, with its range. PyTorch keeps compiled code between processes: name an empty folder in
TORCHINDUCTOR_CACHE_DIR to see what the first call costs without.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import rows
import stand_ins
import torch


def tiny(device: torch.device) -> tuple[Any, Callable[[Any], object]]:
    """The packaged depth network on one frame."""
    from spatialme.depth.tiny import TinyNetwork

    frame = torch.rand(1, 3, 720, 1280, device=device)
    return TinyNetwork(device=device), lambda network: network(frame)


def refiner(device: torch.device, height: int, width: int) -> tuple[Any, Callable[[Any], object]]:
    """The small refiner on one frame, or on a rectangle around holes."""
    from spatialme.refine import Refiner
    from spatialme.refine.mhfu import MHFU, SIZES

    branches = [torch.rand(1, 3, height, width, device=device) for _ in range(3)]
    hole = torch.rand(1, 1, height, width, device=device) < 0.1
    return Refiner(MHFU(SIZES["small"]), trained=True, device=device), lambda made: made.network(*branches, hole)


def raft(device: torch.device) -> tuple[Any, Callable[[Any], object]]:
    """RAFT for one more frame of 720p: encoded, and flow both ways at half the size, 12 updates."""
    from torchvision.models.optical_flow import raft_large

    from spatialme.flow.raft import Raft

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "raft.pth"
        torch.save(raft_large(weights=None, progress=False).state_dict(), path)
        method = Raft(path, device)
    frame, following = torch.rand(2, 3, 720, 1280, device=device)
    before = method.prepare(frame)
    return method, lambda made: made.both_ways(before, made.prepare(following))


def propainter_encoder(device: torch.device) -> tuple[Any, Callable[[Any], object]]:
    """ProPainter's encoder on the five frames that a window adds, 432x240."""
    import spatialme_propainter as propainter

    generator = _at_home(propainter.InpaintGenerator(), device)
    frames, masks = torch.rand(5, 3, 240, 432, device=device), torch.zeros(5, 1, 240, 432, device=device)
    frames = frames.to(next(generator.parameters()).dtype)
    return propainter.Networks(generator, None), lambda made: made.generator.encode(frames, masks, masks)


def propainter_propagation(device: torch.device) -> tuple[Any, Callable[[Any], object]]:
    """ProPainter's feature propagation over the eleven frames of a window, 432x240."""
    import spatialme_propainter as propainter

    generator = _at_home(propainter.InpaintGenerator(), device)
    features = torch.rand(1, 11, 128, 60, 108, device=device, dtype=next(generator.parameters()).dtype)
    masks, flows = torch.zeros(1, 11, 2, 60, 108, device=device), torch.zeros(1, 10, 2, 60, 108, device=device)
    return propainter.Networks(generator, None), lambda made: made.generator.propagate(features, masks, flows, flows)


def _at_home(generator, device: torch.device):
    """As `open_propainter` puts it there."""
    generator = generator.eval().requires_grad_(False).to(device)
    return generator.half().to(memory_format=torch.channels_last) if device.type == "cuda" else generator


CASES = {
    "tiny, one frame": tiny,
    "refiner small, 1280x720": lambda device: refiner(device, 720, 1280),
    "refiner small, 184x136": lambda device: refiner(device, 136, 184),
    "RAFT, one more frame of 1280x720": raft,
    "ProPainter's encoder, 5 frames of 432x240": propainter_encoder,
    "ProPainter's propagation, 11 frames of 432x240": propainter_propagation,
}


def main() -> None:
    parser = rows.parser(__doc__, device="cpu")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--only", default="", help="rows whose name holds this")
    options = parser.parse_args()
    stand_ins.prepare()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device = torch.device(options.device)
    print(f"{options.rounds} rounds; {rows.conditions(options)}\n")
    print("| | eager, ms | compiled, ms | gain (range) | first call: s, processor s |\n|---|---|---|---|---|")
    autocast = torch.autocast("cuda", torch.float16) if device.type == "cuda" else nullcontext()
    with torch.inference_mode(), autocast:
        for name, make in CASES.items():
            if options.only in name:
                print(f"| {name} | {compare(make, device, options.rounds)} |", flush=True)


def compare(make: Callable[[torch.device], tuple[Any, Callable]], device: torch.device, rounds: int) -> str:
    """The rest of a row."""
    from spatialme.networks import compiled

    def cost(stage: Any) -> float:
        clock = time.perf_counter if device.type == "cuda" else time.process_time
        began = clock()
        call(stage)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return clock() - began

    stage, call = make(device)
    (made,) = compiled((stage,), device)
    began, busy = time.perf_counter(), time.process_time()
    cost(made)
    first = f"{time.perf_counter() - began:.1f}, {time.process_time() - busy:.1f}"
    cost(stage)
    costs = [(cost(stage), cost(made)) for _ in range(rounds)]
    eager, quick = (1000 * statistics.median(each) for each in zip(*costs))
    gains = [before / after for before, after in costs]
    gain = f"{statistics.median(gains):.2f} ({min(gains):.2f} to {max(gains):.2f})"
    return f"{eager:.1f} | {quick:.1f} | {gain} | {first}"


if __name__ == "__main__":
    main()
