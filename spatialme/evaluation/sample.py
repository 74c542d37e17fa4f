"""One clip as a metric sees it, and the regions of its frames that are judged apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from spatialme.types import Motion

if TYPE_CHECKING:
    from spatialme.evaluation.dists import Dists
    from spatialme.evaluation.perceptual import Lpips

BORDER_PX = 8  # width of the band around a hole, as in METHOD.md section 5 and the tables
REGIONS = ("frame", "hole", "border", "outside")


@dataclass(frozen=True)
class Sample:
    """A predicted right view, what it is compared with, and the networks that judge it. All on one device."""

    prediction: Tensor  # (T, 3, H, W) float RGB in [0, 1]: the right view to be judged
    truth: Tensor  # (T, 3, H, W) the real right view
    left: Tensor  # (T, 3, H, W) the real left view
    hole: Tensor | None = None  # (T, 1, H, W) bool, the base warp's holes; None for tools that do not tell them
    flow: Motion | None = None  # of the true right view, T frames, so that every method is judged along the same one
    disparity: Tensor | None = None  # (T, 1, H, W) px, of the right view; not looked at inside holes
    lpips: Lpips | None = None
    lpips_vgg: Lpips | None = None
    dists: Dists | None = None

    def __post_init__(self) -> None:
        if self.prediction.ndim != 4 or self.prediction.shape[1] != 3 or not len(self.prediction):
            raise ValueError(f"prediction must be (T, 3, H, W) with T >= 1, got {tuple(self.prediction.shape)}")
        for name in ("truth", "left"):
            self._check_shape(name, 3)
        for name in ("hole", "disparity"):
            if getattr(self, name) is not None:
                self._check_shape(name, 1)
        if self.hole is not None and self.hole.dtype != torch.bool:
            raise ValueError(f"hole must be bool, got {self.hole.dtype}")
        if self.flow is not None and len(self.flow.forward) != len(self):
            raise ValueError(f"flow must have one entry per frame, got {len(self.flow.forward)} for {len(self)} frames")

    def __len__(self) -> int:
        return len(self.prediction)

    @property
    def height(self) -> int:
        return self.prediction.shape[2]

    @property
    def width(self) -> int:
        return self.prediction.shape[3]

    def _check_shape(self, name: str, channels: int) -> None:
        wanted = (len(self), channels, self.height, self.width)
        found = tuple(getattr(self, name).shape)
        if found != wanted:
            raise ValueError(f"{name} must be {wanted} as prediction is, got {found}")


def regions_of(hole: Tensor | None) -> dict[str, Tensor | None]:
    """The judged parts of some frames: (n, 1, H, W) bool masks by name; None stands for every pixel.

    ``hole`` and ``outside`` share the frame between them. ``border`` is the part of ``outside`` that is at most
    `BORDER_PX` pixels away from a hole, the larger of the horizontal and the vertical distance. Without a hole mask
    there is only ``frame``.
    """
    if hole is None:
        return {"frame": None}
    return {"frame": None, "hole": hole, "border": dilate(hole, BORDER_PX) & ~hole, "outside": ~hole}


def dilate(mask: Tensor, reach_px: int) -> Tensor:
    """True within `reach_px` of a True pixel, in a square: (n, 1, H, W) bool -> the same."""
    size = 2 * reach_px + 1
    wide = F.max_pool2d(mask.float(), (1, size), stride=1, padding=(0, reach_px))
    return F.max_pool2d(wide, (size, 1), stride=1, padding=(reach_px, 0)) > 0


@dataclass(frozen=True)
class Scored:
    """What one metric says about n frames."""

    map: Tensor | None = None  # (n, 1, H, W): its mean over a region (then `finish`) is that region's score
    counted: Tensor | None = None  # (n, 1, H, W) bool, pixels of the map that say anything; None: all of them
    whole: Tensor | None = None  # (n,) score of each whole frame, NaN if undefined; None: by the map


def mean_over(scored: Scored, region: Tensor | None) -> Tensor:
    """Mean of a map over a region's counted pixels, frame by frame.

    Args:
        scored: With a map of n frames.
        region: (n, 1, H, W) bool; None: every pixel.

    Returns:
        (n,) float64, NaN where nothing counts.
    """
    assert scored.map is not None
    counted = scored.counted if region is None else region if scored.counted is None else region & scored.counted
    if counted is None:
        return scored.map.mean((1, 2, 3), dtype=torch.float64)
    total = torch.where(counted, scored.map, 0).sum((1, 2, 3), dtype=torch.float64)
    return total / counted.sum((1, 2, 3))
