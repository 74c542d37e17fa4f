"""Where the methods fail worst: the places in holes at which all of them together are farthest from the truth."""

from __future__ import annotations

import cv2
import numpy as np

from spatialme.evaluation.results import Shown


def worst_holes(shown: Shown, *, size_px: int, count: int) -> list[tuple[int, int]]:
    """Top and left of squares that do not overlap, the worst first; fewer where there are no more holes.

    The median over the methods counts, so that one that leaves holes black does not decide alone.
    """
    height, width = shown.truth.shape[:2]
    if height < size_px or width < size_px or not shown.views:
        return []
    truth = shown.truth.astype(np.float32)
    errors = np.stack([np.abs(view.astype(np.float32) - truth).mean(2) for view in shown.views.values()])
    error = np.where(shown.hole, np.median(errors, axis=0), 0).astype(np.float64)
    corners = np.asarray(cv2.integral(error))
    total = corners[size_px:, size_px:] - corners[:-size_px, size_px:] - corners[size_px:, :-size_px]
    total = total + corners[:-size_px, :-size_px]  # of the square that begins here
    places: list[tuple[int, int]] = []
    while len(places) < count and total.max() > 0:
        top, left = (int(value) for value in np.unravel_index(total.argmax(), total.shape))
        places.append((top, left))
        total[max(0, top - size_px + 1) : top + size_px, max(0, left - size_px + 1) : left + size_px] = 0
    return places
