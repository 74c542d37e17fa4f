"""The training and held-out samples, as Lightning wants them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import lightning.pytorch as pl
import numba
import torch
from torch.utils.data import DataLoader, Dataset

from spatialme.data.augment import Augmentation
from spatialme.data.manifest import Split, read_manifest
from spatialme.data.mixture import SYNTHETIC, Mixture, NumberedSamples, open_sources
from spatialme.data.patches import Patches
from spatialme.data.pool import Pool
from spatialme.data.sample import Sample
from spatialme.errors import OptionError

HELD_OUT_SEED = 2**31  # held-out samples are the same for every run
POOL_VERSION = 2  # of how samples are made; part of a pool's name
MOST_HELD_OUT_WORKERS = 2  # per source, as each keeps its own


class StereoData(pl.LightningDataModule):
    """Samples mixed from sources; in training numbered through, so that a run goes on where it stopped."""

    def __init__(
        self,
        sources: dict[str, float] | None = None,
        manifests: list[Path] | None = None,
        crop: int = 512,
        batch_size: int = 4,
        held_out_samples: int = 64,
        workers: int = 0,
        seed: int = 0,
        augmentation: Augmentation | None = Augmentation(),  # noqa: B008 - frozen
        commercial_only: bool = False,
        disturbance: float = 0.0,
        pool: int | None = None,
        pool_folder: Path = Path("pools"),
        patch: int | None = None,
        watched: list[str] | None = None,
    ):
        """Name the material.

        Args:
            sources: Share of the samples by source: ``synthetic``, or as the manifests call it. Only synthetic scenes
                when left out.
            manifests: Lists of prepared clips.
            crop: Side of the samples in px.
            batch_size: Samples per process and step.
            held_out_samples: Samples per source in validation and test, always the same ones.
            workers: Processes that make samples; 0: in the training process.
            seed: Of the samples' order and content.
            augmentation: See there; null trains on branches as computed.
            commercial_only: Train on clips only whose licence allows commercial weights.
            disturbance: Share of the synthetic and mono samples whose disparity has errors, as a matched one has.
            pool: Make only this many samples, keep them, and cut every patch out of one of them.
            pool_folder: Where they are kept: 19 bytes per pixel.
            patch: Side in px of the patches around holes that are cut out of the pool's samples.
            watched: Further sources, whose held-out clips are validated and tested on, whatever their licence; no clip
                of theirs is trained on, so they may be cameras that training never sees.

        Raises:
            OptionError: A share that is not positive, a crop that is too small, a pool without a fitting patch, or a
                source that is both trained on and watched.
        """
        super().__init__()
        self.sources = sources or {SYNTHETIC: 1.0}
        if min(self.sources.values()) <= 0:
            raise OptionError(f"shares are {self.sources}, expected more than 0; leave sources out instead")
        if crop < 32:
            raise OptionError(f"crop is {crop} px, expected at least 32; 256 to 512 is usual")
        if (pool is None) != (patch is None) or (patch is not None and not 32 <= patch <= crop):
            raise OptionError(
                f"pool is {pool} and patch is {patch}, expected both or neither, and patches of 32 to {crop} px"
            )
        self.watched = watched or []
        if both := sorted(set(self.watched) & set(self.sources)):
            raise OptionError(f"{', '.join(both)} is among both sources and watched; name it once")
        self.disturbance = disturbance
        self.pool, self.pool_folder, self.patch = pool, pool_folder, patch
        self.manifests = manifests or []
        self.crop, self.batch_size, self.workers = crop, batch_size, workers
        self.held_out_samples, self.seed = held_out_samples, seed
        self.augmentation, self.commercial_only = augmentation, commercial_only
        self.held_out_names: list[str] = []

    def train_dataloader(self) -> DataLoader[Sample]:
        """Samples from where the module's step count says the run stands, without end."""
        assert self.trainer is not None
        processes = self.trainer.world_size
        start = int(self.trainer.lightning_module.steps) * self.batch_size * processes  # type: ignore[arg-type]
        numbers = NumberedSamples(start=start, process=self.trainer.global_rank, processes=processes)
        return self._loader(self._training_samples(), self.workers, sampler=numbers)

    def _training_samples(self) -> Dataset[Sample]:
        """By number; numbers end nowhere, so the length of the mixture does not count."""
        sources = self._open("train")
        if self.pool is None or self.patch is None:
            return Mixture(sources, self.sources, seed=self.seed, length=0, augmentation=self.augmentation)
        mixture = Mixture(sources, self.sources, seed=self.seed, length=self.pool)
        pool = Pool(mixture, self.pool, self.crop, self.pool_folder / f"{self._pool_key()}.samples")
        return Patches(pool, self.pool, self.patch, seed=self.seed, augmentation=self.augmentation)

    def _pool_key(self) -> str:
        """Names what the pool's samples depend on."""
        said = (POOL_VERSION, self.sources, self.crop, self.seed, self.commercial_only, self.disturbance, self.pool)
        digest = hashlib.sha256(repr(said).encode())
        for path in self.manifests:
            digest.update(path.read_bytes())
        return digest.hexdigest()[:16]

    def val_dataloader(self) -> list[DataLoader[Sample]]:
        """One loader per source that has validation clips."""
        return self._held_out("validation")

    def test_dataloader(self) -> list[DataLoader[Sample]]:
        """One loader per source that has test clips."""
        return self._held_out("test")

    def _held_out(self, split: Split) -> list[DataLoader[Sample]]:
        sources = self._open(split) | self._open_watched(split)
        self.held_out_names = list(sources)
        seed = HELD_OUT_SEED + (split == "test")
        mixtures = [
            Mixture({name: source}, {name: 1.0}, seed=seed, length=self.held_out_samples)
            for name, source in sources.items()
        ]
        workers = min(self.workers, MOST_HELD_OUT_WORKERS)
        return [self._loader(mixture, workers, sampler=None) for mixture in mixtures]

    def _open(self, split: Split) -> dict:
        names = list(self.sources)
        return open_sources(
            self.manifests,
            split,
            self.crop,
            names=names,
            commercial_only=self.commercial_only,
            disturbance=self.disturbance if split == "train" else 0.0,
        )

    def _open_watched(self, split: Split) -> dict:
        """A name without held-out clips of any split is a mistake."""
        manifests, crop = self.manifests, self.crop
        found = open_sources(manifests, split, crop, names=self.watched, commercial_only=False)
        missing = [name for name in self.watched if name not in found]
        held_out = {clip.source for path in manifests for clip in read_manifest(path) if clip.split != "train"}
        if unknown := [name for name in missing if name not in held_out]:
            raise OptionError(
                f"source {unknown[0]!r} has no clips to watch; those with held-out clips are "
                f"{', '.join(sorted(held_out)) or 'none'}"
            )
        return found

    def _loader(self, samples: Dataset[Sample], workers: int, *, sampler: NumberedSamples | None) -> DataLoader[Sample]:
        return DataLoader(
            samples,
            self.batch_size,
            sampler=sampler,
            num_workers=workers,
            persistent_workers=workers > 0,  # starting one takes seconds
            # Numba's threads do not survive a fork
            multiprocessing_context="spawn" if workers else None,
            worker_init_fn=_single_thread if workers else None,
            pin_memory=torch.cuda.is_available(),
        )


def _single_thread(worker: int) -> None:
    numba.set_num_threads(1)
    torch.set_num_threads(1)
