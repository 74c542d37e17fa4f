"""Two eyes into one frame: geometry of each packing, and the packing itself on native planes."""

from __future__ import annotations

from dataclasses import dataclass

import av
import numpy as np

from spatialme.video.anaglyph import Anaglyph
from spatialme.video.formats import chroma_shift
from spatialme.video.metadata import Format
from spatialme.video.planes import plane_layouts, read_planes
from spatialme.video.scaling import SQUEEZE

__all__ = ["Anaglyph", "Format", "Geometry", "pack", "place", "plan_geometry"]


@dataclass(frozen=True)
class Geometry:
    """Where the eyes lie in the packed frame; all in pixels."""

    format: Format
    source_width: int
    source_height: int
    padded_width: int  # of an eye, after its last column was repeated
    padded_height: int
    slot_width: int  # of an eye in the packed frame, after squeezing
    slot_height: int
    width: int  # of the packed frame
    height: int

    @property
    def note(self) -> str | None:
        """One line for the report where an eye grew."""
        columns, rows = self.padded_width - self.source_width, self.padded_height - self.source_height
        grown = [f"{columns} repeated column{'s' * (columns > 1)}" * (columns > 0)]
        grown += [f"{rows} repeated row{'s' * (rows > 1)}" * (rows > 0)]
        named = " and ".join(part for part in grown if part)
        return f"each eye gained {named}: {self.source_width}x{self.source_height} does not fit" if named else None


def plan_geometry(packing: Format, width: int, height: int, pixel_format: str, *, keeps_odd_sides: bool) -> Geometry:
    """Lay out the eyes.

    Chroma shared by two columns must not straddle the eyes, so that a subsampled eye has even sides along the packing
    (a multiple of four where it is squeezed), and everywhere even ones unless the encoder holds odd sides.

    Args:
        packing: How the eyes are put together.
        width: Of the source, pixels.
        height: Of the source, pixels.
        pixel_format: Of the packed frame.
        keeps_odd_sides: The encoder takes odd sides although chroma is subsampled.
    """
    column_shift, row_shift = chroma_shift(pixel_format)
    beside, above = _eyes_across(packing), _eyes_down(packing)
    squeeze_columns, squeeze_rows = 1 + (packing == "half_sbs"), 1 + (packing == "half_tb")
    column_step = squeeze_columns * (1 if keeps_odd_sides and beside == 1 else 1 << column_shift)
    row_step = squeeze_rows * (1 if keeps_odd_sides and above == 1 else 1 << row_shift)
    padded_width = -(-width // column_step) * column_step
    padded_height = -(-height // row_step) * row_step
    slot_width, slot_height = padded_width // squeeze_columns, padded_height // squeeze_rows
    return Geometry(
        packing,
        width,
        height,
        padded_width,
        padded_height,
        slot_width,
        slot_height,
        slot_width * beside,
        slot_height * above,
    )


def pack(left: av.VideoFrame, right: av.VideoFrame, geometry: Geometry) -> av.VideoFrame:
    """Put two eyes of the source's size into one frame of the same pixel format.

    Formats that show one eye at a time (anaglyph, two files) take `place` with that eye.
    """
    packed = av.VideoFrame(geometry.width, geometry.height, left.format.name)
    eyes = (right, left) if geometry.format == "cross_eyed" else (left, right)
    for number, eye in enumerate(eyes):
        _place(eye, packed, geometry, number)
    return packed


def place(eye: av.VideoFrame, geometry: Geometry) -> av.VideoFrame:
    """One eye alone, grown to the geometry's size."""
    frame = av.VideoFrame(geometry.width, geometry.height, eye.format.name)
    _place(eye, frame, geometry, 0)
    return frame


def _place(eye: av.VideoFrame, packed: av.VideoFrame, geometry: Geometry, number: int) -> None:
    name = eye.format.name
    squeezed = (geometry.slot_width, geometry.slot_height) != (geometry.padded_width, geometry.padded_height)
    if squeezed:
        if (eye.width, eye.height) != (geometry.padded_width, geometry.padded_height):
            grown = av.VideoFrame(geometry.padded_width, geometry.padded_height, name)
            _copy(read_planes(eye), read_planes(grown))
            eye = grown
        eye = eye.reformat(width=geometry.slot_width, height=geometry.slot_height, interpolation=SQUEEZE, threads=1)
    slots = plane_layouts(name, geometry.slot_width, geometry.slot_height)
    across = number if geometry.width > geometry.slot_width else 0
    down = number if geometry.height > geometry.slot_height else 0
    targets = [
        plane[down * slot.height : (down + 1) * slot.height, across * slot.width : (across + 1) * slot.width]
        for plane, slot in zip(read_planes(packed), slots)
    ]
    _copy(read_planes(eye), targets)


def _copy(sources: list[np.ndarray], targets: list[np.ndarray]) -> None:
    """Copy planes into equal or larger ones, whose further columns and rows repeat the last."""
    for source, target in zip(sources, targets):
        height, width = source.shape[:2]
        target[:height, :width] = source
        target[:height, width:] = source[:, -1:]
        target[height:] = target[height - 1 : height]


def _eyes_across(packing: Format) -> int:
    return 2 if packing in ("full_sbs", "half_sbs", "cross_eyed") else 1


def _eyes_down(packing: Format) -> int:
    return 2 if packing in ("full_tb", "half_tb") else 1
