"""Is this a real stereo pair? What would make a table worthless is refused, in one line."""

from __future__ import annotations

import numpy as np

from spatialme.errors import InputError
from spatialme.evaluation.alignment import vertical_disparities
from spatialme.evaluation.eye_order import vote_eye_order
from spatialme.evaluation.matching import Matched
from spatialme.evaluation.pairs import StereoPair

IDENTICAL_BELOW = 0.5 / 255  # mean difference of the eyes, of [0, 1]: less than any coding noise
UNRECTIFIED_ABOVE = 0.005  # of the height, median of the points' vertical disparities; and `UNRECTIFIED_PX`
UNRECTIFIED_PX = 2.0
# Share of votes. Of 37 real pairs and clips with votes enough the right order has 0.41 to 0.96; with the eyes
# exchanged, 21 of 32 are below this limit and nine of the others below 0.5. No real recording must be refused.
SWAPPED_BELOW = 0.3


def check_distinct(pair: StereoPair) -> None:
    """Raise InputError for two eyes that show one view."""
    difference = float((pair.left - pair.right).abs().mean())
    if difference < IDENTICAL_BELOW:
        raise InputError(
            f"{pair.name}: the eyes differ by {255 * difference:.2f} of 255, expected two views; give real stereo"
        )


def check_rectified(pair: StereoPair) -> None:
    """Raise InputError where matched points of the first frame do not lie on the same rows."""
    vertical = vertical_disparities(pair.left[0], pair.right[0])
    if vertical is None:
        return
    offset = float(np.median(np.abs(vertical)))
    if offset > max(UNRECTIFIED_PX, UNRECTIFIED_ABOVE * pair.left.shape[2]):
        raise InputError(f"{pair.name}: points lie {offset:.1f} px apart in height, expected the same rows; rectify it")


def check_eye_order(pair: StereoPair, matched: Matched) -> None:
    """Raise InputError where what one eye alone sees says that left is right."""
    share = vote_eye_order(pair.left, matched.agreed).share
    if share is not None and share < SWAPPED_BELOW:
        raise InputError(
            f"{pair.name}: the eyes seem to be swapped ({100 * share:.0f} % of half-hidden areas fit, expected more "
            f"than {100 * SWAPPED_BELOW:.0f} %); exchange left and right"
        )
