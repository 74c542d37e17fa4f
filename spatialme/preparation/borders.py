"""Black borders: letterbox bars, and the wedges that rectification leaves. Nothing is to be learnt from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatialme.preparation.shots import Picture

DARKEST = 4  # levels of 255; coding lifts black a little
LEAST_KEPT = 0.5  # of the width and the height; a night scene is no border
MOST_DARK = 0.01  # of an edge of what is kept


@dataclass(frozen=True)
class Window:
    """What is kept of a picture: rows and columns, stop exclusive."""

    top: int
    bottom: int
    left: int
    right: int

    def cut(self, picture: NDArray) -> NDArray:
        """(H, W, ...) -> its part inside the window."""
        return picture[self.top : self.bottom, self.left : self.right]


def find_window(pictures: Sequence[Sequence[Picture]]) -> Window:
    """The window without the borders that are black in all frames.

    Args:
        pictures: Of each eye, or of the only one, some frames of one size. What is black in one eye is cut off both.
    """
    dark = np.any([_border(np.max(frames, axis=(0, 3)) <= DARKEST) for frames in pictures], axis=0)
    height, width = dark.shape
    whole = Window(0, height, 0, width)
    window = whole
    while window.bottom - window.top > LEAST_KEPT * height and window.right - window.left > LEAST_KEPT * width:
        inside = window.cut(dark)
        edges = {"top": inside[0], "bottom": inside[-1], "left": inside[:, 0], "right": inside[:, -1]}
        shares = {name: float(edge.mean()) for name, edge in edges.items()}
        worst = max(shares, key=lambda name: shares[name])
        if shares[worst] <= MOST_DARK:
            return window
        step = 1 if worst in ("top", "left") else -1
        window = Window(**{**vars(window), worst: getattr(window, worst) + step})
    return whole


def _border(dark: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Of dark pixels those that nothing bright parts from an edge of the picture, straight across."""
    runs = []
    for axis in (0, 1):
        runs.append(np.logical_and.accumulate(dark, axis))
        runs.append(np.flip(np.logical_and.accumulate(np.flip(dark, axis), axis), axis))
    return np.logical_or.reduce(runs)
