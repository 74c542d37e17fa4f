"""Disparity that somebody else computed, such as IGEV: how its files are named and read.

    FOLDER/ITEM.npy or .npz        (T, H, W) or (H, W), one map per frame of the recording
    FOLDER/ITEM/000123.EXT         one map of frame 123, counted from 0
    FOLDER/ITEM.EXT                one map, of a picture
    EXT: .npy, .npz, .pfm, or .png with 16 bits, 256 steps per px and 0 for unknown (KITTI's)

Maps are px of the left eye as given, positive where a point lies farther left in the right eye. Not finite: unknown. A
map of another size than the eye's is enlarged or shrunk, values and all.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from spatialme.errors import InputError
from spatialme.preparation.items import Item

ARRAYS, PICTURES = (".npy", ".npz"), (".pfm", ".png")
PNG_STEPS_PER_PX = 256.0

Map = NDArray[np.float32]


def map_files(disparity: str, item: Item) -> list[Path]:
    """The files that hold an item's maps; none where `disparity` names no folder."""
    folder = Path(disparity)
    if not folder.is_dir():
        return []
    whole = [folder / f"{item.name}{end}" for end in ARRAYS + PICTURES]
    frames = sorted(file for file in (folder / item.name).glob("*") if file.suffix.lower() in ARRAYS + PICTURES)
    return [file for file in whole if file.is_file()] + frames


class MapFolder:
    """The maps of one item."""

    def __init__(self, folder: Path, item: Item):
        """Find them.

        Raises:
            InputError: There are none.
        """
        self._files = map_files(str(folder), item)
        self._wanted = f"{folder / item.name}.npy or {folder / item.name}/000000.png"
        if not self._files:
            raise InputError(f"no disparity for {item.name}; expected {self._wanted}")

    def read(self, frame: int, width: int, height: int) -> Map:
        """The map of a frame, (height, width) px of such a picture, NaN where unknown.

        Raises:
            InputError: There is none, or it cannot be read.
        """
        found = self._find(frame)
        found = np.where(np.isfinite(found), found, np.float32(np.nan))
        scaled = np.asarray(cv2.resize(found, (width, height), interpolation=cv2.INTER_NEAREST), dtype=np.float32)
        return scaled * np.float32(width / found.shape[1])

    def _find(self, frame: int) -> Map:
        numbered = [file for file in self._files if file.stem == f"{frame:06d}"]
        if numbered:
            return _read(numbered[0], 0)
        whole = self._files[0]
        return _read(whole, frame)


def _read(path: Path, index: int) -> Map:
    """Map number `index` of a file.

    Raises:
        InputError: It cannot be read as maps, or has not as many.
    """
    try:
        maps = _array(path) if path.suffix.lower() in ARRAYS else _picture(path)[None]
    except (ValueError, OSError, IndexError, cv2.error) as error:
        raise InputError(f"{path} cannot be read as disparities ({error}); see docs/preparing.md") from None
    if index >= len(maps):
        raise InputError(f"{path} has {len(maps)} maps and none for frame {index}; expected one per frame")
    return np.asarray(maps[index], dtype=np.float32)


def _array(path: Path) -> NDArray:
    content = np.load(path, mmap_mode="r" if path.suffix.lower() == ".npy" else None)
    maps = content if isinstance(content, np.ndarray) else content[content.files[0]]
    return maps.reshape(-1, *maps.shape[-2:])


def _picture(path: Path) -> Map:
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.ndim != 2 or picture.dtype not in (np.uint16, np.float32):
        raise ValueError("expected one channel of 16 bits, or PFM")
    if picture.dtype == np.uint16:
        return np.where(picture > 0, picture / np.float32(PNG_STEPS_PER_PX), np.float32(np.nan)).astype(np.float32)
    return np.asarray(picture, dtype=np.float32)
