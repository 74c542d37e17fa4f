"""The most memory held while something runs: on the GPU, by this process, or by a program and all it has started."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psutil
import torch

SAMPLE_SECONDS = 0.01  # between two looks at this process's memory
TREE_SAMPLE_SECONDS = 0.05  # and at a tree of processes, which takes longer to look at


@dataclass
class PeakMemory:
    """Filled when its watch ends."""

    megabytes: float = 0.0


@contextlib.contextmanager
def watched_memory(device: torch.device) -> Iterator[PeakMemory]:
    """Note the most memory that is held meanwhile: of the GPU, or of this process where there is none."""
    if device.type == "cuda":
        peak = PeakMemory()
        torch.cuda.reset_peak_memory_stats(device)
        yield peak
        peak.megabytes = torch.cuda.max_memory_allocated(device) / 2**20
        return
    process = psutil.Process()
    with _sampled(lambda: process.memory_info().rss, SAMPLE_SECONDS) as peak:
        yield peak


@contextlib.contextmanager
def watched_program(pid: int) -> Iterator[PeakMemory]:
    """Note the most memory that a program and all it has started hold together; shared pages count in each of them."""
    with _sampled(lambda: _tree_bytes(pid), TREE_SAMPLE_SECONDS) as peak:
        yield peak


@contextlib.contextmanager
def _sampled(held_bytes: Callable[[], int], every_seconds: float) -> Iterator[PeakMemory]:
    peak, ended = PeakMemory(held_bytes() / 2**20), threading.Event()

    def watch() -> None:
        over = False
        while not over:
            over = ended.wait(every_seconds)
            peak.megabytes = max(peak.megabytes, held_bytes() / 2**20)

    watcher = threading.Thread(target=watch, name="memory", daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()


def _tree_bytes(pid: int) -> int:
    try:
        root = psutil.Process(pid)
        processes = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    held = 0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):  # it has just ended, or is another user's
            held += process.memory_info().rss
    return held
