"""MP4 boxes by hand: what FFmpeg's muxer leaves out, and the index moved to the front.

ISO/IEC 14496-12 for the boxes; `st3d` from google/spatial-media's "Spherical Video V2" document. Works on the finished
file in place, with a fixed buffer; only the `moov` box (the index) is held in memory.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_CONTAINERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
_VISUAL_FIELDS = 78  # bytes of a VisualSampleEntry before its own boxes
_COPY_BYTES = 1 << 20
_LARGEST_OFFSET = (1 << 32) - 1


@dataclass
class Box:
    """One box: its payload, or its children where it is a plain container."""

    kind: bytes
    payload: bytes = b""
    children: list[Box] | None = None

    def serialise(self) -> bytes:
        """The box with its header."""
        body = self.payload if self.children is None else b"".join(child.serialise() for child in self.children)
        if len(body) + 8 > _LARGEST_OFFSET:
            return struct.pack(">I4sQ", 1, self.kind, len(body) + 16) + body
        return struct.pack(">I4s", len(body) + 8, self.kind) + body

    def find(self, *path: bytes) -> Box | None:
        """The first box at `path` below this one."""
        if not path:
            return self
        for child in self.children or []:
            found = child.find(*path[1:]) if child.kind == path[0] else None
            if found is not None:
                return found
        return None

    def walk(self) -> Iterator[Box]:
        """This box and all below it."""
        yield self
        for child in self.children or []:
            yield from child.walk()


def st3d_box(mode: int) -> bytes:
    """The `st3d` box for a stereo_mode number."""
    return Box(b"st3d", struct.pack(">IB", 0, mode)).serialise()


def mdcv_box(chromaticities: Sequence[int], luminances: tuple[int, int]) -> bytes:
    """The `mdcv` box of HDR10.

    Args:
        chromaticities: x and y of green, blue, red and white, in 1/50000.
        luminances: Maximum and minimum, in 1/10000 cd/m2.
    """
    return Box(b"mdcv", struct.pack(">8H2I", *chromaticities, *luminances)).serialise()


def clli_box(maximum_content_nits: int, maximum_average_nits: int) -> bytes:
    """The `clli` box of HDR10, in cd/m2."""
    return Box(b"clli", struct.pack(">2H", maximum_content_nits, maximum_average_nits)).serialise()


def finish_file(path: Path, sample_entry_boxes: Sequence[bytes]) -> None:
    """Put boxes into the video's sample entry and the index in front of the media data, in place.

    Args:
        path: A finished MP4 or MOV file whose `moov` box is the last one, as FFmpeg's muxer writes it.
        sample_entry_boxes: Serialised boxes to add to the first video track's sample entries.

    Raises:
        ValueError: the file is not laid out that way.
    """
    with open(path, "r+b") as file:
        boxes = list(_top_level(file))
        kinds = [kind for kind, _, _ in boxes]
        if kinds[:1] != [b"ftyp"] or kinds[-1:] != [b"moov"]:
            raise ValueError(f"{path} must begin with ftyp and end with moov, got {b' '.join(kinds).decode('latin-1')}")
        first_free = boxes[1][1]
        _, moov_start, moov_size = boxes[-1]
        file.seek(moov_start)
        moov = parse(file.read(moov_size))
        add_to_video_entry(moov, sample_entry_boxes)
        index = _index_moved_forward(moov)
        _shift_back(file, first_free, moov_start, len(index))
        file.seek(first_free)
        file.write(index)
        file.truncate(moov_start + len(index))


def read_st3d(path: Path) -> int | None:
    """The stereo_mode number of the first video track, None where the file says nothing."""
    with open(path, "rb") as file:
        for kind, start, size in _top_level(file):
            if kind != b"moov":
                continue
            file.seek(start)
            for entry in _video_entries(parse(file.read(size))):
                for box in _parse_all(entry.payload[_VISUAL_FIELDS:]):
                    if box.kind == b"st3d" and len(box.payload) >= 5:
                        return box.payload[4]
    return None


def parse(serialised: bytes) -> Box:
    """Parse one box and, in plain containers, the boxes inside."""
    return _parse_all(serialised)[0]


def add_to_video_entry(moov: Box, boxes: Sequence[bytes]) -> None:
    """Add serialised boxes to the sample entries of the first video track, right behind the codec's own box.

    The codec's configuration comes first, and players that stop reading at `clap` or `pasp` find the new ones still.
    """
    track = _video_track(moov)
    description = track.find(b"mdia", b"minf", b"stbl", b"stsd") if track else None
    if description is None:
        raise ValueError("the moov box has no video track to mark")
    entries = _parse_all(description.payload[8:])
    for entry in entries:
        inner = [box.serialise() for box in _parse_all(entry.payload[_VISUAL_FIELDS:])]
        entry.payload = entry.payload[:_VISUAL_FIELDS] + b"".join([*inner[:1], *boxes, *inner[1:]])
    description.payload = description.payload[:8] + b"".join(entry.serialise() for entry in entries)


def _video_track(moov: Box) -> Box | None:
    for track in moov.children or []:
        handler = track.find(b"mdia", b"hdlr") if track.kind == b"trak" else None
        if handler is not None and handler.payload[8:12] == b"vide":
            return track
    return None


def _video_entries(moov: Box) -> list[Box]:
    track = _video_track(moov)
    description = track.find(b"mdia", b"minf", b"stbl", b"stsd") if track else None
    return _parse_all(description.payload[8:]) if description else []


def _parse_all(serialised: bytes) -> list[Box]:
    boxes = []
    position = 0
    while position + 8 <= len(serialised):
        size, kind = struct.unpack_from(">I4s", serialised, position)
        header = 8
        if size == 1:
            size, header = struct.unpack_from(">Q", serialised, position + 8)[0], 16
        if size < header or position + size > len(serialised):
            raise ValueError(f"box {kind!r} has size {size}, expected {header}..{len(serialised) - position}")
        body = serialised[position + header : position + size]
        boxes.append(Box(kind, children=_parse_all(body)) if kind in _CONTAINERS else Box(kind, body))
        position += size
    return boxes


def _top_level(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Yield (kind, start, size) of the boxes of a file."""
    end = file.seek(0, os.SEEK_END)
    position = 0
    while position + 8 <= end:
        file.seek(position)
        header = file.read(16)
        size, kind = struct.unpack_from(">I4s", header)
        if size == 1 and len(header) == 16:
            size = struct.unpack_from(">Q", header, 8)[0]
        elif size == 0:
            size = end - position
        if size < 8:
            return
        yield kind, position, size
        position += size


