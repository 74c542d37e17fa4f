"""What the text after --depth may look like."""

from __future__ import annotations

from pathlib import Path

ARRAY_SUFFIXES = {".npz", ".npy"}
DISTANCE = ":distance"  # after an array's path: larger is farther


def is_array(name_or_path: str) -> bool:
    """Whether this names a numpy file."""
    return Path(name_or_path.removesuffix(DISTANCE)).suffix.lower() in ARRAY_SUFFIXES
