"""One run of `spatialme prepare`: items in, clips, manifest and report out."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from spatialme.data.manifest import CachedClip, CachedFile, Split, write_manifest
from spatialme.device import pick_device
from spatialme.disk import make_folder, write_text
from spatialme.errors import InputError, OptionError, OutputError
from spatialme.preparation.items import Item, find_items, split_of, with_own_names
from spatialme.preparation.lists import is_list, read_list
from spatialme.preparation.report import PreparationReport
from spatialme.preparation.settings import ItemDefaults, PrepareSettings
from spatialme.preparation.store import ClipRecord, ItemRecord, ItemStore
from spatialme.preparation.worker import one_thread, prepare_item, start_worker

MANIFEST, REPORT = "manifest.json", "report.json"


def run(
    path: Path,
    output: Path,
    settings: PrepareSettings,
    defaults: ItemDefaults,
    *,
    validation_share: float,
    validation: frozenset[str] | None,
    device: str,
    workers: int | None,
) -> PreparationReport:
    """Prepare and write; see `spatialme.preparation.commands.prepare`."""
    began = time.perf_counter()
    if workers is not None and workers < 1:
        raise OptionError(f"--workers is {workers}, expected 1 or more")
    where = str(pick_device(device))
    found = read_list(path, settings.kind, defaults) if is_list(path) else find_items(path, settings.kind, defaults)
    items = with_own_names(found.items)
    splits = _splits(items, validation, validation_share)
    settings = _resolved(settings, where)
    make_folder(output)
    records = _prepared(items, output, settings, where, workers or _cpus())
    seconds = time.perf_counter() - began
    report = PreparationReport.of(output, items, splits, records, dropped=found.dropped, seconds=seconds)
    write_text(output / REPORT, report.to_json())
    if not report.clips:
        raise InputError(f"nothing of {path} could be prepared: {report.dropped[0].name}: {report.dropped[0].reason}")
    pairs = zip(items, splits, records)
    write_manifest(
        output / MANIFEST,
        [_entry(item, split, clip, output) for item, split, record in pairs for clip in record.clips],
    )
    return report


def _splits(items: Sequence[Item], validation: frozenset[str] | None, share: float) -> list[Split]:
    """One per item, the same for all of a scene."""
    if not 0 <= share <= 1:
        raise OptionError(f"--validation-share is {share}, expected 0 to 1")
    unknown = sorted((validation or frozenset()) - {item.scene for item in items})
    if unknown:
        raise OptionError(f"--validation names {unknown[0]!r}, which is no scene here; a scene is named like its file")
    splits = [split_of(item, validation, share) for item in items]
    of_scene: dict[tuple[str, str], Split] = {}
    for item, split in zip(items, splits):
        if of_scene.setdefault((item.source, item.scene), split) != split:
            raise InputError(f"scene {item.scene!r} of {item.source} is in two splits; give all its entries one split")
    return splits


def _resolved(settings: PrepareSettings, device: str) -> PrepareSettings:
    """Settle what is automatic once, before the work: the same for all processes, and part of what clips depend on."""
    if settings.kind == "mono":
        from spatialme.depth import open_depth

        opened = open_depth(settings.depth, device=device)  # what is wrong with it is told before the work
        return replace(settings, depth=opened.name) if settings.depth == "auto" else settings
    from spatialme.evaluation.matching import open_matcher
    from spatialme.inpaint import propainter_ready

    if not Path(settings.disparity).is_dir():
        settings = replace(settings, disparity=open_matcher(settings.disparity, torch.device(device))[0])
    elif settings.mirrored:
        raise OptionError("--mirrored needs the right eye's disparity, and --disparity names maps; use raft or sgbm")
    if settings.inpaint == "auto":
        ready = device != "cpu" and propainter_ready("any")
        settings = replace(settings, inpaint="propainter" if ready else "propagation")
    return settings


def _prepared(
    items: Sequence[Item], output: Path, settings: PrepareSettings, device: str, workers: int
) -> list[ItemRecord]:
    """Every item's record, in the order of the items, whatever the number of processes."""
    with tqdm(total=len(items), unit="file", desc="prepare", disable=None) as progress:
        if min(workers, len(items)) > 1:
            return _in_processes(items, output, settings, device, workers, progress)
        records = []
        with one_thread():
            for item in items:
                records.append(prepare_item(item, output, settings, device))
                progress.update()
        return records


def _in_processes(
    items: Sequence[Item], output: Path, settings: PrepareSettings, device: str, workers: int, progress: tqdm
) -> list[ItemRecord]:
    records: dict[int, ItemRecord] = {}
    context = multiprocessing.get_context("spawn")  # a forked process must not use CUDA or OpenMP
    pool = ProcessPoolExecutor(min(workers, len(items)), context, start_worker)
    try:
        futures = {pool.submit(prepare_item, item, output, settings, device): index for index, item in enumerate(items)}
        for future in as_completed(futures):
            records[futures[future]] = future.result()
            progress.update()
    except BrokenProcessPool:
        raise OutputError(
            "a process was killed, perhaps for want of memory; run the same command again with fewer --workers: "
            "what is finished is kept"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
    return [records[index] for index in range(len(items))]


def _entry(item: Item, split: Split, clip: ClipRecord, output: Path) -> CachedClip:
    folder = ItemStore(output, item).clip_folder(clip.name)
    return CachedClip(
        kind="stereo" if "left" in clip.sha256 else "mono",
        name=f"{item.name}/{clip.name}",
        scene=item.scene,
        source=item.source,
        licence=item.licence,
        commercial=item.commercial,
        split=split,
        frames=clip.frames,
        width=clip.width,
        height=clip.height,
        files={name: CachedFile(folder / f"{name}.mkv", digest) for name, digest in clip.sha256.items()},
        known_psnr_db=clip.known_psnr_db,
    )


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
