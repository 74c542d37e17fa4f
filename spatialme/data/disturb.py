"""Errors of a real disparity map, put into an exact one.

A map that was matched or estimated is a little off everywhere, and its steps do not lie where the picture's borders
do: a rim of the foreground stays behind with the background, or a rim of background goes along. A refiner that has
only seen exact maps trusts the pixels beside a hole too much.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

LARGEST_NOISE_PX = 0.5  # standard deviation of the smooth error
CELL_PX = 12  # of the smooth error
LARGEST_SHIFT_PX = 2  # of a step


def disturb_disparity(disparity: Tensor, random: np.random.Generator) -> Tensor:
    """Add a smooth error, and move steps to either side, differently from place to place: (1, H, W) px, a new map."""
    exact = disparity[0].numpy()
    radius = int(random.integers(LARGEST_SHIFT_PX + 1))
    square = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    choice = _smooth_noise(random, exact.shape)
    moved = np.where(choice > 0.5, cv2.dilate(exact, square), np.where(choice < -0.5, cv2.erode(exact, square), exact))
    noise = random.uniform(0, LARGEST_NOISE_PX) * _smooth_noise(random, exact.shape)
    return torch.from_numpy((moved + noise).astype(np.float32))[None]


def _smooth_noise(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Of standard deviation near 1, with bumps of about `CELL_PX`."""
    height, width = shape
    cells = random.standard_normal((height // CELL_PX + 2, width // CELL_PX + 2)).astype(np.float32)
    return cv2.resize(cells, (width, height), interpolation=cv2.INTER_CUBIC)
