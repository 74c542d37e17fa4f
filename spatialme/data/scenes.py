"""Layered scenes for training, drawn on the fly: random textures, shapes and depths, with an exact right view.

A scene is a background plane and some cut-out layers before it, all slanted a little. Each layer's colour and outline
are one picture, `SUPERSAMPLING` times finer than the views; both eyes look it up at their own positions, so neither is
made from the other, and each is averaged down, so that outlines are as smooth as a camera's.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spatialme.data.disturb import disturb_disparity
from spatialme.data.sample import Budget, Pair, Sample, build_sample, draw_budget
from spatialme.data.textures import draw_outline, draw_texture

Array = NDArray[np.floating]

SUPERSAMPLING = 2
FEWEST_LAYERS, MOST_LAYERS = 2, 9
LARGEST_SLANT = 0.3  # rise of nearness over the whole width or height


class Scenes:
    """An endless source of layered scenes."""

    def __init__(self, crop: int, disturbance: float = 0.0):
        """Set the side of the samples in px, and the share of them whose disparity has errors."""
        self.crop, self.disturbance = crop, disturbance

    def sample(self, random: np.random.Generator) -> Sample:
        """Draw one scene. Its frame ends somewhere between the crop and a margin away, on each side."""
        budget = draw_budget(random, self.crop)
        before, after = random.integers(0, budget.margin_px + 1, 2)
        pair = draw_scene(random, budget, height=self.crop, width=self.crop + int(before + after))
        if random.random() < self.disturbance:
            pair = pair._replace(disparity=disturb_disparity(pair.disparity, random))
        return build_sample(pair, budget, int(before), self.crop)


def draw_scene(random: np.random.Generator, budget: Budget, *, height: int, width: int) -> Pair:
    """Draw a random scene of this size, in px."""
    layers = [_background(random, budget, height, width)]
    for _ in range(random.integers(FEWEST_LAYERS, MOST_LAYERS + 1)):
        layers.append(_cut_out(random, budget, height, width))
    return render(layers, budget, height=height, width=width)


@dataclass(frozen=True)
class Layer:
    """A flat surface. Its pictures cover the left view and `margin_px` columns on each side, finer than the views."""

    colour: Array  # (S*H, S*(W + 2*margin_px), 3) RGB in [0, 1]
    inside: NDArray[np.uint8] | None  # (S*H, S*(W + 2*margin_px)), 255 where the layer is; None: everywhere
    nearness: float  # in the middle of the left view
    slant: tuple[float, float]  # rise of nearness over the left view's whole width and height
    margin_px: int
    offset_px: float = 0.0  # of the pictures against the left view, so that neither eye sees them unsampled

    def nearness_at(self, x: Array, y: Array, height: int, width: int) -> Array:
        """Nearness at positions of the left view."""
        return self.nearness + self.slant[0] * (x / width - 0.5) + self.slant[1] * (y / height - 0.5)

    def left_x(self, x: Array, y: Array, budget: Budget, height: int, width: int) -> Array:
        """Where the point that the right view shows at x, y lies in the left view.

        ``x = left_x - span * (nearness(left_x) - convergence)`` with nearness linear in left_x, solved for it.
        """
        at_zero = budget.span_px * (self.nearness_at(np.zeros_like(x), y, height, width) - budget.convergence)
        return (x + at_zero) / (1 - budget.span_px * self.slant[0] / width)

    def picture_position(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Columns and rows of the pictures, as OpenCV counts them, for positions of the left view."""
        column = SUPERSAMPLING * (x + self.margin_px + self.offset_px) - 0.5
        return column.astype(np.float32), (SUPERSAMPLING * y - 0.5).astype(np.float32)


