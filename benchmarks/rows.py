"""What the benchmarks share whose rows are processes of their own, so that each peak memory is its own."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))


def parser(description: str | None, *, device: str) -> argparse.ArgumentParser:
    """The options of every such benchmark; `row` is what a row's process is told."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--device", default=device)
    made.add_argument("--threads", type=int, default=torch.get_num_threads())
    made.add_argument("--row", help=argparse.SUPPRESS)
    return made


def conditions(options: argparse.Namespace) -> str:
    """The machine, and how busy it is."""
    gpu = torch.cuda.get_device_name() if options.device.startswith("cuda") else "no GPU"
    return (
        f"{gpu}, {platform.machine()}, {os.cpu_count()} cores, {options.threads} threads, "
        f"load {os.getloadavg()[0]:.1f}, torch {torch.__version__}"
    )


def run_row(row: str, *more: str) -> dict[str, float]:
    """This program again, for one row: the figures that it prints."""
    words = [sys.executable, sys.argv[0], *sys.argv[1:], "--row", row, *more]
    output = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


@contextmanager
def measured(device: str) -> Iterator[dict[str, float]]:
    """Fill in the block's `seconds`, processor seconds (`busy`) and the process's or the GPU's peak `gigabytes`."""
    from spatialme.report import peak_memory_mb

    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    figures: dict[str, float] = {}
    started, busy = time.perf_counter(), time.process_time()
    yield figures
    if on_gpu:
        torch.cuda.synchronize()
    figures["seconds"], figures["busy"] = time.perf_counter() - started, time.process_time() - busy
    figures["gigabytes"] = torch.cuda.max_memory_allocated() / 1e9 if on_gpu else peak_memory_mb() * 2**20 / 1e9
