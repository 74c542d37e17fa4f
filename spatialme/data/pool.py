"""Samples made once and kept: making one takes longer than a step of a small refiner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from spatialme.data.sample import Sample

PLANES = (3, 3, 3, 3, 3, 3, 1)  # channels of each field of a sample


class Pool(Dataset[Sample]):
    """The first samples of a sequence, in one file of 8-bit levels; each is made when it is first asked for.

    The file has 19 bytes per pixel and is read by mapping it into memory. Processes may share it: whoever makes a
    sample writes the same bytes.
    """

    def __init__(self, samples: Dataset[Sample], count: int, side: int, file: Path):
        """Name the file; it is begun when missing, and gone on with when not.

        Args:
            samples: Where the samples come from; it must give the same ones every time.
            count: How many are kept.
            side: Of the samples in px.
            file: Of these samples and no others. Its folder is made.
        """
        self.samples, self.count, self.side, self.file = samples, count, side, file
        self._mapped: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None = None

    def __len__(self) -> int:
        return self.count

    def __getstate__(self) -> dict[str, Any]:
        """Every process maps the file itself."""
        return {**self.__dict__, "_mapped": None}

    def __getitem__(self, index: int) -> Sample:
        levels, made = self._mapped or self._map()
        if not made[index]:
            levels[index] = _to_levels(self.samples[index])
            made[index] = 1
        return _to_sample(levels[index])

    def _map(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        shape = (self.count, sum(PLANES), self.side, self.side)
        size = int(np.prod(shape))
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("ab") as begun:
            begun.truncate(size + self.count)  # sparse, and nothing happens to a file that has its size
        levels = np.memmap(self.file, np.uint8, "r+", shape=shape)
        made = np.memmap(self.file, np.uint8, "r+", offset=size, shape=(self.count,))
        self._mapped = levels, made
        return self._mapped


def _to_levels(sample: Sample) -> NDArray[np.uint8]:
    planes = torch.cat([view.float() for view in sample])
    return (planes.clamp(0, 1) * 255).round().byte().numpy()


def _to_sample(levels: NDArray[np.uint8]) -> Sample:
    *views, hole = torch.from_numpy(np.array(levels)).split(PLANES)
    return Sample(*[*(view.float() / 255 for view in views), hole > 0])
