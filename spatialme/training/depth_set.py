"""A depth set: pictures with what is known of their depth, one file each, listed in `index.json`.

Labels come from stereo matching (known where both eyes agree, NaN elsewhere); a teacher's answer may stand beside them.
Written by `spatialme prepare-depth`, read by `depth_data`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from spatialme.disk import appearing, write_text
from spatialme.errors import InputError

INDEX = "index.json"
VERSION = 1
Split = Literal["train", "validation"]


@dataclass(frozen=True)
class DepthEntry:
    """One picture of a set; its file is ``NAME.npz``, a teacher's answer ``NAME.teacher.npy``."""

    name: str
    source: str  # pictures of one source share a weight in training
    split: Split
    licence: str
    commercial: bool  # whether weights trained on it may be used commercially
    labelled: bool  # stereo matching knows something of it


@dataclass(frozen=True)
class DepthPicture:
    """What a set holds of one picture."""

    rgb: NDArray[np.uint8]  # (H, W, 3)
    label: NDArray[np.float32]  # (H, W) inverse depth of any scale and offset, larger = nearer, NaN = unknown
    teacher: NDArray[np.float32] | None = None  # (H, W), the same; known everywhere
    following: NDArray[np.uint8] | None = None  # (H, W, 3) the video's next frame


def write_picture(folder: Path, name: str, picture: DepthPicture) -> None:
    """Store a picture, its label and the frame after it, whole or not at all."""
    arrays: dict[str, Any] = {"rgb": picture.rgb, "label": picture.label.astype(np.float16)}
    if picture.following is not None:
        arrays["following"] = picture.following
    with appearing(folder / f"{name}.npz") as partial, partial.open("wb") as file:
        np.savez(file, **arrays)


def write_teacher(folder: Path, name: str, answer: NDArray[np.float32]) -> None:
    """Store a teacher's answer, brought to [0, 1] as half floats hold no large numbers."""
    low, high = float(answer.min()), float(answer.max())
    unit = (answer - low) / max(high - low, np.finfo(np.float32).tiny)
    with appearing(folder / f"{name}.teacher.npy") as partial, partial.open("wb") as file:
        np.save(file, unit.astype(np.float16))


def read_picture(folder: Path, name: str) -> DepthPicture:
    """Read one picture.

    Raises:
        InputError: Its file is missing or damaged.
    """
    teacher = folder / f"{name}.teacher.npy"
    try:
        with np.load(folder / f"{name}.npz") as content:
            rgb, label = content["rgb"], content["label"].astype(np.float32)
            following = content.get("following")
        answer = np.load(teacher).astype(np.float32) if teacher.is_file() else None
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise InputError(f"{folder}/{name} cannot be read ({error}); run `spatialme prepare-depth` again") from None
    return DepthPicture(rgb, label, answer, following)


def write_index(folder: Path, entries: Sequence[DepthEntry]) -> None:
    """List the pictures of a set."""
    content = {"version": VERSION, "pictures": [asdict(entry) for entry in entries]}
    write_text(folder / INDEX, json.dumps(content, indent=1) + "\n")


def read_index(folder: Path) -> list[DepthEntry]:
    """The pictures of a set.

    Raises:
        InputError: There is no such set, or its index is not one of ours.
    """
    try:
        content = json.loads((folder / INDEX).read_text())
        if content["version"] != VERSION:
            raise ValueError(f"version {content['version']}")
        entries = [DepthEntry(**entry) for entry in content["pictures"]]
        if any(entry.split not in get_args(Split) for entry in entries):
            raise ValueError("a split that is neither train nor validation")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder} is no depth set ({error}); make one by `spatialme prepare-depth`") from None
    return entries
