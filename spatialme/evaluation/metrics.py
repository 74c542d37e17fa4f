"""The table of metrics, and the one call that takes them all.

frames, a few at a time -> every metric -> a map or a score per frame -> regions -> mean over the clip's frames
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from spatialme.evaluation.dists import Dists, texture_distance
from spatialme.evaluation.perceptual import Lpips, lpips_alex, lpips_vgg
from spatialme.evaluation.pixels import (
    absolute_error,
    detail_ratio,
    level_shift,
    peak_signal_to_noise,
    squared_error,
)
from spatialme.evaluation.sample import REGIONS, Sample, Scored, mean_over, regions_of
from spatialme.evaluation.siou import stereo_iou
from spatialme.evaluation.structure import multiscale_structural_similarity, structural_similarity
from spatialme.evaluation.temporal import disparity_flicker, flicker, warping_error
from spatialme.types import Motion

CHUNK_PIXELS = 2**20  # per call of a metric, at least one frame


def _unchanged(score: Tensor) -> Tensor:
    return score


@dataclass(frozen=True)
class MetricSpec:
    """One metric: how it is taken and read."""

    function: Callable[[Sample, slice], Scored]  # of these frames of a clip
    higher_is_better: bool
    unit: str  # "" for a ratio or a share
    needs_time: bool = False  # undefined for stills
    regional: bool = True  # also taken inside holes, in their border band and outside
    finish: Callable[[Tensor], Tensor] = _unchanged  # makes a frame's score of the map's mean over a region
    target: float | None = None  # the best value, where it is neither the highest nor the lowest

    def better(self, first: float, second: float) -> bool:
        """Whether `first` is strictly better than `second`."""
        if self.target is not None:
            return abs(first - self.target) < abs(second - self.target)
        return first > second if self.higher_is_better else first < second


METRICS: dict[str, MetricSpec] = {
    "mae": MetricSpec(absolute_error, False, "of [0, 1]"),
    "rmse": MetricSpec(squared_error, False, "of [0, 1]", finish=torch.sqrt),
    "psnr": MetricSpec(squared_error, True, "dB", finish=peak_signal_to_noise),
    "ssim": MetricSpec(structural_similarity, True, ""),
    "ms_ssim": MetricSpec(multiscale_structural_similarity, True, "", regional=False),
    "lpips": MetricSpec(lpips_alex, False, ""),
    "lpips_vgg": MetricSpec(lpips_vgg, False, ""),
    "dists": MetricSpec(texture_distance, False, "", regional=False),
    "siou": MetricSpec(stereo_iou, True, "", regional=False),
    "e_warp": MetricSpec(warping_error, False, "squared, of [0, 1]", needs_time=True),
    "flicker": MetricSpec(flicker, False, "of [0, 1]", needs_time=True),
    "disparity_flicker": MetricSpec(disparity_flicker, False, "% of width", needs_time=True, regional=False),
    "detail_ratio": MetricSpec(detail_ratio, True, "", regional=False, target=1.0),
    "level_shift": MetricSpec(level_shift, False, "levels of 255", regional=False),
}


def columns() -> dict[str, MetricSpec]:
    """Every column that `measure` fills, with its metric: ``psnr``, ``psnr_hole``, ``psnr_border`` and so on."""
    found = {}
    for name, spec in METRICS.items():
        for region in REGIONS if spec.regional else REGIONS[:1]:
            found[_column(name, region)] = spec
    return found


@torch.inference_mode()
def measure(
    prediction: Tensor,
    truth: Tensor,
    left: Tensor,
    hole: Tensor | None,
    *,
    flow: Motion | None = None,
    disparity: Tensor | None = None,
    lpips: Lpips | None = None,
    lpips_vgg: Lpips | None = None,
    dists: Dists | None = None,
) -> dict[str, float | None]:
    """Take every metric of one clip.

    A metric is taken frame by frame (a region's: over that frame's pixels of the region) and averaged over the frames
    where it is defined, as the papers' protocols do. Besides the tensors given, it holds what `CHUNK_PIXELS` pixels or
    one frame need: 1.5 GB for a frame of 1080p, for the windows of SSIM.

    Args:
        prediction: (T, 3, H, W) RGB in [0, 1], the right view to be judged.
        truth: (T, 3, H, W), the real right view.
        left: (T, 3, H, W), the real left view.
        hole: (T, 1, H, W) bool, the base warp's holes; None leaves the region columns empty.
        flow: Motion of the true right view; None, like a still, leaves the columns over time empty.
        disparity: (T, 1, H, W) px, of the right view; for ``disparity_flicker``.
        lpips: The network for ``lpips``, made once and used for all clips; None leaves the columns empty.
        lpips_vgg: The same for ``lpips_vgg``.
        dists: The same for ``dists``.

    Returns:
        A value for each of `columns`; None where it is not defined: an empty region, frames too small for it (MS-SSIM
        below 176 px, LPIPS below 32), too few frames, or an argument that was not given.

    Raises:
        ValueError: Shapes or types that do not fit together.
        SpatialmeError: torchmetrics is not installed.
    """
    sample = Sample(
        prediction.float(), truth.float(), left.float(), hole, flow, disparity, lpips, lpips_vgg=lpips_vgg, dists=dists
    )
    scores: dict[str, list[Tensor]] = {column: [] for column in columns()}
    with _exact_arithmetic(prediction.device):
        for frames in _chunks(sample):
            regions = regions_of(None if hole is None else hole[frames])
            for name, spec in METRICS.items():
                for region, score in _by_region(spec, spec.function(sample, frames), regions):
                    scores[_column(name, region)].append(score)
    return {column: _mean_of_defined(parts) for column, parts in scores.items()}


def _by_region(spec: MetricSpec, scored: Scored, regions: dict[str, Tensor | None]) -> Iterator[tuple[str, Tensor]]:
    """Scores of the frames, (n,), by region; nothing for an undefined metric."""
    if scored.whole is not None:
        yield "frame", scored.whole
    if scored.map is None:
        return
    for region, mask in regions.items():
        if (region == "frame" and scored.whole is None) or (region != "frame" and spec.regional):
            yield region, spec.finish(mean_over(scored, mask))


def _mean_of_defined(parts: list[Tensor]) -> float | None:
    """Mean over the frames that have a score; the one place where a value leaves the device."""
    if not parts:
        return None
    mean = float(torch.cat(parts).double().nanmean())
    return None if mean != mean else mean


def _chunks(sample: Sample) -> Iterator[slice]:
    """Runs of frames of `CHUNK_PIXELS` or one frame; by the size alone, so that a clip's values never change."""
    count = max(1, CHUNK_PIXELS // (sample.height * sample.width))
    for start in range(0, len(sample), count):
        yield slice(start, min(start + count, len(sample)))


def _column(name: str, region: str) -> str:
    return name if region == "frame" else f"{name}_{region}"


@contextmanager
def _exact_arithmetic(device: torch.device) -> Iterator[None]:
    """Full float32 and repeatable kernels, whatever the caller runs in: SSIM's variances do not survive less."""
    with ExitStack() as stack:
        stack.enter_context(torch.autocast(device.type, enabled=False))
        stack.enter_context(
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
        )
        yield
