"""Several processes on one machine, each with a device of its own, share a film."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from spatialme.errors import OutputError
from spatialme.film.film import Film
from spatialme.film.produce import Missing
from spatialme.film.scan import scan, shares
from spatialme.film.stretch import Stretch, convert_stretch
from spatialme.pipeline import Converter
from spatialme.report import Tally, TallyParts
from spatialme.settings import ConverterSettings


@dataclass(frozen=True)
class Processes:
    """One process for each device; the result does not depend on their number."""

    devices: tuple[str, ...]

    def __call__(self, missing: Missing) -> int:
        """Convert what is missing.

        Raises:
            OutputError: A process died, of too little memory for example.
        """
        context = multiprocessing.get_context("spawn")  # a forked process could not use CUDA
        stopping = context.Event()
        threads = max(1, (os.cpu_count() or 1) // len(self.devices))
        with ExitStack() as stack:
            pools = [
                stack.enter_context(ProcessPoolExecutor(1, context, _prepare_process, (stopping, device, threads)))
                for device in self.devices
            ]
            stack.callback(stopping.set)  # runs before the pools wait for their processes
            try:
                return _share_out(missing, pools)
            except BrokenProcessPool as error:
                raise OutputError(
                    "a worker process died, perhaps of too little memory; give fewer --devices, or try again"
                ) from error


def _share_out(missing: Missing, pools: list[ProcessPoolExecutor]) -> int:
    """Hand a share to each process that has none until all is done; the scan goes on meanwhile."""
    stretches = missing_shares(missing)
    idle = list(pools)
    working: dict[Future[ShareOutcome], ProcessPoolExecutor] = {}
    made = 0
    while True:
        stretch = next(stretches, None) if idle else None
        if stretch is not None:
            pool = idle.pop()
            working[pool.submit(convert_share, missing.film, stretch)] = pool
            continue
        if not working:
            return made
        done, _ = wait(working, return_when=FIRST_COMPLETED)
        for future in done:
            idle.append(working.pop(future))
            made += take_note(missing, future.result())


@dataclass(frozen=True)
class ShareOutcome:
    """What a worker reports of a share."""

    segments: int  # made
    frames: int
    counted: TallyParts


def take_note(missing: Missing, outcome: ShareOutcome) -> int:
    """Add what a worker did to the film's count; returns the number of segments that it made."""
    missing.tally.add(outcome.counted)
    missing.on_frames(outcome.frames)
    return outcome.segments


def missing_shares(missing: Missing) -> Iterator[Stretch]:
    """What workers have to convert."""
    journal = missing.film.journal
    segments = missing.tally.clock.timed("scan", scan(missing.film))
    return shares(segments, missing.converter, missing.film, is_done=lambda start: journal.find(start) is not None)


def convert_share(film: Film, stretch: Stretch) -> ShareOutcome:
    """Convert one share in this process, on the device that it was started for."""
    film = replace(film, settings=replace(film.settings, device=_process["device"]))
    converter = open_converter(film.settings)
    frames, tally, stopping = 0, Tally(), _process["stopping"]

    def count(more: int) -> None:
        nonlocal frames
        frames += more
        if stopping.is_set():
            raise KeyboardInterrupt

    outcome = convert_stretch(film, converter, stretch, tally, on_frames=count)
    return ShareOutcome(outcome.segments, frames, tally.parts())


_process: dict[str, Any] = {}  # what this process was told when it started: its device, and an event to stop at


def _prepare_process(stopping: Any, device: str, threads: int) -> None:
    import numba
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the first process decides
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(threads)
    numba.set_num_threads(min(threads, numba.get_num_threads()))
    _process.update(device=device, stopping=stopping)


def _leave_with(parent: Any) -> None:
    """End this process when the one that started it is gone, killed perhaps."""
    parent.join()
    os._exit(1)


@lru_cache(maxsize=1)
def open_converter(settings: ConverterSettings) -> Converter:
    """A converter that serves one share after the other."""
    return Converter(settings)
