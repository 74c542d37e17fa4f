"""Views of a panorama: many pictures of one place, for a teacher to answer."""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from spatialme.training.depth_rooms import Camera

VIEW_SIZE = 192, 256  # height, width in px
LOWEST, HIGHEST = -0.45, 0.12  # radians upwards: floors tell more than ceilings
NARROWEST, WIDEST = 1.2, 1.7  # radians across; panoramas are seldom fine enough for less
Picture = NDArray[np.uint8]


def panorama_views(panorama: Picture, count: int) -> Iterator[Picture]:
    """Look around from where a panorama was taken.

    Args:
        panorama: (H, 2H, 3) RGB, all directions: its middle column is straight ahead, its top row overhead.
        count: Views, spread evenly around; how high each looks, and how wide, is drawn by its number.

    Yields:
        (192, 256, 3) RGB.
    """
    height, width = panorama.shape[:2]
    for number in range(count):
        random = np.random.default_rng(number)
        yaw = 2 * math.pi * number / count
        camera = Camera(0.0, yaw, random.uniform(LOWEST, HIGHEST), random.uniform(NARROWEST, WIDEST))
        x, y, z = camera.rays(VIEW_SIZE)
        column = (np.arctan2(x, z) / (2 * math.pi) + 0.5) * width - 0.5
        row = (0.5 - np.arctan2(y, np.hypot(x, z)) / math.pi) * height - 0.5
        columns, rows = (part.reshape(VIEW_SIZE).astype(np.float32) for part in (column, row))
        yield np.asarray(cv2.remap(panorama, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP), np.uint8)
