"""What a run shows while it trains."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from spatialme.data.sample import Sample
from spatialme.refine.mhfu import MHFUOutput
from spatialme.refine.panels import draw_panels


class Panels(Callback):
    """Pictures of the first held-out samples of every source in TensorBoard, at every validation.

    Left, poly, expansion, dl and hole; below them truth, refined, the shares M1, M2 and M3 (the paper's figure 7), and
    the content C last.
    """

    def __init__(self, samples: int = 4):
        """Set how many samples per source."""
        self.samples = samples

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        outputs: Any,
        batch: Sample,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw the first batch."""
        if batch_idx or not trainer.is_global_zero or not isinstance(trainer.logger, TensorBoardLogger):
            return
        first = Sample(*(view[: self.samples] for view in batch))
        source = trainer.datamodule.held_out_names[dataloader_idx]  # type: ignore[attr-defined]
        picture = sample_panels(first, module.refine(first))  # type: ignore[operator]
        trainer.logger.experiment.add_image(f"panels/{source}", picture, int(module.steps))  # type: ignore[arg-type]


def sample_panels(batch: Sample, answer: MHFUOutput) -> Tensor:
    """One picture, (3, H, W) in [0, 1], of some samples: three rows of five views each, the last with one."""
    shown = [batch.left, batch.poly, batch.expansion, batch.dl, batch.hole]
    return draw_panels([*shown, batch.right, answer.fused, answer.m1, answer.m2, answer.m3, answer.content])
