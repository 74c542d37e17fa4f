"""The clean aperture of MP4 and MOV files: the part of the coded picture that is meant to be seen.

FFmpeg's own tools crop to it; its libraries leave that to the caller, and PyAV does not pass the rectangle on.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av

from spatialme.video.formats import chroma_shift
from spatialme.video.mp4box import Box, parse
from spatialme.video.planes import make_frame, read_planes

_CLAP_HEAD = struct.pack(">I4s", 40, b"clap")  # a box of eight integers


@dataclass(frozen=True)
class Area:
    """A rectangle of whole pixels."""

    left: int
    top: int
    width: int
    height: int


def clean_aperture(path: Path, width: int, height: int) -> Area | None:
    """Read the first video track's `clap` box (ISO/IEC 14496-12, 12.1.4).

    Args:
        path: An MP4 or MOV file.
        width: Of the coded picture.
        height: Of the coded picture.

    Returns:
        None where there is none, it is the whole picture, or it does not fit inside.
    """
    description = _video_description(path)
    position = description.find(_CLAP_HEAD)
    if position < 0 or position + 40 > len(description):
        return None
    numbers = struct.unpack_from(">IIIIiIiI", description, position + 8)
    if not all(numbers[1::2]):
        return None
    clean_width, clean_height, right, down = (Fraction(numbers[i], numbers[i + 1]) for i in range(0, 8, 2))
    area = Area(
        left=round((width - clean_width) / 2 + right),  # the offsets are those of the centre
        top=round((height - clean_height) / 2 + down),
        width=round(clean_width),
        height=round(clean_height),
    )
    inside = area.left >= 0 and area.top >= 0 and area.left + area.width <= width and area.top + area.height <= height
    whole = (area.width, area.height) == (width, height)
    return area if inside and not whole and min(area.width, area.height) > 0 else None


def cropped(frame: av.VideoFrame, area: Area) -> av.VideoFrame:
    """Keep `area` of a planar frame; chroma starts at the sample that covers the first kept pixel, as in FFmpeg."""
    shift_x, shift_y = chroma_shift(frame.format.name)
    planes = []
    for number, plane in enumerate(read_planes(frame)):
        across, down = (shift_x, shift_y) if number else (0, 0)
        left, top = area.left >> across, area.top >> down
        width, height = -(-area.width >> across), -(-area.height >> down)
        planes.append(plane[top : top + height, left : left + width])
    return make_frame(planes, frame.format.name, like=frame)


def _video_description(path: Path) -> bytes:
    """The sample description of the first video track; empty where the index cannot be read."""
    try:
        index = parse(_index_bytes(path))
    except (ValueError, IndexError):
        return b""
    for track in index.children or []:
        handler = track.find(b"mdia", b"hdlr")
        if handler is not None and handler.payload[8:12] == b"vide":
            description: Box | None = track.find(b"mdia", b"minf", b"stbl", b"stsd")
            return description.payload if description is not None else b""
    return b""


def _index_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        while True:
            header = file.read(16)
            if len(header) < 8:
                return b""
            size, kind = struct.unpack_from(">I4s", header)
            if size == 1 and len(header) == 16:
                size = struct.unpack_from(">Q", header, 8)[0]
            file.seek(-len(header), os.SEEK_CUR)
            if kind == b"moov":
                return file.read(size)
            if size < 8:
                return b""
            file.seek(size, os.SEEK_CUR)
