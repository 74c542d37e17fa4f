"""Is a shot a usable stereo pair, which eye is which, and how must the eyes be shifted to lie on one another?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from spatialme.evaluation.alignment import vertical_disparities
from spatialme.evaluation.checks import IDENTICAL_BELOW, SWAPPED_BELOW, UNRECTIFIED_ABOVE, UNRECTIFIED_PX
from spatialme.evaluation.eye_order import Votes, vote_eye_order
from spatialme.evaluation.matching import LEAST_MATCHED, sgbm
from spatialme.evaluation.parallax import left_part, right_part
from spatialme.preparation.borders import Window, find_window
from spatialme.preparation.eyes import Eyes
from spatialme.preparation.shots import Picture
from spatialme.shots import to_tensor

Map = NDArray[np.float32]  # (H, W) px of the left view, NaN where unknown

SAMPLES = 4  # frames of a shot that are looked at
SAMPLE_WIDTH = 960  # px; wider pictures are shrunk to look at them
OUTLIERS_PERCENT = 1.0  # of the matches, which a shift does not follow
LEAST_SHARED = 0.5  # of the width and the height


class UnusableError(Exception):
    """A shot that cannot be trained on; the message is why, in one line."""


@dataclass(frozen=True)
class Layout:
    """How the eyes of a shot lie. Other than `window`, all is told of what lies inside it."""

    window: Window  # without black borders
    swapped: bool  # the given left eye is the right one
    order_share: float | None  # of the votes, that speak for the order taken; None: too few to tell
    vertical_px: float | None  # median; positive: the right eye's points lie lower; None: too few points to tell
    vertical_spread_px: float | None  # median deviation from it, by rotation, zoom or lenses
    shift_px: int  # horizontal, after which all disparities but outliers are 0 or more

    @property
    def vertical_shift_px(self) -> int:
        """By which the right eye is moved up: whole rows, as anything else would blur it."""
        return 0 if self.vertical_px is None else round(self.vertical_px)

    def align(self, eyes: Eyes) -> Eyes:
        """Both eyes in order and shifted, less the rows and columns that have no partner."""
        left, right = (self.window.cut(eye) for eye in (eyes[::-1] if self.swapped else eyes))
        left, right = _without_rows(left, self.vertical_shift_px), _without_rows(right, -self.vertical_shift_px)
        planar = [torch.from_numpy(eye).permute(2, 0, 1) for eye in (left, right)]
        shared = left_part(planar[0], self.shift_px), right_part(planar[1], self.shift_px)
        return shared[0].permute(1, 2, 0).contiguous().numpy(), shared[1].permute(1, 2, 0).contiguous().numpy()

    def align_map(self, disparity: Map) -> Map:
        """The disparity of the given left eye as that of the aligned one; only for eyes that were not swapped."""
        rows = _without_rows(self.window.cut(disparity), self.vertical_shift_px)
        return left_part(torch.from_numpy(rows), self.shift_px).numpy() - np.float32(self.shift_px)


def find_layout(shot: Sequence[Eyes]) -> Layout:
    """Look at a few frames of a shot.

    Raises:
        UnusableError: One view twice, next to no matches, rows that no shift aligns, or eyes that share too little.
    """
    places = np.linspace(0, len(shot) - 1, min(SAMPLES, len(shot))).round().astype(int)
    given = [shot[place] for place in places]
    window = find_window(list(zip(*given)))
    eyes = [(window.cut(left), window.cut(right)) for left, right in given]
    _check_distinct(eyes)
    vertical_px, spread_px = _vertical(eyes)
    level = [_level(pair, vertical_px) for pair in eyes]
    swapped, votes, maps = _order(level)
    if swapped and vertical_px is not None:
        vertical_px = -vertical_px
    known = np.concatenate([found[np.isfinite(found)] for found in maps])
    if known.size < LEAST_MATCHED * sum(found.size for found in maps):
        raise UnusableError("next to nothing of the two eyes matches; these are no two views of one scene")
    shift_px = math.floor(np.percentile(known, OUTLIERS_PERCENT) * _shrunk(eyes[0][0])[0])
    layout = Layout(window, swapped, votes.share, vertical_px, spread_px, shift_px)
    height, width = eyes[0][0].shape[:2]
    if abs(shift_px) > (1 - LEAST_SHARED) * width or abs(layout.vertical_shift_px) > (1 - LEAST_SHARED) * height:
        raise UnusableError(f"the eyes are {shift_px} px apart of {width} and share too little")
    return layout


def _check_distinct(eyes: Sequence[Eyes]) -> None:
    difference = float(np.mean([cv2.absdiff(left, right).mean() for left, right in eyes])) / 255
    if difference < IDENTICAL_BELOW:
        raise UnusableError(f"both eyes show one view (they differ by {255 * difference:.2f} of 255)")


def _vertical(eyes: Sequence[Eyes]) -> tuple[float | None, float | None]:
    """Median and median deviation of the points' vertical disparities, px; None where too few points match."""
    found = [vertical_disparities(*(to_tensor([eye], "cpu")[0] for eye in pair)) for pair in eyes]
    points = [some for some in found if some is not None]
    if not points:
        return None, None
    vertical = np.concatenate(points)
    median = float(np.median(vertical))
    spread = float(np.median(np.abs(vertical - median)))
    if spread > max(UNRECTIFIED_PX, UNRECTIFIED_ABOVE * eyes[0][0].shape[0]):
        raise UnusableError(f"points lie {spread:.1f} px off their rows after a shift by {median:.1f} px; rectify it")
    return median, spread


def _level(eyes: Eyes, vertical_px: float | None) -> Eyes:
    """The eyes with their rows aligned, small enough to look at."""
    rows = round(vertical_px or 0)
    size = _shrunk(eyes[0])[1]
    left, right = (_without_rows(eye, sign * rows) for eye, sign in zip(eyes, (1, -1)))
    small = [np.asarray(cv2.resize(eye, size, interpolation=cv2.INTER_AREA), np.uint8) for eye in (left, right)]
    return small[0], small[1]


def _order(level: Sequence[Eyes]) -> tuple[bool, Votes, list[Map]]:
    """Whether the eyes are swapped, the votes for the order taken, and the disparities in that order."""
    votes, maps = _voted(level)
    if votes.share is None or votes.share >= SWAPPED_BELOW:
        return False, votes, maps
    other_votes, other_maps = _voted([(right, left) for left, right in level])
    return True, other_votes, other_maps


def _voted(level: Sequence[Eyes]) -> tuple[Votes, list[Map]]:
    right_order = swapped = 0
    maps = []
    for pair in level:
        left, right = (to_tensor([eye], "cpu") for eye in pair)
        found = sgbm(left[0], right[0])
        votes = vote_eye_order(left, torch.from_numpy(found)[None, None])
        right_order, swapped = right_order + votes.right_order, swapped + votes.swapped
        maps.append(found)
    return Votes(right_order, swapped), maps


def _shrunk(eye: Picture) -> tuple[float, tuple[int, int]]:
    """How much smaller an eye is looked at, and its width and height then."""
    height, width = eye.shape[:2]
    factor = max(1.0, width / SAMPLE_WIDTH)
    return factor, (round(width / factor), round(height / factor))


def _without_rows(eye: NDArray, rows: int) -> NDArray:
    """Without so many rows at the bottom; negative: at the top."""
    return eye[max(0, -rows) : len(eye) - max(0, rows)]
