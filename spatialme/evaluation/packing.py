"""Both eyes out of one picture: how a stereo file is packed, and how to tell."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from spatialme.errors import InputError
from spatialme.video.files import is_image
from spatialme.video.metadata import FILE_TOKEN, StereoMode, read_stereo_mode

HALF_BELOW = 2.4  # width over height of a side-by-side picture: its eyes would be narrower than 6:5
WIDE_ABOVE, TALL_BELOW = 2.6, 1.3  # of a whole picture that nothing else tells about

Array = np.ndarray


@dataclass(frozen=True)
class Packing:
    """Where the eyes are."""

    across: bool  # side by side; else one above the other
    half: bool  # each is squeezed to half its size in that direction
    right_first: bool = False

    def eyes(self, packed: Array) -> tuple[Array, Array]:
        """Left and right eye, (H, W, 3) each, unsqueezed."""
        axis = 1 if self.across else 0
        middle = packed.shape[axis] // 2
        parts = [packed.take(range(start, start + middle), axis) for start in (0, packed.shape[axis] - middle)]
        if self.half:
            height, width = parts[0].shape[:2]
            size = (2 * width, height) if self.across else (width, 2 * height)
            parts = [np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_LINEAR)) for part in parts]
        return (parts[1], parts[0]) if self.right_first else (parts[0], parts[1])


# by `Format`, less those that hold no two eyes in one picture
PACKINGS: dict[str, Packing] = {
    "full_sbs": Packing(across=True, half=False),
    "half_sbs": Packing(across=True, half=True),
    "full_tb": Packing(across=False, half=False),
    "half_tb": Packing(across=False, half=True),
    "cross_eyed": Packing(across=True, half=False, right_first=True),
}


def find_packing(path: Path, width: int, height: int) -> Packing:
    """Believe the file's marks, then its name, then its shape.

    Args:
        path: The file.
        width: Of its pictures, px.
        height: Of its pictures, px.

    Raises:
        InputError: Nothing tells.
    """
    marked = None if is_image(path) else read_stereo_mode(path).mode
    named = _by_name(path.stem)
    if marked is not None:
        packing = _by_mark(marked, width / height)
        agrees = named is not None and named.across == packing.across
        return replace(packing, half=named.half) if named is not None and agrees else packing
    if named is not None:
        return named
    if path.stem.lower().endswith("_sbs") or width > WIDE_ABOVE * height:
        return _by_mark("left_right", width / height)
    if width < TALL_BELOW * height:
        return PACKINGS["full_tb"]
    raise InputError(
        f"{path} is {width} x {height} and says nowhere how two eyes are packed in it; give --format, such as half_sbs"
    )


def _by_name(stem: str) -> Packing | None:
    tokens = ((token.lower(), PACKINGS[name]) for name, token in FILE_TOKEN.items() if name in PACKINGS)
    return next((packing for token, packing in tokens if token in stem.lower()), None)


def _by_mark(mode: StereoMode, aspect: float) -> Packing:
    across = mode in ("left_right", "right_left")
    half = aspect < HALF_BELOW if across else aspect > TALL_BELOW
    return Packing(across, half, right_first=mode in ("right_left", "bottom_top"))
