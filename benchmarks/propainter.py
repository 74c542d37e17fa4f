"""ProPainter here against pytorchcv's port, in one run: seconds per frame, peak memory, and what the fast mode costs.

    python benchmarks/propainter.py [--device cpu] [--size 432x240] [--frames 20] [--precision float32]

Both get the same seeded weights, the same frames of a textured scene that moves, a stereo-like mask (vertical strips on
3 % of the pixels) and the same flow, which is not timed here. pytorchcv (`pip install pytorchcv --no-deps`; left out
where it is not installed) runs as published: its generator once per window on that window's frames. Every row is a
process of its own, so that its peak memory is its own, and starts with two frames that are not timed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import tempfile
from collections.abc import Callable

import rows
import torch
import torch.nn.functional as F
from torch import Tensor, nn

HOLE_SHARE = 0.03
ROWS = {
    "pytorchcv, window by window": "pytorchcv",
    "here, exact": "exact",
    "here, default": "default",
}


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


def ours(options: argparse.Namespace, *, as_published: bool) -> Callable[[int], Tensor]:
    """A function that inpaints the first so many frames."""
    import spatialme_propainter as propainter

    device, dtype = torch.device(options.device), getattr(torch, options.precision)
    generator = seeded(propainter.InpaintGenerator()).to(device, dtype)
    if device.type == "cuda":
        generator = generator.to(memory_format=torch.channels_last)
    networks = propainter.Networks(generator, seeded(propainter.FlowCompletion()).to(device))
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


def run_one(options: argparse.Namespace) -> dict[str, float]:
    """Time one row in this process."""
    inpaint = theirs(options) if options.row == "pytorchcv" else ours(options, as_published=options.row == "exact")
    with torch.inference_mode():
        inpaint(2)
        with rows.measured(options.device) as figures:
            painted = inpaint(options.frames)
    torch.save(painted.cpu(), options.result)
    return figures


def psnr_in_holes(one: Tensor, other: Tensor, holes: Tensor) -> float:
    within = (holes > 0).expand_as(one)
    return float(-10 * torch.log10((one - other)[within].square().mean()))


def main() -> None:
    parser = rows.parser(__doc__, device="cpu")
    parser.add_argument("--size", default="432x240", help="multiples of 8")
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--precision", choices=["float32", "float16", "bfloat16"], default="float32")
    parser.add_argument("--result", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.row:
        options.size = tuple(map(int, options.size.split("x")))
        print(json.dumps(run_one(options)))
        return

    print(f"{options.size}, {options.frames} frames, {options.precision}; {rows.conditions(options)}\n")
    print("| | s / frame | processor s / frame | peak memory, GB | times faster | PSNR in holes against exact, dB |")
    print("|---|---|---|---|---|---|")
    size = tuple(map(int, options.size.split("x")))
    holes = scene(options.frames, *size)[1]
    pictures: dict[str, Tensor] = {}
    figures: dict[str, dict[str, float]] = {}
    for label, row in ROWS.items():
        if row == "pytorchcv" and importlib.util.find_spec("pytorchcv") is None:
            continue
        result = f"{tempfile.gettempdir()}/propainter_{os.getpid()}_{row}.pt"
        figures[row] = rows.run_row(row, "--result", result)
        pictures[row] = torch.load(result)
        os.unlink(result)
        first = next(iter(figures.values()))
        against = psnr_in_holes(pictures[row], pictures["exact"], holes) if row == "default" else None
        print(
            f"| {label} | {figures[row]['seconds'] / options.frames:.2f} | {figures[row]['busy'] / options.frames:.2f} "
            f"| {figures[row]['gigabytes']:.2f} "
            f"| {first['seconds'] / figures[row]['seconds']:.2f} | {'' if against is None else f'{against:.1f}'} |",
            flush=True,
        )
    if "pytorchcv" in pictures:
        difference = (pictures["pytorchcv"] - pictures["exact"]).abs() * (holes > 0)
        print(f"\nexact against pytorchcv: largest difference in holes {float(difference.max()) * 255:.0f} of 255")


if __name__ == "__main__":
    main()