def _index_moved_forward(moov: Box) -> bytes:
    """Serialise the index for its place before the media data: every chunk offset grows by its own size."""
    while True:
        shift = len(moov.serialise())
        tables = [box for box in moov.walk() if box.kind in (b"stco", b"co64")]
        too_small = [
            box for box in tables if box.kind == b"stco" and max(_offsets(box), default=0) + shift > _LARGEST_OFFSET
        ]
        if not too_small:
            break
        for box in too_small:
            wide = _offsets(box)
            box.kind = b"co64"
            box.payload = box.payload[:8] + struct.pack(f">{len(wide)}Q", *wide)
    for box in tables:
        offsets = [offset + shift for offset in _offsets(box)]
        box.payload = box.payload[:8] + struct.pack(f">{len(offsets)}{'I' if box.kind == b'stco' else 'Q'}", *offsets)
    return moov.serialise()


def _offsets(box: Box) -> tuple[int, ...]:
    (count,) = struct.unpack_from(">I", box.payload, 4)
    return struct.unpack_from(f">{count}{'I' if box.kind == b'stco' else 'Q'}", box.payload, 8)


def _shift_back(file: BinaryIO, start: int, stop: int, distance: int) -> None:
    """Move the bytes start..stop towards the end of the file, last ones first, so that none is overwritten unread."""
    position = stop
    while position > start:
        size = min(_COPY_BYTES, position - start)
        position -= size
        file.seek(position)
        block = file.read(size)
        file.seek(position + distance)
        file.write(block)
