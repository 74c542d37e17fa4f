"""Lists of recordings: what a folder's scan cannot know, such as scenes, splits and licences.

    defaults: {licence: CC BY 4.0, commercial: true}
    clips:
      - {path: street/*.mp4, source: street}
      - {left: a.png, right: b.png, source: pairs, scene: hall, split: validation}

The same keys are a CSV's columns; a JSON or YAML file may also be the bare list. Paths are relative to the file, or to
the `root` that it names. An entry whose path is a folder or has wildcards stands for all that is there. What two
entries name belongs to the first.
"""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from spatialme.data.manifest import Split
from spatialme.errors import InputError
from spatialme.preparation.items import Dropped, Found, Item, clean, find_items, group
from spatialme.preparation.settings import ItemDefaults

LIST_SUFFIXES = frozenset((".csv", ".json", ".yaml", ".yml"))
YES, NO = frozenset(("yes", "true", "1")), frozenset(("no", "false", "0", ""))


def is_list(path: Path) -> bool:
    """Whether the name is that of a list."""
    return path.suffix.lower() in LIST_SUFFIXES


def read_list(path: Path, kind: Literal["stereo", "mono"], defaults: ItemDefaults) -> Found:
    """The items of a list.

    Raises:
        InputError: The list cannot be read, or an entry makes no sense.
    """
    shared, entries = _parse(path)
    root = path.parent / str(shared.get("root", "."))
    found = Found(())
    taken: set[tuple[Path, ...]] = set()
    for number, entry in enumerate(entries, 1):
        own = {key: value for key, value in entry.items() if value not in (None, "")}
        try:
            part = _expand({**shared.get("defaults", {}), **own}, root, kind, defaults)
        except (KeyError, ValueError) as error:
            raise InputError(f"{path}, entry {number}: {error.args[0]}") from None
        fresh = tuple(item for item in part.items if item.files not in taken)
        taken |= {item.files for item in fresh}
        found += Found(fresh, part.dropped)
    return found


def _parse(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a list of recordings ({error}); check the file") from None
    if path.suffix.lower() == ".csv":
        return {}, list(csv.DictReader(text.splitlines()))
    try:
        content = json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path} is no {path.suffix[1:].upper()} ({' '.join(str(error).split())}); mend it") from None
    shared = content if isinstance(content, dict) else {"clips": content}
    entries = shared.get("clips")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries) or not entries:
        raise InputError(f"{path} holds no list of recordings; expected clips: with a path or left and right for each")
    return shared, entries


def _expand(given: dict[str, Any], root: Path, kind: Literal["stereo", "mono"], defaults: ItemDefaults) -> Found:
    own = ItemDefaults(
        str(given.get("source") or defaults.source or root.name),
        str(given.get("licence") or defaults.licence),
        _yes(given.get("commercial", defaults.commercial)),
    )
    found = _files(given, root, kind, own)
    split = given.get("split")
    if split is not None and split not in get_args(Split):
        raise ValueError(f"split is {split!r}, expected one of {', '.join(get_args(Split))}")
    name = given.get("name") if len(found.items) == 1 else None
    items = []
    for item in found.items:
        item = replace(item, name=clean(str(name or item.name)), split=split)
        items.append(replace(item, scene=str(given.get("scene") or item.name)))
    return Found(tuple(items), found.dropped)


def _files(given: dict[str, Any], root: Path, kind: Literal["stereo", "mono"], own: ItemDefaults) -> Found:
    if "left" in given and "right" in given and kind == "stereo":
        left, right = root / str(given["left"]), root / str(given["right"])
        name = clean(left.stem)
        assert own.source is not None
        return Found((Item(name, (left, right), name, own.source, own.licence, own.commercial),))
    if "path" not in given:
        raise KeyError("it has no path" + (", nor left and right" if kind == "stereo" else ""))
    path = str(given["path"])
    if not any(sign in path for sign in "*?["):
        return find_items(root / path, kind, own)
    files = sorted(root.glob(path))
    if not files:
        return Found((), (Dropped(path, f"no file below {root} matches it"),))
    return group(files, root, kind, own)


def _yes(value: object) -> bool:
    word = str(value).lower()
    if word not in YES | NO:
        raise ValueError(f"commercial is {value!r}, expected yes or no")
    return word in YES
