"""Synthetic layered scenes whose right view, holes, disparity and flow are known exactly.

A scene is a list of flat layers: a background plane that fills the frame, and squares or discs in front of it. Each has
a nearness (constant, or slanted over the frame), a velocity, and a band-limited texture given by a formula, so that
every view is *sampled from the formula* at its own sub-pixel position, never resampled. A pixel belongs wholly to the
nearest layer at its centre: edges are hard.

    scene = square_scene(frames=3, square_velocity=(2.0, 1.0))
    scene.left, scene.right      # (T, 3, H, W) float32
    scene.disparity, scene.hole  # (T, 1, H, W) float32 px of the left view, bool of the right view
    scene.flow_forward           # (T, 2, H, W) float32 px, left view, frame t -> t + 1

A layer's slant is fixed to the frame, as for a camera that moves along a wall: a point that moves changes its nearness.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spatialme.types import Clip, DepthClip, WarpedClip

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Texture:
    """Mean colour plus six plane waves; defined at every real position."""

    seed: int = 0
    colour: tuple[float, float, float] = (0.5, 0.5, 0.5)
    contrast: float = 0.25  # largest deviation from the mean colour
    finest_px: float = 7.0  # shortest wavelength; the longest is eight times that

    def __call__(self, x: Array, y: Array) -> Array:
        """Colours at positions of any one shape: (...) -> (3, ...)."""
        random = np.random.default_rng(self.seed)
        total = np.zeros((3, *x.shape))
        for _ in range(6):
            frequency = 2 * np.pi / (self.finest_px * 8 ** random.random())
            angle = np.pi * random.random()
            wave = frequency * (np.cos(angle) * x + np.sin(angle) * y)
            phases = 2 * np.pi * random.random((3, *[1] * x.ndim))
            total += np.sin(wave + phases) / 6
        return np.reshape(self.colour, (3, *[1] * x.ndim)) + self.contrast * total


@dataclass(frozen=True)
class Layer:
    """One flat surface. Positions and sizes in pixels of the left view at frame 0; velocities in pixels per frame."""

    nearness: float  # in the middle of the frame, at frame 0
    texture: Texture = Texture()
    shape: Literal["plane", "square", "disc"] = "plane"
    centre: tuple[float, float] = (0.0, 0.0)
    size: float = 0.0  # side of the square, diameter of the disc
    velocity: tuple[float, float] = (0.0, 0.0)
    slant: tuple[float, float] = (0.0, 0.0)  # rise of nearness over the whole width and the whole height
    nearness_rate: float = 0.0  # per frame

    def contains(self, x: Array, y: Array, t: int) -> NDArray[np.bool_]:
        """Whether the left-view position shows this layer at frame t, were nothing in front of it."""
        right = x - self.velocity[0] * t - self.centre[0]
        down = y - self.velocity[1] * t - self.centre[1]
        if self.shape == "plane":
            return np.ones(x.shape, dtype=bool)
        if self.shape == "disc":
            return right**2 + down**2 < (self.size / 2) ** 2
        half = self.size / 2  # half-open, so that a square of size n covers n pixels wherever it stands
        return (-half <= right) & (right < half) & (-half <= down) & (down < half)


@dataclass(frozen=True)
class Sight:
    """What one eye sees in one frame; all (H, W), or (3, H, W) for colour."""

    layer: NDArray[np.int64]
    source_x: Array  # position of the seen point in the left view
    nearness: Array
    disparity: Array
    colour: Array


@dataclass(frozen=True)
class LayeredScene:
    """Layers under one depth budget. Disparity = width * max_disparity_percent / 100 * (nearness - convergence)."""

    width: int
    height: int
    frames: int
    layers: tuple[Layer, ...]
    max_disparity_percent: float = 2.5
    convergence: float = 0.5

    def __post_init__(self) -> None:
        if abs(self.budget_px * max(abs(layer.slant[0]) for layer in self.layers)) >= self.width:
            raise ValueError("a layer slants so much that the right eye sees its back")
        if self.nearness.min() < 0 or self.nearness.max() > 1:
            raise ValueError(f"nearness leaves [0, 1]: {float(self.nearness.min())} to {float(self.nearness.max())}")

    @property
    def budget_px(self) -> float:
        """Disparity between nearness 0 and 1."""
        return self.width * self.max_disparity_percent / 100

    @cached_property
    def left(self) -> Tensor:
        """(T, 3, H, W) float32 in [0, 1]."""
        return _stack([sight.colour for sight in self._left])

    @cached_property
    def right(self) -> Tensor:
        """(T, 3, H, W) float32 in [0, 1]: the true right view, hidden parts included."""
        return _stack([sight.colour for sight in self._right])

    @cached_property
    def nearness(self) -> Tensor:
        """(T, 1, H, W) float32, left view."""
        return _stack([sight.nearness[None] for sight in self._left])

    @cached_property
    def disparity(self) -> Tensor:
        """(T, 1, H, W) float32 px, left view."""
        return _stack([sight.disparity[None] for sight in self._left])

    @cached_property
    def disparity_right(self) -> Tensor:
        """(T, 1, H, W) float32 px, right view, hidden parts included."""
        return _stack([sight.disparity[None] for sight in self._right])

    @cached_property
    def layer(self) -> Tensor:
        """(T, 1, H, W) int64: index into `layers`, left view."""
        return torch.stack([torch.from_numpy(sight.layer[None]) for sight in self._left])

    @cached_property
    def layer_right(self) -> Tensor:
        """(T, 1, H, W) int64: index into `layers`, right view."""
        return torch.stack([torch.from_numpy(sight.layer[None]) for sight in self._right])

    @cached_property
    def hole(self) -> Tensor:
        """(T, 1, H, W) bool, right view: the left picture does not show this point (hidden there, or outside).

        A left pixel shows one layer over its whole area, so the border of a hole lies on a left pixel's border.
        """
        holes = []
        for t, sight in enumerate(self._right):
            column = np.floor(sight.source_x)
            outside = (column < 0) | (column >= self.width)
            seen_layer, _ = self._front(column + 0.5, self._grid[1], t)
            holes.append(torch.from_numpy((outside | (seen_layer != sight.layer))[None]))
        return torch.stack(holes)

    @cached_property
    def flow_forward(self) -> Tensor:
        """(T, 2, H, W) float32 px, left view, from t to t + 1 (also given for the last frame)."""
        return self._flow(self._left, step=1, right=False)

    @cached_property
    def flow_backward(self) -> Tensor:
        """(T, 2, H, W) float32 px, left view, from t to t - 1 (also given for the first frame)."""
        return self._flow(self._left, step=-1, right=False)

    @cached_property
    def flow_right_forward(self) -> Tensor:
        """(T, 2, H, W) float32 px, right view, from t to t + 1; hidden parts included."""
        return self._flow(self._right, step=1, right=True)

    @cached_property
    def flow_right_backward(self) -> Tensor:
        """(T, 2, H, W) float32 px, right view, from t to t - 1; hidden parts included."""
        return self._flow(self._right, step=-1, right=True)

    @cached_property
    def forward_visible(self) -> Tensor:
        """(T, 1, H, W) bool, left view: the point is seen in frame t + 1 of the left view too; False in the last."""
        return self._visible(step=1)

    @cached_property
    def backward_visible(self) -> Tensor:
        """(T, 1, H, W) bool, left view: the point is seen in frame t - 1 of the left view too; False in the first."""
        return self._visible(step=-1)

    @cached_property
    def _grid(self) -> tuple[Array, Array]:
        y, x = np.mgrid[: self.height, : self.width] + 0.5
        return x, y

    @cached_property
    def _left(self) -> list[Sight]:
        x, y = self._grid
        return [self._sight(np.stack([x] * len(self.layers)), y, t) for t in range(self.frames)]

    @cached_property
    def _right(self) -> list[Sight]:
        x, y = self._grid
        source_x = np.stack([x] * len(self.layers))
        sights = []
        for t in range(self.frames):
            for index, layer in enumerate(self.layers):
                # x_right = x - budget * (n(x) - convergence) with n linear in x, solved for x
                at_zero = self.budget_px * (self._nearness(layer, np.zeros_like(x), y, t) - self.convergence)
                source_x[index] = (x + at_zero) / (1 - self.budget_px * layer.slant[0] / self.width)
            sights.append(self._sight(source_x.copy(), y, t))
        return sights

    def _nearness(self, layer: Layer, x: Array, y: Array, t: int) -> Array:
        across = layer.slant[0] * (x / self.width - 0.5) + layer.slant[1] * (y / self.height - 0.5)
        return layer.nearness + layer.nearness_rate * t + across

    def _sight(self, source_x: Array, y: Array, t: int) -> Sight:
        """Choose the nearest layer per pixel, given where each layer's point there lies in the left view: (L, H, W)."""
        nearness = np.full(source_x.shape, -np.inf)
        for index, layer in enumerate(self.layers):
            inside = layer.contains(source_x[index], y, t)
            nearness[index] = np.where(inside, self._nearness(layer, source_x[index], y, t), -np.inf)
        front = nearness.argmax(0)
        seen_x = np.take_along_axis(source_x, front[None], 0)[0]
        seen_nearness = nearness.max(0)
        colour = np.zeros((3, *y.shape))
        for index, layer in enumerate(self.layers):
            painted = layer.texture(seen_x - layer.velocity[0] * t, y - layer.velocity[1] * t)
            colour = np.where(front == index, painted, colour)
        return Sight(front, seen_x, seen_nearness, self.budget_px * (seen_nearness - self.convergence), colour)

    def _front(self, x: Array, y: Array, t: int) -> tuple[NDArray[np.int64], Array]:
        """Index and nearness of the layer that the left eye sees at positions of its view."""
        nearness = [np.where(layer.contains(x, y, t), self._nearness(layer, x, y, t), -np.inf) for layer in self.layers]
        return np.argmax(nearness, 0), np.max(nearness, 0)

    def _flow(self, sights: list[Sight], *, step: int, right: bool) -> Tensor:
        x, y = self._grid
        flows = []
        for t, sight in enumerate(sights):
            flow = np.zeros((2, self.height, self.width))
            for index, layer in enumerate(self.layers):
                u, v = step * layer.velocity[0], step * layer.velocity[1]
                moved = self._nearness(layer, sight.source_x + u, y + v, t + step)
                approach = self.budget_px * (moved - sight.nearness) if right else np.zeros_like(x)
                flow = np.where(sight.layer == index, np.stack([u - approach, np.full_like(x, v)]), flow)
            flows.append(flow)
        return _stack(flows)

    def _visible(self, *, step: int) -> Tensor:
        x, y = self._grid
        flow = self._flow(self._left, step=step, right=False).double().numpy()
        visible = []
        for t, sight in enumerate(self._left):
            to_x, to_y = x + flow[t, 0], y + flow[t, 1]
            inside = (to_x >= 0) & (to_x < self.width) & (to_y >= 0) & (to_y < self.height)
            seen = inside & (self._front(to_x, to_y, t + step)[0] == sight.layer) & (0 <= t + step < self.frames)
            visible.append(torch.from_numpy(seen[None]))
        return torch.stack(visible)


