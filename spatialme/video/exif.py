"""The EXIF orientation of an image file's bytes."""

from __future__ import annotations

import struct

_ORIENTATION_TAG = 0x0112
_UPRIGHT = 1


def exif_orientation(content: bytes) -> int:
    """Find the EXIF orientation, 1 to 8, in a JPEG, PNG, WebP or TIFF file; 1 where none is given or readable."""
    try:
        return _orientation_of_tiff(_tiff_block(content))
    except (struct.error, IndexError):  # a damaged block says nothing about the picture
        return _UPRIGHT


def _tiff_block(content: bytes) -> bytes:
    if content[:2] in (b"II", b"MM"):
        return content
    if content[:2] == b"\xff\xd8":
        return _jpeg_exif(content)
    if content[:8] == b"\x89PNG\r\n\x1a\n":
        return _chunk(content, start=8, name=b"eXIf", order=">", name_first=False, trailer=4)
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        block = _chunk(content, start=12, name=b"EXIF", order="<", name_first=True, trailer=0)
        return block.removeprefix(b"Exif\0\0")
    return b""


def _jpeg_exif(content: bytes) -> bytes:
    """The first APP1 segment that holds EXIF, before the picture's own data starts."""
    position = 2
    while content[position] == 0xFF and content[position + 1] != 0xDA:
        (size,) = struct.unpack_from(">H", content, position + 2)
        segment = content[position + 4 : position + 2 + size]
        if content[position + 1] == 0xE1 and segment.startswith(b"Exif\0\0"):
            return segment[6:]
        position += 2 + size
    return b""


def _chunk(content: bytes, *, start: int, name: bytes, order: str, name_first: bool, trailer: int) -> bytes:
    """The body of a named chunk in a list of (size, name, body, trailer) or (name, size, body padded to even)."""
    position = start
    while position + 8 <= len(content):
        head = content[position : position + 8]
        found, size_bytes = (head[:4], head[4:]) if name_first else (head[4:], head[:4])
        (size,) = struct.unpack(order + "I", size_bytes)
        if found == name:
            return content[position + 8 : position + 8 + size]
        position += 8 + size + trailer + (size % 2 if name_first else 0)
    return b""


def _orientation_of_tiff(block: bytes) -> int:
    if not block:
        return _UPRIGHT
    order = "<" if block[:2] == b"II" else ">"
    (directory,) = struct.unpack_from(order + "I", block, 4)
    (entries,) = struct.unpack_from(order + "H", block, directory)
    for entry in range(entries):
        tag, kind, count, value = struct.unpack_from(order + "HHIH", block, directory + 2 + 12 * entry)
        if (tag, kind, count) == (_ORIENTATION_TAG, 3, 1):
            return value
    return _UPRIGHT
