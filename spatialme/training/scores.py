"""Validation figures: PSNR of every view, in the regions that matter."""

from __future__ import annotations

import torch
from torch import Tensor

from spatialme.data.sample import Sample
from spatialme.evaluation.pixels import peak_signal_to_noise
from spatialme.evaluation.sample import Scored, mean_over, regions_of
from spatialme.refine.compose import compose
from spatialme.refine.mhfu import initial_blend


def view_scores(batch: Sample, refined: Tensor) -> dict[str, tuple[Tensor, int]]:
    """PSNR of the branches, their mean and the refined view against the truth.

    Args:
        batch: Samples, with a leading axis.
        refined: (B, 3, H, W), the refiner's view, not composed.

    Returns:
        By ``psnr_REGION/VIEW`` the mean over the samples where it is defined, in dB, and their number. Views are
        composed into the base warp's holes, except ``everywhere``: the refined view as it is. ``soft`` is the refined
        one with soft seams, as `convert` writes it, ``soft_blend`` the same of the untrained blend. ``gain`` is
        refined over the best branch, sample by sample.
    """
    regions = {name: region for name, region in regions_of(batch.hole).items() if name != "outside"}
    branches = {"poly": batch.poly, "expansion": batch.expansion, "dl": batch.dl}
    branches["mean"] = torch.stack(list(branches.values())).mean(0)
    views = {name: compose(batch.warped, batch.hole, view) for name, view in {**branches, "refined": refined}.items()}
    views["everywhere"] = refined.clamp(0, 1)
    blend = initial_blend(batch.poly, batch.expansion, batch.dl)
    for name, view in {"soft": refined, "soft_blend": blend}.items():
        views[name] = compose(batch.warped, batch.hole, view.float(), soft=True)
    scores = {}
    for region, mask in regions.items():
        found = {name: _psnr(view, batch.right, mask) for name, view in views.items()}
        found["gain"] = found["refined"] - torch.stack([found[name] for name in ("poly", "expansion", "dl")]).amax(0)
        for name, values in found.items():
            defined = values[values.isfinite()]
            scores[f"psnr_{region}/{name}"] = defined.mean().float(), len(defined)
    return scores


def _psnr(view: Tensor, truth: Tensor, region: Tensor | None) -> Tensor:
    """(B,) dB, NaN for samples without such a region."""
    error = (view.float() - truth).square().mean(1, keepdim=True)
    return peak_signal_to_noise(mean_over(Scored(error), region))
