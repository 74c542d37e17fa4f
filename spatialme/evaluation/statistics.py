"""How sure is a mean over clips? Bootstrap intervals and a paired test, both repeatable."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
LEVEL = 0.95
EXACT_UP_TO = 12  # clips; all 2^n signs are tried then

Values = NDArray[np.float64]


def bootstrap_interval(values: Values) -> tuple[float, float]:
    """The percentile interval of the mean at `LEVEL`, clips drawn with replacement (Efron 1979).

    Args:
        values: (n,), one per clip; of one clip the interval is its value.
    """
    draws = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(values[draws].mean(1), (tail, 100 - tail))
    return float(low), float(high)


def sign_flip_p(differences: Values) -> float:
    """Two-sided p of a mean difference as large as this if its sign were chance in each clip (Fisher's test).

    Exact up to `EXACT_UP_TO` clips, by random signs beyond.

    Args:
        differences: (n,), one per clip.
    """
    count = len(differences)
    if count <= EXACT_UP_TO:
        signs = np.array(list(itertools.product((1, -1), repeat=count)))
    else:
        drawn = np.random.default_rng(0).choice((1, -1), (RESAMPLES, count))
        signs = np.concatenate((np.ones((1, count), dtype=drawn.dtype), drawn))  # with the signs as they are: p > 0
    means = np.abs(signs @ differences)
    observed = abs(differences.sum())
    return float((means >= observed * (1 - 1e-9)).mean())  # sums of other order differ in the last bits
