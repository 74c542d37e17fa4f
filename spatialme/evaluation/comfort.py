"""Is a stereo clip comfortable to look at? Depth budget, alignment, window violations and exposure of the two eyes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spatialme.evaluation.alignment import vertical_disparities
from spatialme.evaluation.pixels import LEVELS, luma

MOST_ALIGNED_FRAMES = 8  # evenly spaced over the clip: alignment is the camera's, it changes slowly
MOST_PERCENTILE_VALUES = 2_000_000  # of the disparity, on a regular grid
WINDOW_STRIP = 0.01  # of the width, at either side, at least 1 px
WINDOW_TOLERANCE_PERCENT = 0.1  # of the width in front of the screen that nobody sees


@dataclass(frozen=True)
class Comfort:
    """What two views do to a pair of eyes; None where it could not be told. `%` is percent of the width."""

    disparity_p1: float | None  # %, positive = in front of the screen; the far end of the depth
    disparity_p5: float | None  # %
    disparity_p50: float | None  # %
    disparity_p95: float | None  # %
    disparity_p99: float | None  # %, the near end
    window_violation: float | None  # share of the side borders' pixels, in [0, 1], that stand in front of the screen
    vertical_offset: float | None  # %, median; positive = the right view's picture lies lower
    vertical_disparity_p95: float | None  # %, of the absolute values: with it, rotation and zoom show, too
    exposure_difference: float  # levels of 255, right minus left, mean luma
    colour_difference: float  # levels of 255, largest of red, green and blue once the exposure is taken off


def measure_comfort(left: Tensor, right: Tensor, *, disparity: Tensor | None = None) -> Comfort:
    """Take the comfort measures of one clip.

    Args:
        left: (T, 3, H, W) RGB in [0, 1].
        right: The same size.
        disparity: (T, 1, H, W) px of the left view, NaN where unknown; None leaves what needs it empty.

    Raises:
        ValueError: Shapes that do not fit together.
    """
    if left.ndim != 4 or left.shape[1] != 3 or not len(left) or right.shape != left.shape:
        raise ValueError(f"left and right must both be (T, 3, H, W), got {tuple(left.shape)} and {tuple(right.shape)}")
    if disparity is not None and disparity.shape != left[:, :1].shape:
        raise ValueError(f"disparity must be {tuple(left[:, :1].shape)}, got {tuple(disparity.shape)}")
    p1, p5, p50, p95, p99 = _percentiles(disparity, (1, 5, 50, 95, 99))
    vertical_offset, vertical_disparity_p95 = _alignment(left, right)
    exposure, colour = _colour_match(left, right)
    return Comfort(
        disparity_p1=p1,
        disparity_p5=p5,
        disparity_p50=p50,
        disparity_p95=p95,
        disparity_p99=p99,
        window_violation=_window_violation(disparity),
        vertical_offset=vertical_offset,
        vertical_disparity_p95=vertical_disparity_p95,
        exposure_difference=exposure,
        colour_difference=colour,
    )


def _percentiles(disparity: Tensor | None, wanted: tuple[int, ...]) -> list[float | None]:
    """Of the known disparities, in percent of the width."""
    if disparity is None:
        return [None] * len(wanted)
    step = max(1, int(np.ceil((disparity.numel() / MOST_PERCENTILE_VALUES) ** 0.5)))
    values = disparity[:, :, ::step, ::step].double().cpu().numpy()
    values = values[np.isfinite(values)]
    if not len(values):
        return [None] * len(wanted)
    return [float(value) for value in np.percentile(values, wanted) * (100 / disparity.shape[3])]


def _window_violation(disparity: Tensor | None) -> float | None:
    """Share of the known pixels in the strips along the left and right border that lie in front of the screen.

    There one eye loses what the other sees, although nothing in front of it hides it.
    """
    if disparity is None:
        return None
    width = disparity.shape[3]
    strip = max(1, round(WINDOW_STRIP * width))
    sides = torch.cat((disparity[..., :strip], disparity[..., -strip:]), -1)
    known = int(sides.isfinite().sum())
    in_front = int((sides > WINDOW_TOLERANCE_PERCENT / 100 * width).sum())  # False for NaN
    return in_front / known if known else None


def _alignment(left: Tensor, right: Tensor) -> tuple[float | None, float | None]:
    """Median and 95th percentile of the absolute vertical disparity, in percent of the width."""
    frames = np.unique(np.linspace(0, len(left) - 1, MOST_ALIGNED_FRAMES).round().astype(int))
    found: list[NDArray[np.float64]] = []
    for frame in frames:
        vertical = vertical_disparities(left[frame], right[frame])
        if vertical is not None:
            found.append(vertical)
    if not found:
        return None, None
    percent = np.concatenate(found) * (100 / left.shape[3])
    return float(np.median(percent)), float(np.percentile(np.abs(percent), 95))


def _colour_match(left: Tensor, right: Tensor) -> tuple[float, float]:
    """Difference of mean luma, and what is left of the largest colour difference, in levels of 255."""
    colours = torch.stack([(b.mean((1, 2)) - a.mean((1, 2))).double() for a, b in zip(left, right)]).mean(0) * LEVELS
    exposure = luma(colours.view(1, 3, 1, 1)).reshape(())
    return float(exposure), float((colours - exposure).abs().max())