def render(layers: list[Layer], budget: Budget, *, height: int, width: int) -> Pair:
    """Both eyes of a scene, the nearest layer in front."""
    centres_x, centres_y = _grid(height, width, 1)
    nearness = _look(layers, centres_x, centres_y, height, width, [centres_x] * len(layers))[1]
    fine_x, fine_y = _grid(height, width, SUPERSAMPLING)
    disparity = budget.span_px * (nearness - budget.convergence)
    in_left = [fine_x] * len(layers)
    in_right = [layer.left_x(fine_x, fine_y, budget, height, width) for layer in layers]
    left, right = (_view(layers, fine_x, fine_y, height, width, positions) for positions in (in_left, in_right))
    return Pair(left, right, torch.from_numpy(disparity.astype(np.float32))[None])


def _view(layers: list[Layer], x: Array, y: Array, height: int, width: int, positions: list[Array]) -> Tensor:
    front, _ = _look(layers, x, y, height, width, positions)
    return _averaged(_paint(layers, front, positions, y))


def _look(
    layers: list[Layer], x: Array, y: Array, height: int, width: int, positions: list[Array]
) -> tuple[NDArray[np.int64], Array]:
    """Index and nearness of the front layer, given where each layer's point lies in the left view."""
    front = np.zeros(x.shape, np.int64)
    nearest = np.full(x.shape, -np.inf, np.float32)
    for index, (layer, left_x) in enumerate(zip(layers, positions)):
        nearness = layer.nearness_at(left_x, y, height, width)
        wins = nearness > nearest
        if layer.inside is not None:
            wins &= cv2.remap(layer.inside, *layer.picture_position(left_x, y), cv2.INTER_LINEAR) > 127
        front[wins], nearest[wins] = index, nearness[wins]
    return front, nearest


def _paint(layers: list[Layer], front: NDArray[np.int64], positions: list[Array], y: Array) -> Array:
    painted = np.zeros((*front.shape, 3), np.float32)
    for index, (layer, left_x) in enumerate(zip(layers, positions)):
        seen = front == index
        if seen.any():
            place = layer.picture_position(left_x, y)
            colour = cv2.remap(layer.colour, *place, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
            painted[seen] = colour[seen]
    return painted


def _averaged(fine: Array) -> Tensor:
    """Mean over each pixel's samples: (S*H, S*W, 3) -> (3, H, W) in [0, 1]."""
    height, width = fine.shape[0] // SUPERSAMPLING, fine.shape[1] // SUPERSAMPLING
    view = fine.reshape(height, SUPERSAMPLING, width, SUPERSAMPLING, 3).mean((1, 3))
    return torch.from_numpy(view.clip(0, 1).transpose(2, 0, 1).copy())


def _grid(height: int, width: int, samples: int) -> tuple[Array, Array]:
    """Positions x, y of the sample centres."""
    y, x = np.mgrid[: height * samples, : width * samples].astype(np.float32)
    return (x + 0.5) / samples, (y + 0.5) / samples


def _background(random: np.random.Generator, budget: Budget, height: int, width: int) -> Layer:
    slant = random.uniform(-LARGEST_SLANT, LARGEST_SLANT, 2)
    return _layer(random, budget, height, width, random.uniform(0, 0.3), slant, outlined=False)


def _cut_out(random: np.random.Generator, budget: Budget, height: int, width: int) -> Layer:
    slant = random.uniform(-LARGEST_SLANT, LARGEST_SLANT, 2) * (random.random() < 0.5)
    return _layer(random, budget, height, width, random.uniform(0.1, 1), slant, outlined=True)


def _layer(
    random: np.random.Generator,
    budget: Budget,
    height: int,
    width: int,
    nearness: float,
    slant: NDArray[np.float64],
    *,
    outlined: bool,
) -> Layer:
    reach = float(np.abs(slant).sum()) / 2  # nearness stays in [0, 1] over the whole frame
    nearness = float(np.clip(nearness, reach, 1 - reach))
    margin = budget.margin_px
    size = SUPERSAMPLING * height, SUPERSAMPLING * (width + 2 * margin)
    inside = draw_outline(random, *size) if outlined else None
    colour = draw_texture(random, *size)
    return Layer(colour, inside, nearness, (float(slant[0]), float(slant[1])), margin, float(random.uniform(0, 0.5)))
