"""What there is to prepare: files that belong together, found in a folder or named by a list."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from spatialme.data.manifest import Split
from spatialme.errors import InputError
from spatialme.preparation.settings import ItemDefaults
from spatialme.video.files import IMAGE_SUFFIXES, VIDEO_SUFFIXES, is_pattern

EYES = ("left", "right")


@dataclass(frozen=True)
class Item:
    """One recording: a video, a picture, numbered pictures, or a pair of these."""

    name: str  # also of its folder
    files: tuple[Path, ...]  # one, or the left eye's and the right eye's
    scene: str  # scenes never straddle two splits
    source: str
    licence: str
    commercial: bool
    split: Split | None = None  # None: by the scene's name


@dataclass(frozen=True)
class Dropped:
    """Something that was given and not prepared, or not wholly."""

    name: str
    reason: str


@dataclass(frozen=True)
class Found:
    """What an input holds."""

    items: tuple[Item, ...]
    dropped: tuple[Dropped, ...] = ()

    def __add__(self, other: Found) -> Found:
        return Found(self.items + other.items, self.dropped + other.dropped)


def find_items(path: Path, kind: Literal["stereo", "mono"], defaults: ItemDefaults) -> Found:
    """The items of a file, of a pattern of numbered images, or of a folder and all folders in it.

    Raises:
        InputError: A folder without media, or one that cannot be listed.
    """
    defaults = replace(defaults, source=defaults.source or path.stem or "prepared")
    if not path.is_dir():
        return group([path], path.parent, kind, defaults)
    try:
        files = sorted(file for file in path.rglob("*") if _is_media(file))
    except OSError as error:
        raise InputError(f"{path} cannot be listed: {error.strerror}; check its permissions") from error
    if not files:
        raise InputError(f"{path} holds no video and no image; expected files such as .mp4, .mkv, .png or .jpg")
    return group(files, path, kind, defaults)


def group(files: Sequence[Path], root: Path, kind: Literal["stereo", "mono"], defaults: ItemDefaults) -> Found:
    """Put together what belongs together: with stereo, ``X_left.*`` and ``X_right.*``; else every file is an item."""
    assert defaults.source is not None
    eyes: dict[Path, dict[str, Path]] = {}  # by the path that both would have without the eye
    for file in files:
        stem, eye = _without_eye(file) if kind == "stereo" else (file.parent if is_pattern(file) else file, "")
        eyes.setdefault(stem, {})[eye] = file
    items, dropped = [], []
    for stem, found in eyes.items():
        for eye, other in (EYES, EYES[::-1]):
            if eye in found and other not in found:
                dropped.append(Dropped(str(found[eye]), f"it has no {other} eye beside it; add it or rename the file"))
        alone = [(found[""],)] if "" in found else []
        both = [(found["left"], found["right"])] if found.keys() >= set(EYES) else []
        for paths in alone + both:
            name = item_name(stem, root)
            items.append(Item(name, paths, name, defaults.source, defaults.licence, defaults.commercial))
    return Found(tuple(items), tuple(dropped))


def item_name(path: Path, root: Path) -> str:
    """A name that is a folder's, out of where a file lies below `root`."""
    below = path.relative_to(root) if path.is_relative_to(root) and path != root else Path(path.name)
    return clean("__".join(below.with_name(below.stem if below.suffix else below.name).parts))


def clean(name: str) -> str:
    """What of a name can be a folder's on every system."""
    return re.sub(r"[^\w.+-]+", "_", name).strip("._") or "item"


def with_own_names(items: Iterable[Item]) -> list[Item]:
    """Give items of one name, such as a.png and a.jpg, numbers."""
    seen: dict[str, int] = {}
    named = []
    for item in items:
        count = seen[item.name.lower()] = seen.get(item.name.lower(), 0) + 1
        named.append(item if count == 1 else replace(item, name=f"{item.name}~{count}"))
    return named


def split_of(item: Item, validation: frozenset[str] | None, share: float) -> Split:
    """An item's split: by its list, by the scenes named, or by chance, which the scene's name alone decides."""
    if item.split is not None:
        return item.split
    if validation is not None:
        return "validation" if item.scene in validation else "train"
    digest = hashlib.sha256(f"{item.source}/{item.scene}".encode()).digest()
    return "validation" if int.from_bytes(digest[:8], "big") < share * 2**64 else "train"


def _without_eye(file: Path) -> tuple[Path, str]:
    """``a/b_left.png`` -> (``a/b``, ``left``); ``a/left.png`` -> (``a``, ``left``); others as they are."""
    if is_pattern(file):
        return _without_eye(file.parent)
    stem = file.stem
    for eye in EYES:
        if stem.lower() == eye:
            return file.parent, eye
        if stem.lower().endswith(f"_{eye}"):
            return file.with_name(stem[: -len(eye) - 1]), eye
    return file, ""


def _is_media(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES and not file.name.startswith(".") and file.is_file()
