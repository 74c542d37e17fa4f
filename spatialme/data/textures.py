"""Random surfaces for layered scenes: what they look like, and their outlines."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Mask = NDArray[np.uint8]

FINEST_CELL_PX = 4  # of noise, in the fine picture: two pixels of the views, the finest that they can show


def draw_texture(random: np.random.Generator, height: int, width: int) -> Array:
    """A surface's colours: (height, width, 3) RGB in [0, 1]."""
    base, tint, paint = random.random((3, 3)).astype(np.float32)
    rough = _noise(random, height, width)
    pattern = PATTERNS[random.integers(len(PATTERNS))](random, height, width)
    colour = base + rough[..., None] * random.uniform(0.05, 0.6) * (tint - base)
    colour += pattern[..., None] * random.uniform(0, 1) * (paint - colour)
    shade = 1 - random.uniform(0, 0.4) * np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    return np.clip(colour * shade, 0, 1).astype(np.float32)


def draw_outline(random: np.random.Generator, height: int, width: int) -> Mask:
    """A shape that lies at least partly in the picture: (height, width), 255 inside."""
    mask = np.zeros((height, width), np.uint8)
    centre = random.uniform(0, width), random.uniform(0, height)
    size = min(height, width) * math.exp(random.uniform(math.log(0.05), math.log(0.5)))
    OUTLINES[random.integers(len(OUTLINES))](random, mask, centre, size)
    return mask


def _noise(random: np.random.Generator, height: int, width: int) -> Array:
    """Fractal noise in [0, 1]: octaves of smooth random cells, the finer the weaker."""
    total = np.zeros((height, width), np.float32)
    fade = random.uniform(0.4, 0.9)
    cell, strength = max(height, width) / random.uniform(2, 8), 1.0
    while cell >= FINEST_CELL_PX:
        grid = random.random((math.ceil(height / cell) + 1, math.ceil(width / cell) + 1), dtype=np.float32)
        total += strength * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        cell, strength = cell / 2, strength * fade
    low, high = float(total.min()), float(total.max())
    return (total - low) / max(high - low, 1e-6)


def _patches(random: np.random.Generator, height: int, width: int) -> Array:
    """Hard-edged patches with outlines like clouds'."""
    return (_noise(random, height, width) > random.uniform(0.35, 0.65)).astype(np.float32)


def _stripes(random: np.random.Generator, height: int, width: int) -> Array:
    return (_wave(random, height, width) > random.uniform(-0.6, 0.6)).astype(np.float32)


def _checks(random: np.random.Generator, height: int, width: int) -> Array:
    return (_wave(random, height, width) * _wave(random, height, width) > 0).astype(np.float32)


def _writing(random: np.random.Generator, height: int, width: int) -> Array:
    """Straight strokes of any direction."""
    page = np.zeros((height, width), np.uint8)
    for _ in range(random.integers(5, 60)):
        x, y = random.uniform(0, width), random.uniform(0, height)
        length, angle = random.uniform(8, 120), random.uniform(0, math.pi)
        end = round(x + length * math.cos(angle)), round(y + length * math.sin(angle))
        cv2.line(page, (round(x), round(y)), end, 255, int(random.integers(2, 9)), cv2.LINE_AA)
    return page.astype(np.float32) / 255


def _wave(random: np.random.Generator, height: int, width: int) -> Array:
    """A plane wave in [-1, 1]."""
    wavelength, angle, phase = math.exp(random.uniform(math.log(8), math.log(120))), *random.uniform(0, 2 * math.pi, 2)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return np.sin((x * math.cos(angle) + y * math.sin(angle)) * (2 * math.pi / wavelength) + phase).astype(np.float32)


def _ellipse(random: np.random.Generator, mask: Mask, centre: tuple[float, float], size: float) -> None:
    axes = max(1, round(size)), max(1, round(size * random.uniform(0.3, 1)))
    cv2.ellipse(mask, _rounded(*centre), axes, random.uniform(0, 180), 0, 360, 255, -1)


def _ring(random: np.random.Generator, mask: Mask, centre: tuple[float, float], size: float) -> None:
    thickness = max(2, round(size * random.uniform(0.1, 0.4)))
    cv2.circle(mask, _rounded(*centre), max(2, round(size)), 255, thickness)


def _polygon(random: np.random.Generator, mask: Mask, centre: tuple[float, float], size: float) -> None:
    """A star-shaped polygon, from a box to something like a person's outline."""
    corners = int(random.integers(3, 16))
    angle = np.sort(random.uniform(0, 2 * np.pi, corners))
    radius = size * random.uniform(0.4, 1.2, corners)
    points = np.stack([centre[0] + radius * np.cos(angle), centre[1] + radius * np.sin(angle)], 1)
    cv2.fillPoly(mask, [points.round().astype(np.int32)], 255)


def _bar(random: np.random.Generator, mask: Mask, centre: tuple[float, float], size: float) -> None:
    """A pole, a branch or a wire across the picture, with a bend."""
    height, width = mask.shape
    lean = random.uniform(-0.5, 0.5, 2) * width
    points = np.array([[centre[0] + lean[0], 0], centre, [centre[0] + lean[1], height]])
    if random.random() < 0.3:
        points = points[:, ::-1]
    thickness = max(2, round(0.3 * size * random.random()))
    cv2.polylines(mask, [points.round().astype(np.int32)], False, 255, thickness)


def _leaves(random: np.random.Generator, mask: Mask, centre: tuple[float, float], size: float) -> None:
    for _ in range(random.integers(8, 40)):
        x, y = random.normal(centre, size)
        _ellipse(random, mask, (x, y), size * random.uniform(0.05, 0.3))


def _rounded(x: float, y: float) -> tuple[int, int]:
    return round(x), round(y)


PATTERNS: list[Callable[[np.random.Generator, int, int], Array]] = [_noise, _patches, _stripes, _checks, _writing]
OUTLINES: list[Callable[[np.random.Generator, Mask, tuple[float, float], float], None]] = [
    _ellipse,
    _ring,
    _polygon,
    _bar,
    _leaves,
]
