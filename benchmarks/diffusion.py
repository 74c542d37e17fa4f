"""Seconds and memory of the diffusion methods, with random weights: what they cost, not what they show.

    python benchmarks/diffusion.py [--device cuda] [--networks full] [--size 512x512] [--frames 16] [--methods m2svid]

Networks of the published sizes (``full``) or tiny ones of the same kinds, the published numbers of steps, rounds and
views. M2SVid's protocol is 16 frames of 512x512. Every row is a process of its own, so that its peak memory is its own.
The null-text optimisation of StereoDiffusion stops early on real weights and hardly on random ones: an upper bound.
Needs the extra `diffusion`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
METHODS = ("stereocrafter_25", "stereocrafter_1", "m2svid", "svg", "stereodiffusion")


def method_of(options: argparse.Namespace) -> Any:
    """The method with random networks."""
    from spatialme.evaluation.baselines.m2svid import M2Svid
    from spatialme.evaluation.baselines.stereocrafter import StereoCrafter, StereoCrafterSettings
    from spatialme.evaluation.baselines.stereodiffusion import StereoDiffusion
    from spatialme.evaluation.baselines.svg import Svg
    from tests.diffusion_networks import svd_networks, text_networks

    size, device = options.networks, torch.device(options.device)
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
    """Time one row in this process, after a run on one frame of 64x64 px."""
    from spatialme.evaluation.run_method import warped_clips

    method, device = method_of(options), torch.device(options.device)
    on_gpu = device.type == "cuda"
    seconds = 0.0
    for frames, width, height in ((1, 64, 64), (options.frames, *options.size)):
        left = torch.rand(frames, 3, height, width, generator=torch.Generator().manual_seed(0)).to(device)
        disparity = torch.zeros(frames, 1, height, width, device=device)
        disparity[..., width // 3 : width // 2] = width / 50
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        with torch.inference_mode():
            for view in method.stream(warped_clips(left, disparity)):
                view.cpu()  # waits for the device
        seconds = time.perf_counter() - started
    peak = torch.cuda.max_memory_allocated() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds, "gigabytes": peak / 1e9}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--networks", choices=["tiny", "full"], default="full" if torch.cuda.is_available() else "tiny")
    parser.add_argument("--size", default="512x512")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--row", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.row:
        options.size = tuple(map(int, options.size.split("x")))
        print(json.dumps(run_one(options)))
        return

    gpu = torch.cuda.get_device_name() if options.device.startswith("cuda") else "no GPU"
    print(
        f"{options.networks} networks with random weights, {options.frames} frames of {options.size}; {gpu}, "
        f"{platform.machine()}, {os.cpu_count()} cores, {options.threads} threads, load {os.getloadavg()[0]:.1f}, "
        f"torch {torch.__version__}\n"
    )
    print("| | s / clip | s / frame | peak memory, GB |")
    print("|---|---|---|---|")
    for name in options.methods.split(","):
        words = [sys.executable, __file__, *sys.argv[1:], "--row", name]
        output = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
        figures = json.loads(output.splitlines()[-1])
        seconds = figures["seconds"]
        print(f"| {name} | {seconds:.1f} | {seconds / options.frames:.2f} | {figures['gigabytes']:.2f} |", flush=True)


if __name__ == "__main__":
    main()
