"""Structural similarity, by torchmetrics; the one importer of that library."""

from __future__ import annotations

from types import ModuleType

from torch import Tensor

from spatialme.errors import SpatialmeError
from spatialme.evaluation.sample import Sample, Scored

MS_SSIM_SMALLEST_SIDE = 176  # five scales of an 11-pixel window


def structural_similarity(sample: Sample, frames: slice) -> Scored:
    """SSIM (Wang et al. 2004): Gaussian window of 11 px and sigma 1.5, per channel, the border reflected."""
    _, image = torchmetrics_image().structural_similarity_index_measure(
        sample.prediction[frames], sample.truth[frames], data_range=1.0, return_full_image=True
    )
    return Scored(image.mean(1, keepdim=True))


def multiscale_structural_similarity(sample: Sample, frames: slice) -> Scored:
    """MS-SSIM (Wang et al. 2003), five scales; undefined for a side below `MS_SSIM_SMALLEST_SIDE`."""
    if min(sample.height, sample.width) < MS_SSIM_SMALLEST_SIDE:
        return Scored()
    whole: Tensor = torchmetrics_image().multiscale_structural_similarity_index_measure(
        sample.prediction[frames], sample.truth[frames], data_range=1.0, reduction="none"
    )
    return Scored(whole=whole.reshape(-1))


def torchmetrics_image() -> ModuleType:
    """The library's functional image metrics.

    Raises:
        SpatialmeError: It is not installed.
    """
    try:
        from torchmetrics.functional import image
    except ImportError as error:
        raise SpatialmeError(
            "torchmetrics is not installed and SSIM, MS-SSIM and DISTS need it; run `pip install torchmetrics`"
        ) from error
    return image
