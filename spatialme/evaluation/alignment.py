"""How far the two eyes are from rectified: vertical disparity, by matched image features."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

LONG_SIDE = 1280  # px; larger pictures are shrunk for the search, the result is told in the picture's own pixels
MOST_FEATURES = 2000
RATIO = 0.75  # a match's distance over the next best one's (Lowe 2004)
LARGEST_VERTICAL = 0.05  # of the height, by which eyes meant for people are ever off
LARGEST_HORIZONTAL = 0.25  # of the width
FEWEST_MATCHES = 20

Points = NDArray[np.float32]


def vertical_disparities(left: Tensor, right: Tensor) -> NDArray[np.float64] | None:
    """How much lower matched points lie in the right view.

    SIFT features, matched both ways with Lowe's ratio test; sub-pixel, and blind to flat areas.

    Args:
        left: (3, H, W) RGB in [0, 1].
        right: The same size.

    Returns:
        (n,) px, positive = lower in the right view; None where fewer than `FEWEST_MATCHES` points match.
    """
    height, width = left.shape[1:]
    shrink = min(1.0, LONG_SIDE / max(height, width))
    sift = cv2.SIFT.create(nfeatures=MOST_FEATURES)
    left_points, left_features = _features(sift, left, shrink)
    right_points, right_features = _features(sift, right, shrink)
    if left_features is None or right_features is None:
        return None
    pairs = _mutual_matches(left_features, right_features)
    x, y = (right_points[pairs[:, 1]] - left_points[pairs[:, 0]]).T.astype(np.float64) / shrink
    plausible = (np.abs(y) <= LARGEST_VERTICAL * height) & (np.abs(x) <= LARGEST_HORIZONTAL * width)
    found = y[plausible]
    return found if len(found) >= FEWEST_MATCHES else None


def _features(sift: cv2.SIFT, picture: Tensor, shrink: float) -> tuple[Points, Points | None]:
    levels = (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    grey = cv2.cvtColor(np.ascontiguousarray(levels), cv2.COLOR_RGB2GRAY)
    if shrink < 1:
        grey = cv2.resize(grey, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    points, features = sift.detectAndCompute(grey, None)
    positions = np.array([point.pt for point in points], dtype=np.float32).reshape(-1, 2)
    return positions, np.asarray(features, dtype=np.float32) if points else None


def _mutual_matches(left: Points, right: Points) -> NDArray[np.int64]:
    """Index pairs (n, 2) that choose each other, each clearly."""
    forth = _clear_matches(left, right)
    back = _clear_matches(right, left)
    pairs = [(i, j) for i, j in forth.items() if back.get(j) == i]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def _clear_matches(queries: Points, candidates: Points) -> dict[int, int]:
    rows = cv2.BFMatcher(cv2.NORM_L2).knnMatch(queries, candidates, k=2)
    return {row[0].queryIdx: row[0].trainIdx for row in rows if len(row) == 2 and _is_clear(*row)}


def _is_clear(best: cv2.DMatch, second: cv2.DMatch) -> bool:
    return best.distance < RATIO * second.distance
