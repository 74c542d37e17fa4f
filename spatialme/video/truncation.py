"""Whether a file is shorter than its own index or header promises."""

from __future__ import annotations

import struct
from pathlib import Path

from av.video.stream import VideoStream

_LAST_ENTRIES = 64  # samples lie in file order but for the interleaving, so the end of the index tells
_EBML_MAGIC = b"\x1a\x45\xdf\xa3"
_SEGMENT_ID = b"\x18\x53\x80\x67"


def missing_bytes(path: Path, stream: VideoStream) -> int:
    """How many bytes the file lacks at its end; 0 for a whole one and where nothing promises a length.

    MP4 and MOV promise by their sample index, Matroska by the size of its segment, AVI by its RIFF size.
    """
    size = path.stat().st_size
    entries = stream.index_entries
    promised = 0
    for number in range(max(0, len(entries) - _LAST_ENTRIES), len(entries)):
        entry = entries[number]
        promised = max(promised, entry.pos + entry.size)
    with path.open("rb") as file:
        promised = max(promised, _header_promise(file.read(4096)))
    return max(0, promised - size)


def _header_promise(head: bytes) -> int:
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return 8 + struct.unpack_from("<I", head, 4)[0]
    if head[:4] == _EBML_MAGIC:
        header_size, position = _ebml_size(head, 4)
        if header_size is not None and head[position + header_size :][:4] == _SEGMENT_ID:
            segment_size, body = _ebml_size(head, position + header_size + 4)
            return body + segment_size if segment_size is not None else 0
    return 0


def _ebml_size(head: bytes, position: int) -> tuple[int | None, int]:
    """Read a variable-length size: (its value or None if unknown, where its element's body starts)."""
    if position >= len(head) or head[position] == 0:
        return None, position
    length = 9 - head[position].bit_length()
    value = int.from_bytes(head[position : position + length], "big") & ((1 << 7 * length) - 1)
    return (None if value == (1 << 7 * length) - 1 else value), position + length
