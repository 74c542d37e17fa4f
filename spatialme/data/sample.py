"""One training sample, and how it is made of a left view, its disparity and the true right view.

The branches are those of a conversion, of one frame: poly as it is, propagation without neighbours (its background
fill), expansion the same on the expanded disparity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor

from spatialme.inpaint.background import fill_background
from spatialme.inpaint.polyline import rasterise_polylines
from spatialme.warp import expand_disparity, forward_warp
from spatialme.warp.expansion import RADIUS_PX, REFERENCE_WIDTH, THRESHOLD_PX

NARROWEST_FRAME_PX, WIDEST_FRAME_PX = 640.0, 1920.0  # widths of the conversions that training stands for
LEAST_PERCENT, MOST_PERCENT = 1.0, 4.0  # depth budgets around the default of 2.5 % of the width
LARGEST_SHARE = 0.25  # of the crop's side, that a budget may take: wider holes would leave nothing to fill them from


class Sample(NamedTuple):
    """What the refiner sees and what it should have made of it; a batch has the same fields with a leading axis."""

    left: Tensor  # (3, H, W) float RGB in [0, 1], the source eye
    right: Tensor  # (3, H, W), the truth
    warped: Tensor  # (3, H, W), the base warp; zero inside its holes
    poly: Tensor  # (3, H, W), the branches
    expansion: Tensor
    dl: Tensor
    hole: Tensor  # (1, H, W) bool, the base warp's holes


class Source(Protocol):
    """Somewhere that samples come from."""

    def sample(self, random: np.random.Generator) -> Sample:
        """Draw one; all sources of a run give the same size."""


class Pair(NamedTuple):
    """Both eyes of one frame, before anything is computed from them."""

    left: Tensor  # (3, H, W)
    right: Tensor  # (3, H, W)
    disparity: Tensor  # (1, H, W) px, of the left view


@dataclass(frozen=True)
class Budget:
    """The depth budget of one sample, in pixels because a crop does not know how wide its frame is."""

    span_px: float  # disparity between nearness 0 and 1
    convergence: float  # nearness on the screen plane
    frame_width_px: float  # of the frame that the crop stands for; disparity expansion scales with it

    @property
    def range_px(self) -> tuple[float, float]:
        """Disparity of nearness 0 and of nearness 1."""
        return -self.span_px * self.convergence, self.span_px * (1 - self.convergence)

    @property
    def margin_px(self) -> int:
        """Columns beside a crop that its content may come from."""
        return math.ceil(self.span_px) + 16


def draw_budget(random: np.random.Generator, crop: int) -> Budget:
    """Choose a depth budget for a square crop of this side."""
    width = NARROWEST_FRAME_PX * (WIDEST_FRAME_PX / NARROWEST_FRAME_PX) ** random.random()
    span = width * random.uniform(LEAST_PERCENT, MOST_PERCENT) / 100
    return Budget(min(span, LARGEST_SHARE * crop), random.random(), width)


def build_sample(pair: Pair, budget: Budget, first_column: int, width: int) -> Sample:
    """Warp, run the branches, and cut some columns out.

    Args:
        pair: Both eyes, with margins.
        budget: What the disparity was made with.
        first_column: Of the columns that are kept.
        width: How many are kept.
    """
    left, disparity = pair.left[None], pair.disparity[None]
    warped = forward_warp(left, disparity)
    scale = budget.frame_width_px / REFERENCE_WIDTH
    low_px, high_px = budget.range_px
    expanded = expand_disparity(
        disparity,
        low_px=low_px,
        high_px=high_px,
        radius_px=max(1, round(RADIUS_PX * scale)),
        threshold_px=max(1.0, THRESHOLD_PX * scale),
    )
    wider = forward_warp(left, expanded)
    whole = Sample(
        left=pair.left,
        right=pair.right,
        warped=warped.view[0],
        poly=rasterise_polylines(left, disparity)[0][0],
        expansion=fill_background(wider.view[0], wider.hole[0], wider.disparity[0]),
        dl=fill_background(warped.view[0], warped.hole[0], warped.disparity[0]),
        hole=warped.hole[0],
    )
    return Sample(*(view[..., first_column : first_column + width].contiguous() for view in whole))
