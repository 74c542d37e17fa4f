"""The list of cached training clips: a JSON file beside them.

    {"version": 1, "clips": [{"kind": "stereo", "name": ..., "files": {"left": {"path": ..., "sha256": ...}, ...}}]}

Paths are relative to the manifest. Files are those of `clip_files`, one frame per frame.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from spatialme.disk import sha256, write_text
from spatialme.errors import InputError

VERSION = 1

Kind = Literal["stereo", "mono"]
Split = Literal["train", "validation", "test"]

FILES: dict[Kind, tuple[str, ...]] = {
    # both eyes, the base warp, the three branches (dl: video inpainting, de: on the expanded disparity), its holes
    "stereo": ("left", "right", "warped", "poly", "dl", "de", "hole"),
    "mono": ("frames", "nearness"),
}


@dataclass(frozen=True)
class CachedFile:
    """One lossless file."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class CachedClip:
    """One clip of a training collection."""

    kind: Kind
    name: str
    scene: str  # clips of one scene share a split
    source: str  # the collection that it comes from; a run weighs sources against each other
    licence: str
    commercial: bool  # weights trained on it may be used commercially
    split: Split
    frames: int
    width: int
    height: int
    files: dict[str, CachedFile]
    known_psnr_db: float | None = None  # stereo: of the warp outside its holes, after a gain and offset match

    def __post_init__(self) -> None:
        if self.kind not in FILES:
            raise ValueError(f"kind must be one of {', '.join(FILES)}, got {self.kind!r}")
        if self.split not in get_args(Split):
            raise ValueError(f"split must be one of {', '.join(get_args(Split))}, got {self.split!r}")
        if set(self.files) != set(FILES[self.kind]):
            raise ValueError(f"a {self.kind} clip has the files {', '.join(FILES[self.kind])}, got {list(self.files)}")
        if min(self.frames, self.width, self.height) < 1:
            raise ValueError(f"got {self.frames} frames of {self.width}x{self.height}, expected at least one pixel")

    def path(self, name: str) -> Path:
        """Where a file of the clip lies."""
        return self.files[name].path


def read_manifest(path: Path, *, check_hashes: bool = False) -> list[CachedClip]:
    """Read a manifest and see that its files are there.

    Args:
        path: The JSON file.
        check_hashes: Also read every file and compare its sha256.

    Raises:
        InputError: The manifest is missing or wrong, a file is missing or damaged, or a scene is in two splits.
    """
    try:
        content = json.loads(path.read_text())
        if content["version"] != VERSION:
            raise InputError(f"{path} is of version {content['version']}, expected {VERSION}; prepare it again")
        clips = [_parse(entry, path.parent) for entry in content["clips"]]
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); give the manifest of prepared clips") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no manifest of prepared clips ({error!r}); prepare it again") from None
    _check_splits(path, clips)
    for clip in clips:
        for file in clip.files.values():
            _check_file(file, check_hashes)
    return clips


def write_manifest(path: Path, clips: Sequence[CachedClip]) -> None:
    """Write the manifest of clips whose files lie in its folder or below."""
    entries = []
    for clip in clips:
        files = {
            name: {"path": file.path.relative_to(path.parent).as_posix(), "sha256": file.sha256}
            for name, file in clip.files.items()
        }
        entries.append({**dataclasses.asdict(clip), "files": files})
    write_text(path, json.dumps({"version": VERSION, "clips": entries}, indent=1) + "\n")


def cached_file(path: Path) -> CachedFile:
    """A file that lies on disk, with its hash."""
    return CachedFile(path, sha256(path))


def _parse(entry: dict, folder: Path) -> CachedClip:
    files = {name: CachedFile(folder / file["path"], file["sha256"]) for name, file in entry["files"].items()}
    return CachedClip(**{**entry, "files": files})


def _check_splits(path: Path, clips: Sequence[CachedClip]) -> None:
    splits: dict[tuple[str, str], str] = {}
    for clip in clips:
        found = splits.setdefault((clip.source, clip.scene), clip.split)
        if found != clip.split:
            raise InputError(f"{path}: scene {clip.scene!r} is in both {found} and {clip.split}; split by scene")


def _check_file(file: CachedFile, check_hashes: bool) -> None:
    if not file.path.is_file():
        raise InputError(f"{file.path} is missing, but the manifest lists it; prepare it again")
    if check_hashes and sha256(file.path) != file.sha256:
        raise InputError(f"{file.path} is not the file that was prepared (sha256 differs); prepare it again")
