"""Turning and mirroring pictures upright in their native pixel format, without a loss."""

from __future__ import annotations

from dataclasses import dataclass

import av
import numpy as np
from av.video.reformatter import Interpolation

from spatialme.video.formats import chroma_shift
from spatialme.video.planes import make_frame, read_planes


@dataclass(frozen=True)
class Orientation:
    """What to do to a stored picture: first transpose, then flip."""

    transpose: bool = False
    flip_columns: bool = False  # left and right change places
    flip_rows: bool = False

    @property
    def upright(self) -> bool:
        return self == Orientation()

    @property
    def degrees(self) -> int:
        """The counter-clockwise turn; that of the remaining turn where the picture is mirrored left to right too."""
        mirrored = self.transpose ^ self.flip_columns ^ self.flip_rows
        flip_columns = self.flip_columns ^ mirrored
        turns = {(False, False, False): 0, (True, False, True): 90, (False, True, True): 180, (True, True, False): 270}
        return turns[(self.transpose, flip_columns, self.flip_rows)]


# EXIF 2.32, tag 0x0112, from 1 on
_OF_EXIF = (
    Orientation(),
    Orientation(flip_columns=True),
    Orientation(flip_columns=True, flip_rows=True),
    Orientation(flip_rows=True),
    Orientation(transpose=True),
    Orientation(transpose=True, flip_columns=True),
    Orientation(transpose=True, flip_columns=True, flip_rows=True),
    Orientation(transpose=True, flip_rows=True),
)


def from_exif(value: int) -> Orientation:
    """The orientation that an EXIF value of 1 to 8 asks for; anything else means upright."""
    return _OF_EXIF[value - 1] if 1 <= value <= 8 else Orientation()


def from_display_matrix(matrix: bytes) -> Orientation:
    """The nearest right-angled orientation to a container's 3x3 display matrix.

    Args:
        matrix: Nine native 32 bit integers a b u c d v x y w; a stored point (x, y) is shown at
            (a x + c y, b x + d y), up to a shift.
    """
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].astype(np.int64)
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(flip_columns=bool(a < 0), flip_rows=bool(d < 0))
    return Orientation(transpose=True, flip_columns=bool(c < 0), flip_rows=bool(b < 0))


def from_degrees(counter_clockwise: int) -> Orientation:
    """The orientation of an unmirrored turn, to the nearest right angle."""
    quarter_turns = round(counter_clockwise / 90) % 4
    return (_OF_EXIF[0], _OF_EXIF[7], _OF_EXIF[2], _OF_EXIF[5])[quarter_turns]


def turned(frame: av.VideoFrame, orientation: Orientation) -> av.VideoFrame:
    """Apply an orientation; the samples only change places.

    The one exception: a transposed format whose chroma is halved in one direction only (4:2:2, 4:1:1, 4:4:0) has no
    turned counterpart that encoders know and becomes 4:4:4 first.
    """
    if orientation.upright:
        return frame
    columns, rows = chroma_shift(frame.format.name)
    if orientation.transpose and columns != rows:
        full = "yuv444p" + frame.format.name.partition("p")[2]
        frame = frame.reformat(format=full, interpolation=Interpolation.BICUBIC)
    return make_frame([_turn(plane, orientation) for plane in read_planes(frame)], frame.format.name, like=frame)


def _turn(plane: np.ndarray, orientation: Orientation) -> np.ndarray:
    plane = plane.swapaxes(0, 1) if orientation.transpose else plane
    plane = plane[:, ::-1] if orientation.flip_columns else plane
    return plane[::-1] if orientation.flip_rows else plane
