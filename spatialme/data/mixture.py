"""Sources mixed by weight into one endless, reproducible sequence of samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset, Sampler

from spatialme.data.augment import Augmentation, augment
from spatialme.data.manifest import CachedClip, Split, read_manifest
from spatialme.data.mono import MonoClips
from spatialme.data.sample import Sample, Source
from spatialme.data.scenes import Scenes
from spatialme.data.stereo import StereoClips
from spatialme.errors import OptionError

SYNTHETIC = "synthetic"
LEAST_KNOWN_PSNR_DB = 25.0  # training pairs that fit worse outside their holes are dropped (StereoCrafter's filter)


class Mixture(Dataset[Sample]):
    """Sample number i of a run: its source, and all else about it, drawn from ``(seed, i)``."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        weights: Mapping[str, float],
        *,
        seed: int,
        length: int,
        augmentation: Augmentation | None = None,
    ):
        """Mix sources.

        Args:
            sources: By name.
            weights: Shares of the samples, by the same names; they need not sum to 1.
            seed: Of the run.
            length: How many samples there are.
            augmentation: Changes the branches; None leaves them as computed.
        """
        self.sources = [sources[name] for name in weights]
        total = sum(weights.values())
        self.shares = [weight / total for weight in weights.values()]
        self.seed, self.length, self.augmentation = seed, length, augmentation

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        random = np.random.default_rng([self.seed, index])
        sample = self.sources[random.choice(len(self.sources), p=self.shares)].sample(random)
        return augment(sample, self.augmentation, random) if self.augmentation else sample


class NumberedSamples(Sampler[int]):
    """The numbers of one process's samples: those after `start`, every `processes`-th, without end."""

    def __init__(self, *, start: int, process: int, processes: int):
        self.start, self.process, self.processes = start, process, processes

    def __iter__(self) -> Iterator[int]:
        number = self.start + self.process
        while True:
            yield number
            number += self.processes


def open_sources(
    manifests: Sequence[Path],
    split: Split,
    crop: int,
    *,
    names: Sequence[str],
    commercial_only: bool,
    disturbance: float = 0.0,
) -> dict[str, Source]:
    """Open what a run names.

    Args:
        manifests: Lists of cached clips.
        split: Which of their clips.
        crop: Side of the samples in px.
        names: Of the sources that are wanted: ``synthetic``, or as the manifests call them.
        commercial_only: Leave out clips whose licence forbids commercial weights.
        disturbance: Share of the synthetic and mono samples whose disparity has errors.

    Returns:
        The sources by name. In other splits than ``train``, a source without clips is left out.

    Raises:
        InputError: A manifest is wrong.
        OptionError: A source has no clips to train on, or clips too small for the crop.
    """
    clips = [clip for path in manifests for clip in read_manifest(path) if clip.split == split]
    if commercial_only:
        clips = [clip for clip in clips if clip.commercial]
    if split == "train":
        clips = [clip for clip in clips if clip.known_psnr_db is None or clip.known_psnr_db >= LEAST_KNOWN_PSNR_DB]
    sources: dict[str, Source] = {}
    for name in names:
        chosen = [clip for clip in clips if clip.source == name]
        if name == SYNTHETIC:
            sources[name] = Scenes(crop, disturbance)
        elif chosen:
            sources[name] = _open(name, chosen, crop, disturbance)
        elif split == "train":
            known = ", ".join(sorted({clip.source for clip in clips} | {SYNTHETIC}))
            raise OptionError(f"source {name!r} has no clips to train on; the sources are {known}")
    return sources


def _open(name: str, clips: list[CachedClip], crop: int, disturbance: float) -> Source:
    kinds = {clip.kind for clip in clips}
    if len(kinds) > 1:
        raise OptionError(f"source {name!r} has both stereo and mono clips; give them two names")
    return StereoClips(clips, crop) if kinds == {"stereo"} else MonoClips(clips, crop, disturbance)
