"""Seconds and memory of the diffusion methods beside ours, on the same frames: what they cost, not what they show.

    python benchmarks/diffusion.py [--device cuda] [--networks full] [--size 512x512] [--frames 16] [--methods m2svid]

Random networks of the published sizes (``full``) or tiny ones of the same kinds, the published numbers of steps, rounds
and views; ours as `spatialme compare` runs it. All start from the left view and its disparity, so what is timed is the
warp, optical flow where it is needed, and the method. M2SVid's protocol is 16 frames of 512x512. Every row is a process
of its own, so that its peak memory is its own, and starts with three small frames that are not timed.
The null-text optimisation of StereoDiffusion stops early on real weights and hardly on random ones: an upper bound.
Needs the extra `diffusion`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import rows
import torch

OURS = ("poly", "propagation", "refined")
METHODS = (*OURS, "stereocrafter_25", "stereocrafter_1", "m2svid", "svg", "stereodiffusion")


def method_of(options: argparse.Namespace) -> Any:
    """The method, a diffusion method with random networks."""
    from spatialme.evaluation.baselines import method_spec
    from spatialme.evaluation.baselines.m2svid import M2Svid
    from spatialme.evaluation.baselines.stereocrafter import StereoCrafter, StereoCrafterSettings
    from spatialme.evaluation.baselines.stereodiffusion import StereoDiffusion
    from spatialme.evaluation.baselines.svg import Svg
    from tests.diffusion_networks import svd_networks, text_networks

    size, device = options.networks, torch.device(options.device)
    if options.row in OURS:
        return method_spec(options.row).make(device)
    if options.row.startswith("stereocrafter"):
        steps = int(options.row.rpartition("_")[2])
        return StereoCrafter(svd_networks(9, size, device), StereoCrafterSettings(steps=steps))
    if options.row == "m2svid":
        return M2Svid(svd_networks(13, size, device))
    with tempfile.TemporaryDirectory() as folder:
        kind = "video" if options.row == "svg" else "image"
        networks = text_networks(kind, Path(folder), size, device)
    return Svg(networks) if options.row == "svg" else StereoDiffusion(networks)


def run_one(options: argparse.Namespace) -> dict[str, float]:
    """Time one row in this process."""
    from spatialme.evaluation.run_method import warped_clips
    from spatialme.flow import open_flow

    device = torch.device(options.device)
    method, flow = method_of(options), open_flow("auto", device)

    def convert(frames: int, width: int, height: int) -> dict[str, float]:
        left = torch.rand(frames, 3, height, width, generator=torch.Generator().manual_seed(0)).to(device)
        disparity = torch.zeros(frames, 1, height, width, device=device)
        disparity[..., width // 3 : width // 2] = width / 50
        with torch.inference_mode(), rows.measured(options.device) as figures:
            warped = warped_clips(left, disparity)
            for view in method.stream(flow.stream(warped) if method.needs_motion else warped):
                view.cpu()
        return figures

    convert(3, 64, 64)
    return convert(options.frames, *options.size)


def main() -> None:
    parser = rows.parser(__doc__, device="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--networks", choices=["tiny", "full"], default="full" if torch.cuda.is_available() else "tiny")
    parser.add_argument("--size", default="512x512")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--methods", default=",".join(METHODS))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.row:
        options.size = tuple(map(int, options.size.split("x")))
        print(json.dumps(run_one(options)))
        return

    print(
        f"{options.networks} diffusion networks with random weights, {options.frames} frames of {options.size}; "
        f"{rows.conditions(options)}\n"
    )
    print("| | s / frame | processor s / frame | peak memory, GB |")
    print("|---|---|---|---|")
    for name in options.methods.split(","):
        figures = rows.run_row(name)
        seconds, busy = figures["seconds"] / options.frames, figures["busy"] / options.frames
        print(f"| {name} | {seconds:.3f} | {busy:.3f} | {figures['gigabytes']:.2f} |", flush=True)


if __name__ == "__main__":
    main()
