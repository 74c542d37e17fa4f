"""Files that appear whole or not at all, so that a run killed at any moment leaves a finished thing or nothing.

And the folders they lie in, and their hashes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spatialme.errors import OutputError

BLOCK_BYTES = 1 << 20  # read at a time


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to: it becomes `path` when the block ends, and goes away when the block fails.

    Its name is this process's own, as two processes may make the same file.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8, whole or not at all."""
    with appearing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def make_folder(path: Path) -> None:
    """Make a folder for results, and those above it, where they are not there yet.

    Raises:
        OutputError: It cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path} cannot be made a folder: {error.strerror}; choose another") from error


def sha256(*paths: Path) -> str:
    """The hash of a file's content, or of several one after the other, as hexadecimal digits."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()
