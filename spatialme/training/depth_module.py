"""Training of depth networks: `tiny`, its teacher `dino`, and fine-tuning of Depth Anything V2.

picture --network--> inverse depth --+-- label: what stereo matching knows
                                     +-- teacher: another network's answer, everywhere
                                     +-- temporal: the video's next frame, followed along the motion
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import functional as F
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from spatialme.depth.network import IMAGENET_MEAN, IMAGENET_STD, fit_size
from spatialme.errors import OptionError
from spatialme.training.depth_data import DepthSample
from spatialme.training.depth_losses import DepthLossWeights, depth_loss, temporal_loss
from spatialme.training.depth_motion import motion_between
from spatialme.training.depth_networks import NETWORKS, DepthNetworkName
from spatialme.training.depth_scores import DepthScore, depth_score
from spatialme.training.export import CHECKPOINT_KEY
from spatialme.training.schedule import Schedule

TEACHER_TRIMMED = 0.0  # a teacher has no outliers worth leaving out


class DepthModule(pl.LightningModule):
    """A depth network in training."""

    steps: Tensor  # batches trained on; part of the state, so that a resumed run goes on with the samples
    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        network: DepthNetworkName = "tiny",
        start: str | None = None,
        weights: DepthLossWeights = DepthLossWeights(),  # noqa: B008 - frozen
        learning_rate: float = 1e-3,
        encoder_rate: float = 1.0,
        weight_decay: float = 1e-2,
        schedule: Schedule = Schedule("cosine"),  # noqa: B008 - frozen
        lora_rank: int = 0,
        held_out_short_side: int | None = None,
    ):
        """Set up the network.

        Args:
            network: ``tiny``, ``dino`` or ``anything``.
            start: Where it starts: for `tiny` torchvision's MobileNetV2 file, for `dino` the authors' DINOv2 file, for
                `anything` what --depth of convert takes (a name, a .pth, a transformers folder); a file of `weights
                export` for any. Random when left out.
            weights: Of the losses.
            learning_rate: Of the decoder, at its highest.
            encoder_rate: The encoder's, as a share of it; 0 freezes the encoder.
            weight_decay: AdamW's.
            schedule: Of the learning rate.
            lora_rank: Train low-rank updates of the encoder's attention instead of its weights; 0: none. Only for
                `anything`; they are added to the weights on export.
            held_out_short_side: Short side of held-out pictures in px; None: the network's own.

        Raises:
            OptionError: LoRA for a network without attention, or a share that is negative.
            WeightsError: The start cannot be read.
        """
        super().__init__()
        if encoder_rate < 0:
            raise OptionError(f"encoder_rate is {encoder_rate}, expected at least 0; 0 freezes the encoder")
        self.kind = NETWORKS[network]
        self.network_name = network
        self.network = self.kind.make(Path(start).expanduser() if start else None, lora_rank)
        self.encoder_names = {name for name, _ in self.network.named_parameters() if self.kind.is_encoder(name)}
        for name, parameter in self.network.named_parameters():
            if name in self.encoder_names and not encoder_rate and "lora" not in name:
                parameter.requires_grad_(False)
        self.weights, self.schedule = weights, schedule
        self.learning_rate, self.encoder_rate, self.weight_decay = learning_rate, encoder_rate, weight_decay
        self.short_side = held_out_short_side or self.kind.short_side
        self.scores: dict[str, float] = {}  # of the last validation
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with two rates, along the schedule."""
        rates: dict[bool, list] = {True: [], False: []}
        for name, parameter in self.network.named_parameters():
            if parameter.requires_grad:
                rates[name in self.encoder_names and "lora" not in name].append(parameter)
        groups = [
            {"params": parameters, "lr": self.learning_rate * (self.encoder_rate if encoder else 1)}
            for encoder, parameters in rates.items()
            if parameters
        ]
        optimizer = AdamW(groups, lr=self.learning_rate, weight_decay=self.weight_decay)
        last = max(1, self.trainer.max_steps)
        scheduler = LambdaLR(optimizer, lambda step: self.schedule.share(step, last))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def predict(self, rgb: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in [0, 1] -> (B, 1, H, W) inverse depth at the pictures' size."""
        found = self.kind.run(self.network, (rgb - self.mean) / self.deviation).float()
        return F.interpolate(found, size=rgb.shape[-2:], mode="bilinear", align_corners=False)

    def training_step(self, batch: DepthSample, batch_index: int) -> Tensor:
        """The weighted sum of the terms that are switched on."""
        terms = self.terms(batch)
        loss = torch.stack([getattr(self.weights, name) * term for name, term in terms.items()]).sum()
        self.log_dict({f"train/{name}": term.detach() for name, term in terms.items()})
        self.log("train/loss", loss.detach(), prog_bar=True)
        self.steps += 1
        return loss

    def terms(self, batch: DepthSample) -> dict[str, Tensor]:
        """The unweighted terms, by the names of their weights."""
        found = self.predict(batch.rgb)
        terms = {}
        if self.weights.label:
            terms["label"] = depth_loss(found, batch.label, batch.known, gradient=self.weights.gradient)
        if self.weights.teacher:
            terms["teacher"] = depth_loss(
                found, batch.teacher, batch.taught, gradient=self.weights.gradient, trimmed=TEACHER_TRIMMED
            )
        if self.weights.temporal:
            flow, trusted = motion_between(batch.rgb, batch.following)
            terms["temporal"] = temporal_loss(found, self.predict(batch.following), flow, trusted & batch.moves)
        return terms

    def validation_step(self, batch: DepthSample, batch_index: int, dataloader_idx: int = 0) -> None:
        """Score one held-out picture."""
        self._score("validation", batch, dataloader_idx)

    def test_step(self, batch: DepthSample, batch_index: int, dataloader_idx: int = 0) -> None:
        """The same."""
        self._score("test", batch, dataloader_idx)

    def _score(self, stage: str, batch: DepthSample, source_index: int) -> None:
        size = fit_size(batch.rgb.shape[-2:], self.short_side, self.kind.multiple)
        found = self.predict(F.interpolate(batch.rgb, size=size, mode="bilinear", antialias=True, align_corners=False))
        found = F.interpolate(found, size=batch.label.shape[-2:], mode="bilinear", align_corners=False)
        truth = torch.where(batch.known, batch.label, batch.label.new_tensor(torch.nan))
        score = depth_score(found[0, 0].cpu().numpy(), truth[0, 0].cpu().numpy())
        source = self.trainer.datamodule.held_out_names[source_index]  # type: ignore[attr-defined]
        for name, value in score._asdict().items():
            if value == value:  # not NaN
                self.log(f"{stage}/{source}/{name}", value, batch_size=1, add_dataloader_idx=False, sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """Remember the figures, so that an exported file can carry them."""
        figures = self.trainer.callback_metrics
        self.scores = {name: float(value) for name, value in figures.items() if name.startswith("validation/")}
        for figure in DepthScore._fields:
            values = [value for name, value in self.scores.items() if name.endswith(f"/{figure}")]
            self.log(f"validation/{figure}", sum(values) / max(1, len(values)), prog_bar=True)  # mean over the sources

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what `export` needs."""
        checkpoint[CHECKPOINT_KEY] = {
            "depth": self.network_name,
            "settings": self.kind.settings(self.network),
            "steps": int(self.steps),
            "scores": self.scores,
        }
