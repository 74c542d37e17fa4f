"""MPO: several JPEGs in one file, found by the index in the first (CIPA DC-007, Multi-Picture Format)."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np

from spatialme.errors import InputError
from spatialme.preparation.shots import Picture

INDEX_SEGMENT, SEGMENT_NAME = 0xE2, b"MPF\0"
PICTURE_COUNT, PICTURE_ENTRIES = 0xB001, 0xB002  # tags of the index
ENTRY_BYTES = 16


def read_mpo(path: Path) -> tuple[Picture, Picture]:
    """The first two pictures, (H, W, 3) RGB each: by the format's custom left, then right.

    Raises:
        InputError: The file has no index, or not two pictures.
    """
    content = path.read_bytes()
    try:
        parts = [content[start : start + size] for start, size in _places(content)]
        decoded = [cv2.imdecode(np.frombuffer(part, np.uint8), cv2.IMREAD_COLOR) for part in parts[:2]]
    except (struct.error, ValueError, cv2.error):
        decoded = []
    if len(decoded) < 2 or any(picture is None for picture in decoded):
        raise InputError(f"{path} holds no two pictures, expected the two eyes of an MPO; give stereo")
    left, right = (np.ascontiguousarray(np.asarray(picture, dtype=np.uint8)[..., ::-1]) for picture in decoded)
    return left, right


def _places(content: bytes) -> list[tuple[int, int]]:
    """Start and size of every picture in the file."""
    header = _index(content)
    order = {b"II": "<", b"MM": ">"}[content[header : header + 2]] if content[header : header + 2] else ""
    (directory,) = struct.unpack_from(f"{order}I", content, header + 4)
    (count,) = struct.unpack_from(f"{order}H", content, header + directory)
    tags = {}
    for number in range(count):
        tag, _, _, value = struct.unpack_from(f"{order}HHII", content, header + directory + 2 + 12 * number)
        tags[tag] = value
    places = []
    for number in range(tags[PICTURE_COUNT]):
        entry = header + tags[PICTURE_ENTRIES] + ENTRY_BYTES * number
        _, size, offset = struct.unpack_from(f"{order}III", content, entry)
        places.append((header + offset if offset else 0, size))  # offsets count from the index, but for the first
    return places


def _index(content: bytes) -> int:
    """Where the index starts, behind its segment's name."""
    place = 2
    while content[place] == 0xFF:
        marker, size = content[place + 1], int.from_bytes(content[place + 2 : place + 4], "big")
        if marker == INDEX_SEGMENT and content[place + 4 : place + 8] == SEGMENT_NAME:
            return place + 8
        place += 2 + size
    raise ValueError("no index")
