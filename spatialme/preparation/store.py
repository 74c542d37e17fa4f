"""Where prepared clips lie, and what tells that one is finished.

    OUT/clips/ITEM/key           what the item was made of and how; another one means: start afresh
    OUT/clips/ITEM/0000/*.mkv    the files of its first clip
    OUT/clips/ITEM/0000/clip.json    written after them: the clip is finished
    OUT/clips/ITEM/item.json     written last: so is the item

Everything appears by `os.replace`, so that a run killed at any moment leaves either a finished thing or nothing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spatialme.disk import write_text
from spatialme.preparation.items import Item
from spatialme.preparation.settings import PrepareSettings
from spatialme.video.files import is_pattern, sequence_files

VERSION = 2  # of what is computed; another one makes finished clips be done again


@dataclass(frozen=True)
class ClipRecord:
    """A finished clip."""

    name: str  # in its item
    first_frame: int  # number in the recording
    frames: int
    width: int
    height: int
    sha256: dict[str, str]  # by the manifest's names of the files, which are NAME.mkv
    known_psnr_db: float | None = None
    measured: dict[str, Any] = field(default_factory=dict)  # for the report


@dataclass(frozen=True)
class Outcome:
    """What became of one clip of an item."""

    name: str
    record: ClipRecord | None = None
    reason: str = ""  # why it was dropped


@dataclass(frozen=True)
class ItemRecord:
    """A finished item."""

    clips: tuple[ClipRecord, ...]
    dropped: tuple[tuple[str, str], ...] = ()  # clip ("" for the item's rest), reason
    warnings: tuple[str, ...] = ()


class ItemStore:
    """The folder of one item."""

    def __init__(self, output: Path, item: Item):
        self.folder = output / "clips" / item.name

    def open(self, key: str) -> None:
        """Make the folder, without what another key left there."""
        marker = self.folder / "key"
        if not marker.is_file() or marker.read_text() != key:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            write_text(marker, key)

    def clip_folder(self, name: str) -> Path:
        """Where a clip's files lie."""
        return self.folder / name

    def make_clip_folder(self, name: str) -> Path:
        """The same, made if it is not there."""
        folder = self.clip_folder(name)
        folder.mkdir(exist_ok=True)
        return folder

    def finished_clip(self, name: str) -> ClipRecord | None:
        """The record of a clip whose files are all there."""
        content = _read(self.clip_folder(name) / "clip.json")
        if content is None:
            return None
        record = ClipRecord(**content)
        there = all((self.clip_folder(name) / f"{file}.mkv").is_file() for file in record.sha256)
        return record if there else None

    def finished(self) -> ItemRecord | None:
        """The record of the item, if all its clips are there."""
        content = _read(self.folder / "item.json")
        if content is None:
            return None
        clips = [self.finished_clip(name) for name in content["clips"]]
        kept = tuple(clip for clip in clips if clip is not None)
        if len(kept) < len(clips):
            return None
        dropped = tuple((name, reason) for name, reason in content["dropped"])
        return ItemRecord(kept, dropped, tuple(content["warnings"]))

    def finish_clip(self, record: ClipRecord) -> None:
        """Note that a clip's files are all there."""
        write_text(self.clip_folder(record.name) / "clip.json", json.dumps(dataclasses.asdict(record), indent=1))

    def finish(self, record: ItemRecord) -> None:
        """Note that the item is done."""
        content = {
            "clips": [clip.name for clip in record.clips],
            "dropped": record.dropped,
            "warnings": record.warnings,
        }
        write_text(self.folder / "item.json", json.dumps(content, indent=1))


def item_key(item: Item, settings: PrepareSettings, more: Iterable[Path] = ()) -> str:
    """What an item's clips depend on: the settings, and name, size and time of its files and of `more` files."""
    facts: list[object] = [VERSION, dataclasses.asdict(settings)]
    for path in [*item.files, *more]:
        for file in sequence_files(path).values() if is_pattern(path) else [path]:
            state = file.stat()
            facts.append((file.name, state.st_size, state.st_mtime_ns))
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
