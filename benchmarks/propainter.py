"""ProPainter here against pytorchcv's port, in one run: seconds per frame, peak memory, and what the fast mode costs.

    python benchmarks/propainter.py [--device cpu] [--size 432x240] [--frames 20] [--precision float32] [--compile]
    python benchmarks/propainter.py --device cuda --size 512x512,1280x720,1920x1080 --frames 40

The second is the command for a lent GPU. Both get the same seeded weights, the same frames of a textured scene that
moves and a stereo-like mask (vertical strips on 3 % of the pixels). pytorchcv (`pip install pytorchcv --no-deps`; left
out where it is not installed) runs as published: its generator once per window on that window's frames. `fast` is the
default in half precision (on a GPU; elsewhere in --precision). All take the scene's own flow; RAFT, random weights,
is timed beside: as published (frame size, 20 updates, float32) for pytorchcv and exact, else as a conversion runs it on
a GPU (at most half the size, 12 updates). On a GPU float32 means TF32. Every row is a process of its own, so that its
peak memory is its own; a few frames before it (all of them on a GPU) are not timed.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import rows
import stand_ins
import torch
import torch.nn.functional as F
from torch import Tensor, nn

HOLE_SHARE = 0.03
ROWS = {
    "pytorchcv, window by window": "pytorchcv",
    "here, exact": "exact",
    "here, default": "default",
    "here, fast": "fast",
}
AS_PUBLISHED = ("pytorchcv", "exact")


def scene(num_frames: int, width: int, height: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Colours (T, 3, H, W) with zero holes, holes (T, 1, H, W) float, flow forward and backward (T, 2, H, W).

    A smooth texture moves by (2, 1) px per frame; strips of holes lie on rows of their own and move otherwise, and one
    of them stands still with the texture, so that no frame shows what is behind it.
    """
    draw = torch.Generator().manual_seed(0)
    large = F.interpolate(
        torch.randn(1, 3, height // 8, width // 8, generator=draw), (2 * height, 2 * width), mode="bicubic"
    )
    colours, holes = [], torch.zeros(num_frames, 1, height, width)
    strip = max(4, width // 80)
    for t in range(num_frames):
        left, top = 2 * t % (width // 2), t % (height // 2)
        colours.append(large[0, :, top : top + height, left : left + width].clamp(-2, 2) / 2)
        rows = int(HOLE_SHARE * width * height / (4 * strip))
        for n in range(4):
            at = (n * width // 4 + 20 + (-left if n == 0 else 3 * t)) % (width - strip)
            first = n * height // 8
            holes[t, :, first : first + rows, at : at + strip] = 1
    forward = torch.tensor((-2.0, -1.0)).view(1, 2, 1, 1).expand(num_frames, 2, height, width)
    return torch.stack(colours) * (1 - holes), holes, forward, -forward


def seeded(network: nn.Module) -> nn.Module:
    from tests.seeded_weights import seeded_state

    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    network.load_state_dict(network.state_dict() | seeded_state(shapes))
    return network.eval()


def ours(options: argparse.Namespace) -> Callable[[int], Tensor]:
    """A function that inpaints the first so many frames."""
    import spatialme_propainter as propainter

    from spatialme.networks import compiled

    as_published = options.row in AS_PUBLISHED
    device, dtype = torch.device(options.device), getattr(torch, options.precision)
    if options.row == "fast" and device.type == "cuda":
        dtype = torch.float16
    generator = seeded(propainter.InpaintGenerator()).to(device, dtype)
    if device.type == "cuda":
        generator = generator.to(memory_format=torch.channels_last)
    networks = propainter.Networks(generator, seeded(propainter.FlowCompletion()).to(device))
    if options.compile:
        (networks,) = compiled((networks,), device)
    colours, holes, forward, backward = (part.to(device) for part in scene(options.frames, *options.size))
    schedule = propainter.PUBLISHED if as_published else propainter.Schedule()
    grid = (1.0, 1.0) if as_published else (0.5, 0.5)  # the default completes flow on its own, smaller grid

    def shrunk(maps: Tensor) -> Tensor:
        size = [int(-(-side * share // 8) * 8) for side, share in zip(maps.shape[2:], grid)]
        return F.interpolate(maps, size, mode="bilinear")

    frames = [
        propainter.ShotFrame(*frame)
        for frame in zip(
            colours.to(dtype), holes > 0, shrunk(forward) * grid[0], shrunk(backward) * grid[0], shrunk(holes) > 0
        )
    ]
    return lambda count: torch.stack(
        list(propainter.inpaint_shot(frames[:count], networks, schedule, as_published=as_published))
    )


def theirs(options: argparse.Namespace) -> Callable[[int], Tensor]:
    """The same by pytorchcv: flow completion and image propagation at once, the generator window by window."""
    import spatialme_propainter as propainter

    from tests import pytorchcv_networks as port

    device, dtype = torch.device(options.device), getattr(torch, options.precision)
    generator = port.port_of_generator(seeded(propainter.InpaintGenerator())).to(device, dtype)
    completion = port.port_of_flow_completion(seeded(propainter.FlowCompletion())).to(device)
    copier = port.port_of_image_propagation().to(device)
    parts = scene(options.frames, *options.size)

    def inpaint(count: int) -> Tensor:
        colours, holes, forward, backward = (part[None, :count].to(device) for part in parts)
        ahead, back = holes[:, :-1], holes[:, 1:].flip(1)
        forward, backward = forward[:, :-1], backward[:, 1:]
        forward = completion(forward * (1 - ahead), ahead)[0] * ahead + forward * (1 - ahead)
        turned = backward.flip(1)
        backward = (completion(turned * (1 - back), back)[0] * back + turned * (1 - back)).flip(1)
        filled, unfilled = port.run_image_propagation(copier, colours, holes, forward, backward)
        composed: list[Tensor | None] = [None] * count
        for centre in range(0, count, 5):
            local = [t for t in range(centre - 5, centre + 6) if 0 <= t < count]
            seen = [*local, *(t for t in range(0, count, 10) if t not in local)]
            flows = (forward[:, local[0] : local[-1]].to(dtype), backward[:, local[0] : local[-1]].to(dtype))
            maps = (filled[:, seen].to(dtype), flows, holes[:, seen].to(dtype), unfilled[:, seen].to(dtype))
            painted = port.run_generator(generator, *maps, len(local)).float().view(len(local), *colours.shape[2:])
            for t, image in zip(local, ((painted + 1) / 2 * 255).floor()):
                known = composed[t]
                composed[t] = image if known is None else (0.5 * known + 0.5 * image).floor()
        return torch.stack([image for image in composed if image is not None]) / 255

    return inpaint


def flow_between(options: argparse.Namespace) -> Callable[[int], object]:
    """A function that estimates the flow between the first so many frames, both ways."""
    from torchvision.models.optical_flow import raft_large

    from spatialme.flow.raft import Raft
    from spatialme.inpaint.propainter_flow import FullSizeRaft
    from spatialme.networks import compiled

    device = torch.device(options.device)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "raft.pth"
        torch.save(raft_large(weights=None, progress=False).state_dict(), path)
        raft = (FullSizeRaft if options.row in AS_PUBLISHED else Raft)(path, device)
    if options.compile and options.row not in AS_PUBLISHED:
        (raft,) = compiled((raft,), device)
    colours = (scene(options.frames, *options.size)[0].to(device) + 1) / 2

    def estimate(count: int) -> object:
        prepared = [raft.prepare(frame) for frame in colours[:count]]
        return [raft.both_ways(*pair) for pair in itertools.pairwise(prepared)]

    return estimate


def run_one(options: argparse.Namespace) -> dict[str, float]:
    """Time one row in this process."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    on_gpu = options.device.startswith("cuda")
    warm_up = options.frames if on_gpu else 2
    inpaint = theirs(options) if options.row == "pytorchcv" else ours(options)
    half = torch.autocast("cuda", torch.float16, enabled=on_gpu and options.row == "fast")  # as in a conversion
    with torch.inference_mode(), half:
        inpaint(warm_up)
        with rows.measured(options.device) as figures:
            painted = inpaint(options.frames)
        torch.save(painted.cpu(), options.result)
        estimate = flow_between(options)
        estimate(warm_up)
        with rows.measured(options.device) as flow_figures:
            estimate(options.frames)
    return {
        "seconds": figures["seconds"],
        "busy": figures["busy"],
        "flow": flow_figures["seconds"],
        "gigabytes": max(figures["gigabytes"], flow_figures["gigabytes"]),
    }


def psnr_in_holes(one: Tensor, other: Tensor, holes: Tensor) -> float:
    within = (holes > 0).expand_as(one)
    return float(-10 * torch.log10((one - other)[within].square().mean()))


def main() -> None:
    parser = rows.parser(__doc__, device="cpu")
    parser.add_argument("--size", default="432x240", help="multiples of 8; several with commas")
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--precision", choices=["float32", "float16", "bfloat16"], default="float32")
    parser.add_argument("--compile", action="store_true", help="our networks and RAFT through torch.compile")
    parser.add_argument("--result", help=argparse.SUPPRESS)
    options = parser.parse_args()
    stand_ins.prepare()
    torch.set_num_threads(options.threads)
    if options.row:
        options.size = tuple(map(int, options.size.split("x")))
        print(json.dumps(run_one(options)))
        return
    print(f"{options.frames} frames, {options.precision}{', compiled' * options.compile}; {rows.conditions(options)}")
    for size in options.size.split(","):
        compare(options, size)


def compare(options: argparse.Namespace, size: str) -> None:
    """Print the table of one size."""
    print(f"\n{size}\n")
    print("| | s / frame | processor s / frame | flow, s / frame | fps, flow counted in | peak memory, GB ", end="")
    print("| times faster | flow counted in | PSNR in holes against exact, dB |\n|---|---|---|---|---|---|---|---|---|")
    holes = scene(options.frames, *map(int, size.split("x")))[1]
    pictures: dict[str, Tensor] = {}
    figures: dict[str, dict[str, float]] = {}
    for label, row in ROWS.items():
        if row == "pytorchcv" and importlib.util.find_spec("pytorchcv") is None:
            continue
        result = f"{tempfile.gettempdir()}/propainter_{os.getpid()}_{row}.pt"
        try:
            found = figures[row] = rows.run_row(row, "--size", size, "--result", result)
        except subprocess.CalledProcessError as error:  # too little memory, say; the others shall still be measured
            print(f"| {label} | failed with exit code {error.returncode} |", flush=True)
            continue
        pictures[row] = torch.load(result)
        os.unlink(result)
        first = next(iter(figures.values()))
        whole, of_first = (each["seconds"] + each["flow"] for each in (found, first))
        against = ""
        if "exact" in pictures and row not in AS_PUBLISHED:
            against = f"{psnr_in_holes(pictures[row], pictures['exact'], holes):.1f}"
        print(
            f"| {label} | {found['seconds'] / options.frames:.3f} | {found['busy'] / options.frames:.3f} "
            f"| {found['flow'] / options.frames:.3f} | {options.frames / whole:.2f} | {found['gigabytes']:.2f} "
            f"| {first['seconds'] / found['seconds']:.2f} | {of_first / whole:.2f} | {against} |",
            flush=True,
        )
    if "pytorchcv" in pictures and "exact" in pictures:
        difference = (pictures["pytorchcv"] - pictures["exact"]).abs() * (holes > 0)
        print(f"\nexact against pytorchcv: largest difference in holes {float(difference.max()) * 255:.0f} of 255")


if __name__ == "__main__":
    main()
