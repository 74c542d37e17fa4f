"""How good relative depth is: figures that do not depend on its scale and offset."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RANGE_QUANTILES = 0.02, 0.98  # of the known truth; their distance is its range
REFITS = 2  # of the affine map, without the worst pixels: labels from matching have outliers
KEPT = 0.95  # share of the pixels that a refit keeps

Array = NDArray[np.floating]


class DepthScore(NamedTuple):
    """Figures of one picture."""

    error: float  # mean absolute error over the truth's range, after the best affine map; 0 is perfect
    correlation: float  # Pearson's, 1 is perfect


def depth_score(answer: Array, truth: Array) -> DepthScore:
    """Compare a depth map with the truth where that is known.

    Args:
        answer: (H, W) any scale and offset, larger = nearer.
        truth: (H, W), NaN where unknown.

    Returns:
        NaN figures where less than 16 pixels are known or the truth is flat.
    """
    known = np.isfinite(truth)
    own, wanted = answer[known].astype(np.float64), truth[known].astype(np.float64)
    if len(own) < 16:
        return DepthScore(float("nan"), float("nan"))
    low, high = np.quantile(wanted, RANGE_QUANTILES)
    if high <= low:
        return DepthScore(float("nan"), float("nan"))
    error = np.abs(_fitted(own, wanted) - wanted).mean() / (high - low)
    spread = own.std() * wanted.std()
    correlation = ((own - own.mean()) * (wanted - wanted.mean())).mean() / spread if spread > 0 else 0.0
    return DepthScore(float(error), float(correlation))


def _fitted(own: Array, wanted: Array) -> Array:
    """`own` mapped to `wanted` by least squares, refitted without the worst pixels; never by a negative gain."""
    chosen = np.ones(len(own), bool)
    for _ in range(1 + REFITS):
        spread = own[chosen].var()
        covariance = ((own[chosen] - own[chosen].mean()) * (wanted[chosen] - wanted[chosen].mean())).mean()
        gain = max(0.0, covariance / spread) if spread > 0 else 0.0
        mapped = gain * (own - own[chosen].mean()) + wanted[chosen].mean()
        off = np.abs(mapped - wanted)
        chosen = off <= np.quantile(off, KEPT)
    return mapped
