"""Depth that another program saved as a numpy array: one map per frame of the source.

Video-Depth-Anything, DepthCrafter and Depth Anything 3 write such files; see docs/depth.md.
"""

from __future__ import annotations

import zipfile
from collections.abc import Generator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from spatialme.depth import edges, outlines
from spatialme.depth.names import DISTANCE
from spatialme.depth.sidecar import DepthFile
from spatialme.errors import InputError

LOW_QUANTILE, HIGH_QUANTILE = 0.01, 0.99  # of the whole file: nearness 0 and 1, as `temporal` does per shot
QUANTILE_VALUES = 1 << 20  # the percentiles come from about so many of the file's values
NEAREST_DISTANCE = 1e-6  # of the largest; nothing is nearer, so that no inverse is infinite


class DepthArray(DepthFile):
    """Maps of a .npy or .npz file, (T, H, W) or (T, H, W, 1) or (T, 1, H, W); a `DepthEstimator`.

    One range holds for the whole file: these methods are steady already, and their authors scale a video as one.
    Maps smaller than the frames get their steps on the frames' edges. A .npy is read from disk frame by frame, a .npz
    is held in memory.
    """

    what = "depth array"

    def __init__(self, name_or_path: str | Path):
        """Open the file; larger values are nearer, unless ``:distance`` follows its path.

        Raises:
            InputError: It is missing, not one array of maps, or holds values that are no numbers.
        """
        text = str(name_or_path)
        self._distance = text.endswith(DISTANCE)
        path = Path(text.removesuffix(DISTANCE)).expanduser()
        self._maps = _open_maps(path)
        super().__init__(path, path.name, self._maps.shape[1:], len(self._maps))
        self._low, self._high = self._range()

    def _range(self) -> tuple[float, float]:
        step = max(1, round((self._maps.size / QUANTILE_VALUES) ** (1 / 3)))  # thinned alike along all three axes
        values = np.asarray(self._maps[::step, ::step, ::step], np.float32)
        if not np.isfinite(values).all():
            raise InputError(f"depth array {self.path} has values that are no numbers; fill or clip them first")
        self._least_distance = NEAREST_DISTANCE * float(np.abs(values).max())
        low, high = np.quantile(self._inverse(values), (LOW_QUANTILE, HIGH_QUANTILE))
        return float(low), float(high)

    def _inverse(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        if not self._distance:
            return values
        return np.float32(1) / np.maximum(values, np.float32(max(self._least_distance, 1e-30)))

    def _planes(self) -> Generator[np.ndarray, None, None]:
        for one in self._maps:
            yield np.asarray(one, np.float32)

    def _fitted(self, values: np.ndarray, frames: Tensor) -> Tensor:
        spread = self._high - self._low
        unit = (self._inverse(values) - self._low) / spread if spread > 0 else np.full_like(values, 0.5)
        nearness = torch.from_numpy(unit.clip(0, 1).astype(np.float32)).unsqueeze(1).to(frames.device)
        size = nearness.shape[-2:]
        if size == frames.shape[-2:]:
            return nearness
        self._say_scaled(frames)
        if size[0] > frames.shape[-2] or size[1] > frames.shape[-1]:
            return F.interpolate(nearness, size=frames.shape[-2:], mode="bilinear", antialias=True, align_corners=False)
        guide = F.interpolate(frames, size=size, mode="bilinear", antialias=True, align_corners=False)
        return outlines.extend(edges.upsample(nearness, guide, frames), frames)


def _open_maps(path: Path) -> NDArray:
    """(T, H, W) maps of a file.

    Raises:
        InputError: There is no such file, or something else in it.
    """
    if not path.is_file():
        raise InputError(f"depth array {path} does not exist; give a .npy or .npz of one map per frame")
    try:
        content = np.load(path, mmap_mode="r" if path.suffix.lower() == ".npy" else None, allow_pickle=False)
        if isinstance(content, np.ndarray):
            maps = content
        else:
            with content:
                candidates = [name for name in content.files if content[name].ndim >= 3]
                if len(candidates) != 1:
                    raise InputError(
                        f"depth array {path} holds {len(candidates)} arrays of maps, expected one; save one alone"
                    )
                maps = content[candidates[0]]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"depth array {path} cannot be read ({error}); save it anew with numpy") from None
    shape = maps.shape
    if maps.ndim == 4 and 1 in (shape[1], shape[3]):
        maps = maps[:, 0] if shape[1] == 1 else maps[..., 0]
    if maps.ndim != 3 or 0 in maps.shape or maps.dtype.kind not in "fui":
        raise InputError(
            f"depth array {path} is {shape} of {maps.dtype}, expected (frames, height, width) of numbers; "
            "save one map per frame"
        )
    return maps
