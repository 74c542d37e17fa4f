"""Depth sets as training and held-out samples, mixed by source and augmented."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from spatialme.data.mixture import SYNTHETIC, NumberedSamples
from spatialme.data.sample import draw_budget
from spatialme.data.scenes import draw_scene
from spatialme.errors import OptionError
from spatialme.training.depth_augment import Augmented, augment
from spatialme.training.depth_set import DepthEntry, DepthPicture, read_index, read_picture

Size = tuple[int, int]  # height, width


class DepthSample(NamedTuple):
    """A picture and what is known of its depth; a batch has the same fields with a leading axis."""

    rgb: Tensor  # (3, H, W) in [0, 1]
    label: Tensor  # (1, H, W) inverse depth of any scale and offset; 0 where unknown
    known: Tensor  # (1, H, W) bool
    teacher: Tensor  # (1, H, W), the same; 0 where there is no teacher
    taught: Tensor  # (1, H, W) bool, all True or all False
    following: Tensor  # (3, H, W) the video's next frame; the picture again where there is none
    moves: Tensor  # (1, 1, 1) bool: there is one


class DepthMixture(Dataset[DepthSample]):
    """Sample number i of a run: its source, picture and augmentation, drawn from ``(seed, i)``."""

    def __init__(
        self, pictures: Mapping[str, Sequence[tuple[Path, str]]], shares: Mapping[str, float], size: Size, seed: int
    ):
        """Mix sources.

        Args:
            pictures: Folder and name of the pictures of each source.
            shares: Of the samples, by source; they need not sum to 1. ``synthetic`` draws layered scenes.
            size: Of the samples, in px.
            seed: Of the run.
        """
        self.pictures = pictures
        self.names = list(shares)
        total = sum(shares.values())
        self.shares = [share / total for share in shares.values()]
        self.size, self.seed = size, seed

    def __len__(self) -> int:
        return 0  # numbers end nowhere

    def __getitem__(self, index: int) -> DepthSample:
        random = np.random.default_rng([self.seed, index])
        source = self.names[random.choice(len(self.names), p=self.shares)]
        if source == SYNTHETIC:
            picture = synthetic_picture(random, self.size)
        else:
            folder, name = self.pictures[source][int(random.integers(len(self.pictures[source])))]
            picture = read_picture(folder, name)
        return to_sample(augment(picture, self.size, random))


class HeldOut(Dataset[DepthSample]):
    """Whole pictures at their own size."""

    def __init__(self, pictures: Sequence[tuple[Path, str]]):
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> DepthSample:
        picture = read_picture(*self.pictures[index])
        return to_sample(Augmented((picture.rgb / np.float32(255)).astype(np.float32), picture.label))


class DepthData(pl.LightningDataModule):
    """Samples mixed from depth sets; in training numbered through, so that a run goes on where it stopped."""

    def __init__(
        self,
        sets: list[Path] | None = None,
        sources: dict[str, float] | None = None,
        size: Size = (192, 256),
        batch_size: int = 8,
        workers: int = 0,
        seed: int = 0,
        commercial_only: bool = False,
        labelled_only: bool = False,
    ):
        """Name the material.

        Args:
            sets: Folders made by `spatialme prepare-depth`.
            sources: Share of the samples by source: ``synthetic``, or as the sets call it. When left out, every source
                by the square root of its number of pictures.
            size: Height and width of the samples in px.
            batch_size: Samples per process and step.
            workers: Processes that make samples; 0: in the training process.
            seed: Of the samples' order and content.
            commercial_only: Train on pictures only whose licence allows commercial weights.
            labelled_only: Leave out pictures that only a teacher knows.

        Raises:
            OptionError: A share that is not positive.
        """
        super().__init__()
        if sources and min(sources.values()) <= 0:
            raise OptionError(f"shares are {sources}, expected more than 0; leave sources out instead")
        self.sets, self.sources, self.size = sets or [], sources, size
        self.batch_size, self.workers, self.seed = batch_size, workers, seed
        self.commercial_only, self.labelled_only = commercial_only, labelled_only
        self.held_out_names: list[str] = []

    def train_dataloader(self) -> DataLoader[DepthSample]:
        """Samples from where the module's step count says the run stands, without end."""
        assert self.trainer is not None
        pictures = self._pictures()
        shares = self.sources or {name: len(found) ** 0.5 for name, found in pictures.items()}
        missing = sorted(set(shares) - set(pictures) - {SYNTHETIC})
        if missing or not shares:
            known = ", ".join([*sorted(pictures), SYNTHETIC])
            raise OptionError(f"sources {missing} have no pictures to train on; the sources are {known}")
        mixture = DepthMixture(pictures, shares, self.size, self.seed)
        processes = self.trainer.world_size
        start = int(self.trainer.lightning_module.steps) * self.batch_size * processes  # type: ignore[arg-type]
        numbers = NumberedSamples(start=start, process=self.trainer.global_rank, processes=processes)
        return DataLoader(
            mixture,
            self.batch_size,
            sampler=numbers,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            multiprocessing_context="spawn" if self.workers else None,
        )

    def val_dataloader(self) -> list[DataLoader[DepthSample]]:
        """One loader per source that has labelled validation pictures, one picture at a time."""
        by_source: dict[str, list[tuple[Path, str]]] = {}
        for folder, entry in self._entries("validation"):
            if entry.labelled:
                by_source.setdefault(entry.source, []).append((folder, entry.name))
        self.held_out_names = list(by_source)
        return [DataLoader(HeldOut(pictures), 1) for pictures in by_source.values()]

    test_dataloader = val_dataloader

    def _pictures(self) -> dict[str, list[tuple[Path, str]]]:
        found: dict[str, list[tuple[Path, str]]] = {}
        for folder, entry in self._entries("train"):
            if (entry.commercial or not self.commercial_only) and (entry.labelled or not self.labelled_only):
                found.setdefault(entry.source, []).append((folder, entry.name))
        return found

    def _entries(self, split: str) -> list[tuple[Path, DepthEntry]]:
        return [(folder, entry) for folder in self.sets for entry in read_index(folder) if entry.split == split]


def synthetic_picture(random: np.random.Generator, size: Size) -> DepthPicture:
    """A layered scene, its depth known everywhere."""
    height, width = size
    pair = draw_scene(random, draw_budget(random, min(size)), height=height, width=width)
    rgb = (pair.left.numpy().transpose(1, 2, 0) * 255).round().astype(np.uint8)
    return DepthPicture(rgb, pair.disparity.numpy()[0])


def to_sample(found: Augmented) -> DepthSample:
    """Tensors of one augmented picture, unknown depths replaced by 0 and masked."""
    known = np.isfinite(found.label)
    teacher = np.zeros_like(found.label) if found.teacher is None else found.teacher
    rgb = _picture(found.rgb)
    return DepthSample(
        rgb=rgb,
        label=_plane(np.where(known, found.label, 0)),
        known=torch.from_numpy(known)[None],
        teacher=_plane(teacher),
        taught=torch.full((1, *found.label.shape), found.teacher is not None),
        following=rgb if found.following is None else _picture(found.following),
        moves=torch.full((1, 1, 1), found.following is not None),
    )


def _picture(rgb: NDArray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1), dtype=np.float32))


def _plane(values: NDArray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))[None]
