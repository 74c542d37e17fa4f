"""Names: which files are media, what a folder holds, and which files a printf pattern means."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from spatialme.errors import InputError

IMAGE_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".jpe", ".webp", ".tif", ".tiff", ".bmp", ".mpo"))
# fmt: off
VIDEO_SUFFIXES = frozenset((
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".vob", ".wmv", ".asf",
    ".flv", ".3gp", ".3g2", ".ogv", ".mxf", ".y4m", ".gif", ".nut", ".dv", ".h264", ".h265", ".hevc", ".ivf", ".obu",
))
# fmt: on
_NUMBER_PLACE = re.compile(r"%(0\d+)?d")


def expand_input(path: str | Path, *, recursive: bool = False) -> list[Path]:
    """The inputs that a path means: itself, or what a folder holds, in natural order (2 before 10).

    A folder with videos means those; one with images only means each image by itself. A sequence of images that is
    one film is given by a pattern instead, which is returned as it is. Hidden files and folders do not count.

    Args:
        path: A file, a folder or a pattern.
        recursive: Go through the folders inside a folder, too; one video anywhere makes it a folder of videos.

    Raises:
        InputError: if a folder holds no media or cannot be listed.
    """
    folder = Path(path)
    if not folder.is_dir():
        return [folder]
    try:
        files = list(_visible_files(folder, recursive))
    except OSError as error:
        raise InputError(f"{error.filename} cannot be listed: {error.strerror}; check its permissions") from error
    for suffixes in (VIDEO_SUFFIXES, IMAGE_SUFFIXES):
        found = [file for file in files if file.suffix.lower() in suffixes]
        if found:
            return sorted(found, key=lambda file: [_natural(part) for part in file.relative_to(folder).parts])
    hint = "" if recursive or all(entry.is_file() for entry in folder.iterdir()) else "; --recursive looks deeper"
    raise InputError(f"{folder} holds no video and no image; expected files such as .mp4, .mkv, .png or .jpg{hint}")


def _visible_files(folder: Path, recursive: bool) -> Iterator[Path]:
    for entry in folder.iterdir():
        if entry.name.startswith("."):
            continue
        if entry.is_file():
            yield entry
        elif recursive and entry.is_dir() and not entry.is_symlink():  # links to folders may lead round in circles
            yield from _visible_files(entry, recursive)


def is_image(path: Path) -> bool:
    """Whether the name is that of a still image."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def is_pattern(path: Path) -> bool:
    """Whether the name is a printf pattern such as ``frames/%05d.png``; the name of a file that exists is not."""
    return _NUMBER_PLACE.search(path.name) is not None and not path.exists()


def sequence_files(pattern: Path) -> dict[int, Path]:
    """The files that a pattern means, by number, in order.

    Raises:
        InputError: if none matches.
    """
    place = _NUMBER_PLACE.search(pattern.name)
    assert place is not None, "only called for a pattern"
    width = int(place.group(1) or 1)
    before, after = pattern.name[: place.start()], pattern.name[place.end() :]
    named = re.compile(re.escape(before) + r"(\d+)" + re.escape(after))
    found: dict[int, Path] = {}
    for file in pattern.parent.iterdir() if pattern.parent.is_dir() else ():
        match = named.fullmatch(file.name)
        if match and f"{int(match.group(1)):0{width}d}" == match.group(1):
            found[int(match.group(1))] = file
    if not found:
        example = f"{before}{1:0{width}d}{after}"
        raise InputError(f"no file matches the pattern {pattern}; expected numbered images such as {example}")
    return dict(sorted(found.items()))


def _natural(name: str) -> tuple[list[tuple[int, int | str]], str]:
    parts = [(0, int(part)) if part.isdigit() else (1, part.lower()) for part in re.split(r"(\d+)", name)]
    return parts, name
