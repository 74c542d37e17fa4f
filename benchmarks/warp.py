"""Time of the forward warp per frame, both back ends: python benchmarks/warp.py [--repeats 9] [--device cuda]

Frames are noise, depth is smooth relief with hard steps at the default depth budget. Medians over the repeats, after
one run that compiles. Wall time counts on an idle machine; processor time (of all threads) also holds on a busy one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import numba
import torch
from torch import Tensor
from torch.nn import functional as F

from spatialme.warp import DisparityParams, ForwardWarp, to_disparity
from spatialme.warp.scanline import forward_warp_numba
from spatialme.warp.splat import forward_warp_torch

SIZES = {"720p": (720, 1280), "1080p": (1080, 1920)}
FRAMES = 4


def scene(height: int, width: int) -> tuple[Tensor, Tensor]:
    """`FRAMES` frames, (T, 3, H, W), and their disparity, (T, 1, H, W)."""
    generator = torch.Generator().manual_seed(0)
    relief = F.interpolate(torch.rand(FRAMES, 1, 9, 16, generator=generator), size=(height, width), mode="bicubic")
    blobs = F.interpolate(torch.rand(FRAMES, 1, 6, 9, generator=generator), size=(height, width), mode="bilinear")
    nearness = (0.4 * relief + 0.6 * (4 * blobs).floor() / 4).clamp(0, 1)
    return torch.rand(FRAMES, 3, height, width, generator=generator), to_disparity(nearness, DisparityParams())


def median_ms(
    warp: Callable[[Tensor, Tensor], ForwardWarp], frames: Tensor, disparity: Tensor, repeats: int
) -> tuple[float, float]:
    """Median wall and processor time per frame."""
    walls, processors = [], []
    for repeat in range(repeats + 1):
        wall, processor = time.perf_counter(), time.process_time()
        warp(frames, disparity)
        if frames.is_cuda:
            torch.cuda.synchronize()
        if repeat:  # the first one compiles
            walls.append((time.perf_counter() - wall) * 1000 / len(frames))
            processors.append((time.process_time() - processor) * 1000 / len(frames))
    return statistics.median(walls), statistics.median(processors)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"{numba.get_num_threads()} Numba threads, load average {load:.1f}, PyTorch on {options.device}\n")
    print("| size | numba ms/frame | processor ms | torch ms/frame | torch / numba |")
    print("|---|---|---|---|---|")
    for name, size in SIZES.items():
        frames, disparity = scene(*size)
        wall, processor = median_ms(forward_warp_numba, frames, disparity, options.repeats)
        frames, disparity = frames.to(options.device), disparity.to(options.device)
        torch_wall, _ = median_ms(forward_warp_torch, frames, disparity, options.repeats)
        print(f"| {name} | {wall:.1f} | {processor:.1f} | {torch_wall:.1f} | {torch_wall / wall:.2f} |")


if __name__ == "__main__":
    main()