def square_scene(
    *,
    width: int = 128,
    height: int = 64,
    frames: int = 1,
    square_size: float = 24.0,
    square_nearness: float = 1.0,
    background_nearness: float = 0.0,
    square_velocity: tuple[float, float] = (0.0, 0.0),
    background_velocity: tuple[float, float] = (0.0, 0.0),
    background_slant: tuple[float, float] = (0.0, 0.0),
    max_disparity_percent: float = 6.25,
    convergence: float = 0.5,
) -> LayeredScene:
    """A reddish square in the middle, before a greenish plane; by default 4 px before and 4 px behind the screen."""
    layers = (
        Layer(
            background_nearness,
            Texture(seed=1, colour=(0.3, 0.6, 0.4)),
            velocity=background_velocity,
            slant=background_slant,
        ),
        Layer(
            square_nearness,
            Texture(seed=2, colour=(0.7, 0.3, 0.3)),
            shape="square",
            centre=(width / 2, height / 2),
            size=square_size,
            velocity=square_velocity,
        ),
    )
    return LayeredScene(width, height, frames, layers, max_disparity_percent, convergence)


def clip(scene: LayeredScene, *, first_index: int = 0, shot: int = 0) -> Clip:
    """The left view as one whole shot; `spatialme.types.cut` makes smaller clips of it."""
    return Clip(scene.left, (None,) * scene.frames, first_index, shot, starts_shot=True, ends_shot=True)


def depth_clip(scene: LayeredScene) -> DepthClip:
    """The left view with its true nearness."""
    return DepthClip(clip(scene), scene.nearness)


def warped_clip(scene: LayeredScene) -> WarpedClip:
    """The left view warped by its true disparity, by this project's warp."""
    from spatialme.warp import warp_clip

    return warp_clip(depth_clip(scene), scene.disparity, range_px=budget_range(scene))


def true_warped_clip(scene: LayeredScene) -> WarpedClip:
    """What a perfect warp would give: the true right view with its true holes."""
    known = ~scene.hole
    right, disparity = scene.right * known, scene.disparity_right * known
    return WarpedClip(clip(scene), scene.disparity, right, disparity, scene.hole, budget_range(scene))


def budget_range(scene: LayeredScene) -> Tensor:
    """Disparity of nearness 0 and of nearness 1 in every frame: (T, 2) pixels."""
    low = -scene.budget_px * scene.convergence
    return torch.tensor([[low, low + scene.budget_px]]).expand(scene.frames, 2)


def _stack(arrays: list[Array]) -> Tensor:
    return torch.from_numpy(np.stack(arrays).astype(np.float32))
