"""Which eye is which? Told by what only one eye sees, which belongs to the surface that must be the farther one.

Row of the left view:  far far [ seen by this eye alone ] near near

In the right order the lone stretch continues the far surface on its left. With the eyes swapped the disparity changes
its sign, so that near seems far and the same stretch seems to continue the near one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

STEP_PX = 2.0  # of disparity across the stretch, for it to lie between two surfaces
NARROWEST_PX = 4
GAP_PX = 2  # next to a border left out, for matches are blurred there
CONTEXT_PX = 6  # beside the stretch, whose colour stands for the surface
CLEAR = 0.03  # of [0, 1], by which one surface's colour must be nearer
FEWEST_VOTES = 100


class Votes(NamedTuple):
    """How many lone stretches speak for either order."""

    right_order: int
    swapped: int

    @property
    def share(self) -> float | None:
        """Of the votes that speak for the right order; None with too few to tell."""
        total = self.right_order + self.swapped
        return self.right_order / total if total >= FEWEST_VOTES else None


def vote_eye_order(left: Tensor, agreed: Tensor) -> Votes:
    """Let every stretch that one eye alone sees vote.

    Args:
        left: (T, 3, H, W) RGB in [0, 1].
        agreed: (T, 1, H, W) px of it, NaN where the eyes do not agree.
    """
    picture = left.permute(0, 2, 3, 1).reshape(-1, left.shape[3], 3).cpu().numpy()
    disparity = agreed.reshape(-1, left.shape[3]).cpu().numpy()
    row, start, stop = _lone_stretches(~np.isfinite(disparity))
    width = disparity.shape[1]
    reach = GAP_PX + CONTEXT_PX
    fits = (stop - start >= NARROWEST_PX) & (start >= reach) & (stop <= width - reach)
    row, start, stop = row[fits], start[fits], stop[fits]
    before, after = (disparity[row, start - reach], disparity[row, stop + reach - 1])
    with np.errstate(invalid="ignore"):
        rises = after - before > STEP_PX  # False where either is unknown
    row, start, stop = row[rises], start[rises], stop[rises]
    sums = np.pad(picture.astype(np.float64).cumsum(1), ((0, 0), (1, 0), (0, 0)))

    def mean(first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.float64]:
        return (sums[row, last] - sums[row, first]) / (last - first)[:, None]

    lone = mean(start, stop)
    far = np.abs(lone - mean(start - reach, start - GAP_PX)).max(1)
    near = np.abs(lone - mean(stop + GAP_PX, stop + reach)).max(1)
    return Votes(int((near - far > CLEAR).sum()), int((far - near > CLEAR).sum()))


def _lone_stretches(lone: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Row, first column and last column + 1 of each run of True in (N, W)."""
    change = np.diff(np.pad(lone, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    row, start = np.nonzero(change == 1)
    _, stop = np.nonzero(change == -1)
    return row, start, stop
