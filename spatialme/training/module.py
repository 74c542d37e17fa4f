"""The training step: refiner against critic, by hand because two optimisers take turns.

branches --refiner--> view --+--> content, perceptual, adversarial --> refiner's step --> running average
                             +--detached--> critic's step (before the refiner's)
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from spatialme.data.sample import Sample
from spatialme.errors import OptionError, WeightsError
from spatialme.evaluation.perceptual import Lpips
from spatialme.refine import Refiner, compose
from spatialme.refine.mhfu import MHFU, SIZES, MHFUOutput, MHFUSize
from spatialme.refine.seam import soften_seams_torch
from spatialme.training.critic import DEFAULT_CHANNELS, PatchCritic
from spatialme.training.export import CHECKPOINT_KEY
from spatialme.training.initial import start_from_differences, start_from_mean
from spatialme.training.losses import (
    AdversarialKind,
    LossWeights,
    content_loss,
    critic_loss,
    distance_loss,
    generator_loss,
    perceptual_loss,
)
from spatialme.training.schedule import Schedule
from spatialme.training.scores import view_scores
from spatialme.training.vgg import Vgg19Features, vgg19_weights


class StereoModule(pl.LightningModule):
    """A refiner in training."""

    steps: Tensor  # batches trained on; part of the state, so that a resumed run goes on with the samples

    def __init__(
        self,
        size: Literal["small", "base"] = "small",
        hole_input: bool = True,
        weights: LossWeights = LossWeights(),  # noqa: B008 - frozen
        adversarial: AdversarialKind = "wasserstein",
        critic_channels: tuple[int, ...] = DEFAULT_CHANNELS,
        learning_rate: float = 1e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        clip_norm: float | None = 1.0,
        average_decay: float | None = 0.999,
        vgg19: Path | None = None,
        schedule: Schedule = Schedule(),  # noqa: B008 - frozen
        first_m3: float | None = None,
        start: Path | None = None,
        perceptual_patches: int | None = None,
        perceptual_side: int | None = None,
        soft_seams: bool = False,
        first_contrast: bool = False,
    ):
        """Set up the networks.

        Args:
            size: Of the refiner, a name of `refine.mhfu.SIZES`.
            hole_input: Show the refiner the hole mask; the paper's goes without.
            weights: Of the losses.
            adversarial: Equation 10, or the hinge form.
            critic_channels: See `PatchCritic`.
            learning_rate: Of both optimisers (Adam), as `schedule` lets it be.
            betas: Of both.
            clip_norm: Largest gradient norm of a step; None: any.
            average_decay: Of the running average of the refiner's weights, which is validated and exported; None: the
                weights themselves are.
            vgg19: File of VGG19's weights for the perceptual loss; None: torchvision's.
            schedule: Of the learning rate.
            first_m3: From scratch, start with the branches' mean as content and this share M3 of the branches
                themselves; None: METHOD's start, grey content behind M3 = 0.9975, which hides it from the losses.
            start: Exported weights to start from; None: from scratch.
            perceptual_patches: Samples of a batch that the perceptual loss looks at; None: all.
            perceptual_side: Side in px of the middle of each that it looks at; None: the whole.
            soft_seams: Let the losses see the holes as mode ``holes`` finishes them, in the base warp and with soft
                seams; the content alone is scored without.
            first_contrast: From scratch, start with a network whose every level sees what sets the branches apart.

        Raises:
            OptionError: A decay outside [0, 1), or a first M3 outside (0, 1).
            WeightsError: VGG19's weights are not to be had, or those to start from do not fit.
        """
        super().__init__()
        if first_m3 is not None and not 0 < first_m3 < 1:
            raise OptionError(f"first_m3 is {first_m3}, expected more than 0 and less than 1; try 0.9")
        if average_decay is not None and not 0 <= average_decay < 1:
            raise OptionError(f"average_decay is {average_decay}, expected at least 0 and less than 1; try 0.999")
        self.automatic_optimization = False
        self.network = _first_network(replace(SIZES[size], hole_input=hole_input), first_m3, first_contrast, start)
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.critic = PatchCritic(critic_channels) if weights.adversarial else None
        self.vgg = Vgg19Features(vgg19_weights(vgg19)) if weights.perceptual else None
        self.lpips = Lpips() if weights.lpips else None
        self.soft_seams = soft_seams
        self.weights = weights
        self.adversarial = adversarial
        self.learning_rate, self.betas = learning_rate, betas
        self.clip_norm, self.average_decay = clip_norm, average_decay
        self.schedule = schedule
        self.perceptual_patches, self.perceptual_side = perceptual_patches, perceptual_side
        self.scores: dict[str, float] = {}  # of the last validation
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def configure_optimizers(self) -> list[Optimizer]:
        """One Adam for the refiner and, if there is one, one for the critic."""
        networks: list[nn.Module] = [self.network] if self.critic is None else [self.network, self.critic]
        return [Adam(network.parameters(), lr=self.learning_rate, betas=self.betas) for network in networks]

    def on_fit_start(self) -> None:
        """LPIPS is no module of this one, lest checkpoints hold its weights; so it is moved here."""
        if self.lpips is not None:
            self.lpips.to(self.device)

    def training_step(self, batch: Sample, batch_index: int) -> None:
        """One step of the critic, one of the refiner."""
        self._set_learning_rate()
        answer = _run(self.network, batch)
        if self.critic is not None:
            self._train_critic(self._judged(answer, batch).detach(), batch.right)
        self._train_refiner(answer, batch)
        self._update_average()
        self.steps += 1

    def _set_learning_rate(self) -> None:
        rate = self.learning_rate * self.schedule.share(int(self.steps), self.trainer.max_steps)
        found = self.optimizers(use_pl_optimizer=False)
        for optimizer in found if isinstance(found, list) else [found]:
            for group in optimizer.param_groups:
                group["lr"] = rate

    def _train_critic(self, view: Tensor, truth: Tensor) -> None:
        assert self.critic is not None
        # the bare optimiser, so that Lightning's step count (max_steps, checkpoints) is the number of batches
        optimizer = self.optimizers(use_pl_optimizer=False)[1]  # type: ignore[index]
        loss = critic_loss(self.critic(truth), self.critic(view), self.adversarial)
        optimizer.zero_grad()
        self.manual_backward(loss)
        self._clip(optimizer)
        optimizer.step()
        self.log("train/critic", loss.detach())

    def _train_refiner(self, answer: MHFUOutput, batch: Sample) -> None:
        found = self.optimizers()
        optimizer = found[0] if isinstance(found, list) else found
        self.toggle_optimizer(optimizer)  # keeps the critic's weights out of the graph
        terms = self.refiner_terms(answer, batch)
        loss = torch.stack([getattr(self.weights, name) * term for name, term in terms.items()]).sum()
        optimizer.zero_grad()
        self.manual_backward(loss)
        self.untoggle_optimizer(optimizer)
        self._clip(optimizer)  # type: ignore[arg-type]  # Lightning's wrapper is no Optimizer, but passes for one
        optimizer.step()
        self.log_dict({f"train/{name}": term.detach() for name, term in terms.items()})
        self.log("train/loss", loss.detach(), prog_bar=True)

    def refiner_terms(self, answer: MHFUOutput, batch: Sample) -> dict[str, Tensor]:
        """The unweighted terms of equation 11 that are switched on, by the names of their weights."""
        view = self._judged(answer, batch)
        reference = (batch.poly + batch.expansion + batch.dl) / 3 if self.weights.relative else None

        def content(made: Tensor) -> Tensor:
            hole, squared = self.weights.hole, self.weights.squared
            return content_loss(made, batch.right, batch.hole, hole, reference=reference, squared=squared)

        terms = {"content": content(view)}
        if self.weights.generated:
            terms["generated"] = content(answer.content)
        if self.vgg is not None:
            seen, true = self._looked_at(view), self._looked_at(batch.right)
            with torch.no_grad():
                wanted = self.vgg(true)
            terms["perceptual"] = perceptual_loss(self.vgg(seen), wanted)
        if self.lpips is not None:
            with torch.autocast(view.device.type, enabled=False):  # squares of small differences
                _, distance = self.lpips(view.float(), batch.right)
            terms["lpips"] = distance_loss(distance, batch.hole, self.weights.hole)
        if self.critic is not None:
            terms["adversarial"] = generator_loss(self.critic(view))
        return terms

    def _judged(self, answer: MHFUOutput, batch: Sample) -> Tensor:
        """The view that the losses see."""
        if not self.soft_seams:
            return answer.fused
        finished = soften_seams_torch(compose(batch.warped, batch.hole, answer.fused), batch.hole)
        return torch.where(batch.hole, finished, answer.fused)

    def _looked_at(self, views: Tensor) -> Tensor:
        """The part of a batch that the perceptual loss sees."""
        side = self.perceptual_side or max(views.shape[-2:])
        top, start = (max(0, (size - side) // 2) for size in views.shape[-2:])
        return views[: self.perceptual_patches, :, top : top + side, start : start + side]

    def _clip(self, optimizer: Optimizer) -> None:
        if self.clip_norm is not None:
            self.clip_gradients(optimizer, gradient_clip_val=self.clip_norm, gradient_clip_algorithm="norm")

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = self.average_decay or 0.0
        for average, current in zip(self.average.parameters(), self.network.parameters()):
            average.lerp_(current, 1 - decay)

    def validation_step(self, batch: Sample, batch_index: int, dataloader_idx: int = 0) -> None:
        """Score the branches, their mean and the refined view of one source's samples."""
        self._score("validation", batch, dataloader_idx)

    def test_step(self, batch: Sample, batch_index: int, dataloader_idx: int = 0) -> None:
        """The same on the test split."""
        self._score("test", batch, dataloader_idx)

    def _score(self, stage: str, batch: Sample, source_index: int) -> None:
        source = self.trainer.datamodule.held_out_names[source_index]  # type: ignore[attr-defined]
        for name, (value, count) in view_scores(batch, self.refine(batch).fused).items():
            if count:
                self.log(f"{stage}/{source}/{name}", value, batch_size=count, add_dataloader_idx=False, sync_dist=True)

    def refine(self, batch: Sample) -> MHFUOutput:
        """What the weights that would be exported make of a batch."""
        with torch.no_grad():
            return _run(self.average, batch)

    def on_validation_epoch_end(self) -> None:
        """Remember the figures, so that an exported file can carry them."""
        figures = self.trainer.callback_metrics
        self.scores = {name: float(value) for name, value in figures.items() if name.startswith("validation/")}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what `export` needs."""
        size = self.network.size
        checkpoint[CHECKPOINT_KEY] = {
            "channels": list(size.channels),
            "hole_input": size.hole_input,
            "steps": int(self.steps),
            "scores": self.scores,
        }


def _run(network: nn.Module, batch: Sample) -> MHFUOutput:
    """Channels last: half the time on a CPU, and what a GPU's half-precision convolutions want."""
    views = (batch.poly, batch.expansion, batch.dl, batch.hole)
    return network(*(view.contiguous(memory_format=torch.channels_last) for view in views))


def _first_network(size: MHFUSize, first_m3: float | None, first_contrast: bool, start: Path | None) -> MHFU:
    network = MHFU(size)
    if start is not None:
        loaded = Refiner.load(start).network
        if loaded.size != size:
            raise WeightsError(f"{start} holds a refiner of {loaded.size}, expected {size}; set model.size to it")
        network.load_state_dict(loaded.state_dict())
        return network.to(memory_format=torch.channels_last)
    if first_contrast:
        start_from_differences(network)
    if first_m3 is not None:
        start_from_mean(network, first_m3)
    return network.to(memory_format=torch.channels_last)
