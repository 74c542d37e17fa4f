"""Where the output goes: its name, what kind of output that name means, and whether it may be written there."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Literal, Protocol

from spatialme.errors import OptionError, OutputError
from spatialme.video.codecs import CONTAINERS, IMAGE_ENCODERS
from spatialme.video.picture import SourceKind, StreamInfo

OutputKind = Literal["video", "image", "sequence"]

_PATTERN = re.compile(r"%0?\d*d")
_LONGEST_NAME_BYTES = 255 - len(".partial")


class NamedSource(Protocol):
    """What decides the output's name: known before the source is opened."""

    @property
    def path(self) -> Path: ...

    @property
    def kind(self) -> SourceKind: ...


class MediaSource(NamedSource, Protocol):
    """What the writer needs of `reader.Source`."""

    path: Path
    kind: SourceKind
    info: StreamInfo


def partial_path(path: Path) -> Path:
    """Where a file grows until it is whole."""
    return path.with_name(path.name + ".partial")


def matches_pattern(name: str, pattern: str) -> bool:
    """Whether a file name is one that the printf pattern makes."""
    found = _PATTERN.search(pattern)
    assert found is not None, "only called for a pattern"
    before, after = pattern[: found.start()], pattern[found.end() :]
    return re.fullmatch(re.escape(before) + r"\d+" + re.escape(after), name) is not None


def final_path(output: str | Path, source: NamedSource, token: str, video_extension: str) -> Path:
    """OUTPUT itself, or in a folder the input's name with the player's token.

    Args:
        output: As given; a folder exists or ends with a slash.
        source: The input.
        token: What players read from the name, such as ``_Full_SBS``.
        video_extension: For sources that become a video.
    """
    path = Path(output)
    if not (path.is_dir() or str(output).endswith(("/", os.sep))):
        return path
    extension = video_extension
    if source.kind == "image":
        extension = source.path.suffix.lower() if source.path.suffix.lower() in IMAGE_ENCODERS else ".png"
    stem = _PATTERN.sub("", source.path.stem).rstrip("_-. ") or source.path.parent.name or "output"
    return path / f"{stem}{token}{extension}"


def output_kind(path: Path, source: NamedSource) -> OutputKind:
    """What the name asks for.

    Raises:
        OptionError: an extension that is not written, or one that does not suit the input.
    """
    suffix = path.suffix.lower()
    if _PATTERN.search(path.name):
        kind: OutputKind = "sequence"
    elif suffix in CONTAINERS:
        kind = "video"
    else:
        kind = "image"
    if kind != "video" and suffix not in IMAGE_ENCODERS:
        known = ", ".join([*CONTAINERS, *IMAGE_ENCODERS])
        raise OptionError(f"OUTPUT {path} ends with {suffix or 'no extension'}, expected one of {known}, or a folder")
    if source.kind == "image" and kind != "image":
        raise OptionError(f"OUTPUT {path} is a {kind} but the input is one image; give a name that ends with .png")
    if source.kind != "image" and kind == "image":
        raise OptionError(
            f"OUTPUT {path} is one image but the input is a video; use .mp4, .mkv or a name like %05d.png"
        )
    return kind


def eye_paths(path: Path, kind: OutputKind) -> tuple[Path, Path]:
    """The names of the left and the right eye's file, or the patterns in two folders of their own."""
    if kind == "sequence" and not path.parent.exists():
        folder = path.parent
        return folder.with_name(f"{folder.name}_left") / path.name, folder.with_name(f"{folder.name}_right") / path.name
    return path.with_name(f"{path.stem}_left{path.suffix}"), path.with_name(f"{path.stem}_right{path.suffix}")


def check_place(path: Path, kind: OutputKind, source: MediaSource, *, overwrite: bool) -> None:
    """Refuse what must not be overwritten and where nothing can be written.

    Raises:
        OutputError: one of those.
    """
    if len(os.fsencode(path.name)) > _LONGEST_NAME_BYTES:
        raise OutputError(
            f"the name {path.name[:40]}... is longer than {_LONGEST_NAME_BYTES} bytes; give a shorter one"
        )
    folder = path.parent
    if kind == "sequence" and not folder.exists():
        folder = folder.parent  # the folder of a sequence is made, and appears with the pictures in it
    if not folder.is_dir():
        raise OutputError(f"{folder} is not an existing folder; create it or give another OUTPUT")
    for place in (path, partial_path(path)):
        if place.exists() and source.path.exists() and os.path.samefile(place, source.path):
            raise OutputError(f"OUTPUT {path} would overwrite the input; give another name")
    check_existing(path, kind, overwrite=overwrite)
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error.strerror}); give another folder") from error


def check_existing(path: Path, kind: OutputKind, *, overwrite: bool) -> None:
    """Refuse what must not be overwritten.

    Raises:
        OutputError: there is such a thing.
    """
    if path.is_dir():
        raise OutputError(f"OUTPUT {path} is a folder, expected a file name; give another OUTPUT")
    existing = path if path.exists() or path.is_symlink() else None
    if kind == "sequence" and path.parent.is_dir():
        existing = next((each for each in sorted(path.parent.iterdir()) if matches_pattern(each.name, path.name)), None)
    if existing is not None and not overwrite:
        raise OutputError(f"OUTPUT {existing} exists; add --overwrite or give another name")


def check_space(path: Path, needed_bytes: int) -> None:
    """Refuse a disk that is too full for a cautious estimate.

    Raises:
        OutputError: it is.
    """
    folder = path.parent if path.parent.is_dir() else path.parent.parent
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise OutputError(
            f"{folder} has {free / 1e9:.2f} GB free, OUTPUT needs at least {needed_bytes / 1e9:.2f} GB; free some or "
            "choose another drive"
        )
