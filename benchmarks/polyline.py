"""Time of the poly branch per frame: python benchmarks/polyline.py [--repeats 9] [--threads 2]

Frames are noise (the worst case for caches), depth is smooth relief with hard steps at the default depth budget.
The wall time is what counts on an idle machine; the processor time (of all threads) also holds on a busy one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

import numba
import torch
from torch import Tensor
from torch.nn import functional as F

from spatialme.inpaint.polyline import rasterise_polylines

SIZES = {"720p": (720, 1280), "1080p": (1080, 1920)}
MAX_DISPARITY_PERCENT = 2.5


def scene(height: int, width: int) -> tuple[Tensor, Tensor]:
    """One frame, (1, 3, H, W), and its disparity, (1, 1, H, W): relief of 40 % of the budget on four hard steps."""
    generator = torch.Generator().manual_seed(0)
    relief = F.interpolate(torch.rand(1, 1, 9, 16, generator=generator), size=(height, width), mode="bicubic")
    blobs = F.interpolate(torch.rand(1, 1, 6, 9, generator=generator), size=(height, width), mode="bilinear")
    nearness = (0.4 * relief + 0.6 * (4 * blobs).floor() / 4).clamp(0, 1)
    frames = torch.rand(1, 3, height, width, generator=generator)
    return frames, MAX_DISPARITY_PERCENT / 100 * width * (nearness - 0.5)


def median_ms(frames: Tensor, disparity: Tensor, *, exact: bool, repeats: int) -> tuple[float, float]:
    """Median wall and processor time per frame, after one run that compiles."""
    rasterise_polylines(frames, disparity, exact=exact)
    walls, processors = [], []
    for _ in range(repeats):
        wall, processor = time.perf_counter(), time.process_time()
        rasterise_polylines(frames, disparity, exact=exact)
        walls.append(1000 * (time.perf_counter() - wall))
        processors.append(1000 * (time.process_time() - processor))
    return statistics.median(walls), statistics.median(processors)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the poly branch.")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=numba.get_num_threads())
    arguments = parser.parse_args()
    numba.set_num_threads(arguments.threads)
    torch.set_num_threads(arguments.threads)
    load = os.getloadavg()[0]
    print(f"{arguments.threads} threads on {os.cpu_count()} cores, load {load:.1f}, medians of {arguments.repeats}\n")
    print("| size | fast ms | fast fps | fast processor ms | stretch | exact ms | exact / fast |")
    print("|---|---|---|---|---|---|---|")
    for name, (height, width) in SIZES.items():
        frames, disparity = scene(height, width)
        fast, processor = median_ms(frames, disparity, exact=False, repeats=arguments.repeats)
        exact, _ = median_ms(frames, disparity, exact=True, repeats=max(1, arguments.repeats // 3))
        stretch = rasterise_polylines(frames, disparity)[1].float().mean().item()
        print(
            f"| {name} | {fast:.1f} | {1000 / fast:.0f} | {processor:.1f} | {stretch:.1%} | {exact:.0f} "
            f"| {exact / fast:.1f} |"
        )


if __name__ == "__main__":
    main()
