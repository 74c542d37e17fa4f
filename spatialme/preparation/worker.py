"""One item, wholly: what a process of `spatialme prepare` does. Tools are loaded once per process."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Iterator
from multiprocessing import parent_process
from pathlib import Path
from typing import Protocol

import av
import numba
import torch

from spatialme.errors import InputError, OutputError
from spatialme.preparation.items import Item
from spatialme.preparation.maps import map_files
from spatialme.preparation.settings import PrepareSettings
from spatialme.preparation.store import ClipRecord, ItemRecord, ItemStore, Outcome, item_key
from spatialme.video.files import is_pattern
from spatialme.video.opening import check_file


class Preparer(Protocol):
    """Makes the clips of one kind."""

    def prepare(self, item: Item, store: ItemStore, warnings: list[str]) -> Iterator[Outcome]:
        """Yield one outcome per clip, in order; finished ones are taken from the store."""


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread: results then cannot depend on how many there are, and other processes work beside it."""
    before = torch.get_num_threads(), numba.get_num_threads()
    _set_threads(1, 1)
    try:
        yield
    finally:
        _set_threads(*before)


def start_worker() -> None:
    """Make this process a worker, which does not outlive its parent."""
    _set_threads(1, 1)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()


def _set_threads(for_torch: int, for_numba: int) -> None:
    torch.set_num_threads(for_torch)
    numba.set_num_threads(for_numba)


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def prepare_item(item: Item, output: Path, settings: PrepareSettings, device: str) -> ItemRecord:
    """Prepare an item, or what is missing of it.

    What is wrong with the item is told in its record, and does not stop the others.

    Raises:
        SpatialmeError: The output cannot be written, or weights are missing: nothing else would work, either.
    """
    store = ItemStore(output, item)
    try:
        for path in item.files:
            if not is_pattern(path):
                check_file(path)
        key = item_key(item, settings, map_files(settings.disparity, item))
    except InputError as error:
        return ItemRecord((), (("", str(error)),))
    try:
        store.open(key)
        record = store.finished()
        if record is None:
            record = _prepare(item, store, settings, device)
            store.finish(record)
        return record
    except OSError as error:
        raise OutputError(f"{store.folder} cannot be written ({error}); make room and run again") from None


def _prepare(item: Item, store: ItemStore, settings: PrepareSettings, device: str) -> ItemRecord:
    clips: list[ClipRecord] = []
    dropped: list[tuple[str, str]] = []
    warnings: list[str] = []
    try:
        for outcome in _preparer(settings, device).prepare(item, store, warnings):
            if outcome.record is None:
                dropped.append((outcome.name, outcome.reason))
            else:
                clips.append(outcome.record)
    except (InputError, av.FFmpegError) as error:
        dropped.append(("", " ".join(str(error).split())))
    return ItemRecord(tuple(clips), tuple(dropped), tuple(warnings))


@functools.lru_cache(maxsize=1)
def _preparer(settings: PrepareSettings, device: str) -> Preparer:
    if settings.kind == "mono":
        from spatialme.preparation.mono import MonoPreparer

        return MonoPreparer(settings, torch.device(device))
    from spatialme.preparation.stereo import StereoPreparer

    return StereoPreparer(settings, torch.device(device))
