"""Small patches around holes: a few percent of a picture are holes, and only there the refiner has much to learn."""

from __future__ import annotations

import numpy as np
from torch.utils.data import Dataset

from spatialme.data.augment import Augmentation, augment
from spatialme.data.sample import Sample

ANYWHERE = 0.1  # share of the patches that lie at a random place, for what is no hole must stay as it is


class Patches(Dataset[Sample]):
    """Patch number i of a run: its sample, its place, and all else about it, drawn from ``(seed, i)``."""

    def __init__(
        self, samples: Dataset[Sample], count: int, side: int, *, seed: int, augmentation: Augmentation | None = None
    ):
        """Cut patches out of samples.

        Args:
            samples: Of any size from `side` on; without augmentation, which each patch gets anew.
            count: How many samples there are to choose from.
            side: Of the patches in px.
            seed: Of the run.
            augmentation: Changes the branches; None leaves them as computed.
        """
        self.samples, self.count, self.side, self.seed = samples, count, side, seed
        self.augmentation = augmentation

    def __getitem__(self, index: int) -> Sample:
        random = np.random.default_rng([self.seed, index, 1])
        patch = cut_patch(self.samples[int(random.integers(self.count))], self.side, random)
        patch = _varied(patch, random)
        return augment(patch, self.augmentation, random) if self.augmentation else patch


def cut_patch(sample: Sample, side: int, random: np.random.Generator) -> Sample:
    """A square with a random hole pixel as near its middle as the picture's edges let it be."""
    height, width = sample.hole.shape[1:]
    pixels = np.flatnonzero(sample.hole.numpy())
    if len(pixels) and random.random() >= ANYWHERE:
        y, x = divmod(int(pixels[random.integers(len(pixels))]), width)
        top, start = (int(np.clip(at - side // 2, 0, size - side)) for at, size in ((y, height), (x, width)))
    else:
        top, start = (int(random.integers(size - side + 1)) for size in (height, width))
    return Sample(*(view[:, top : top + side, start : start + side] for view in sample))


def _varied(patch: Sample, random: np.random.Generator) -> Sample:
    """Upside down and with its primary colours exchanged, which changes neither eyes nor holes."""
    flipped = [view.flip(1) for view in patch] if random.random() < 0.5 else list(patch)
    order = random.permutation(3).tolist()
    *views, hole = flipped
    return Sample(*[*(view[order].contiguous() for view in views), hole.contiguous()])
