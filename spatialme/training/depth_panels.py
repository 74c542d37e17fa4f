"""What a depth run shows while it trains."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from spatialme.training.depth_data import DepthSample
from spatialme.training.depth_module import DepthModule


class DepthPanels(Callback):
    """Picture, label and answer of the first held-out picture of every source, in TensorBoard at every validation."""

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        outputs: Any,
        batch: DepthSample,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw the first picture."""
        if batch_idx or not trainer.is_global_zero or not isinstance(trainer.logger, TensorBoardLogger):
            return
        source = trainer.datamodule.held_out_names[dataloader_idx]  # type: ignore[attr-defined]
        assert isinstance(module, DepthModule)
        with torch.no_grad():
            panel = draw_depth(batch, module.predict(_cut_to_multiple(batch.rgb, module.kind.multiple)))
        trainer.logger.experiment.add_image(f"panels/{source}", panel, int(module.steps))


def draw_depth(batch: DepthSample, answer: Tensor) -> Tensor:
    """(3, H, 3 W) in [0, 1]: the first picture, its label (black where unknown) and the answer, each over its range."""
    height, width = answer.shape[-2:]
    rgb, label, known = (view[0, :, :height, :width] for view in (batch.rgb, batch.label, batch.known))
    truth = torch.where(known, _over_range(label, known), torch.zeros_like(label))
    found = _over_range(answer[0], torch.ones_like(known))
    return torch.cat((rgb, truth.expand(3, -1, -1), found.expand(3, -1, -1)), -1)


def _over_range(values: Tensor, known: Tensor) -> Tensor:
    if not known.any():
        return torch.zeros_like(values)
    low, high = values[known].min(), values[known].max()
    return ((values - low) / (high - low).clamp_min(torch.finfo(values.dtype).tiny)).clamp(0, 1)


def _cut_to_multiple(rgb: Tensor, multiple: int) -> Tensor:
    height, width = (side // multiple * multiple for side in rgb.shape[-2:])
    return rgb[..., :height, :width]
