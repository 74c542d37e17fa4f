"""Rays against simple bodies: what a camera sees of a scene in perspective, with its exact depth.

The world is in metres: x to the right, y up, z ahead. A body is a unit cube, ball, upright cylinder or flat cut-out,
stretched, turned about the vertical and put somewhere. Points and directions are (3, N). A ray's direction has length 1
along the camera's axis, so that the distance of a hit, in such lengths, is its depth.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Form = Literal["box", "ball", "cylinder", "cutout"]

NEAREST_METRES = 0.05  # of what a camera sees; a shadow's ray begins as far from its surface
TINY = 1e-9


@dataclass(frozen=True)
class Body:
    """One body and its surface."""

    form: Form
    centre: tuple[float, float, float]
    half: tuple[float, float, float]  # half the extent along its own axes
    yaw: float  # radians about the vertical
    texture: Array  # (S, S, 3) RGB in [0, 1]
    texels_per_metre: float
    outline: NDArray[np.uint8] | None = None  # (S, S) of a cut-out: 0 where it is not there
    axes: Array = field(init=False)  # (3, 3) rows: its own axes in the world

    def __post_init__(self) -> None:
        sine, cosine = np.sin(self.yaw), np.cos(self.yaw)
        axes = np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]], np.float32)
        object.__setattr__(self, "axes", axes)

    def inside(self, points: Array) -> Array:
        """World -> the unit body's space."""
        return (self.axes @ (points - _column(self.centre))) / _column(self.half)

    def hit(self, origins: Array, directions: Array) -> Array:
        """(N,) distance along each ray to the first point of the surface, infinity where it misses.

        From inside a box its walls are seen; from inside the others nothing is.
        """
        start = self.inside(origins)
        way = (self.axes @ directions) / _column(self.half)
        way = np.where(np.abs(way) < TINY, np.float32(TINY), way)
        with np.errstate(over="ignore", invalid="ignore"):
            found = {"box": _box, "ball": _ball, "cylinder": _cylinder, "cutout": self._cutout}[self.form](start, way)
        return np.where(found > NEAREST_METRES, found, np.inf).astype(np.float32)

    def _cutout(self, start: Array, way: Array) -> Array:
        assert self.outline is not None
        found = -start[2] / way[2]
        x, y = start[0] + way[0] * found, start[1] + way[1] * found
        within = (np.abs(x) < 1) & (np.abs(y) < 1)
        side = self.outline.shape[0]
        column, row = (np.where(within, (place + 1) / 2 * side, 0).astype(int) for place in (x, -y))
        return np.where(within & (self.outline[row, column] > 0), found, np.inf)

    def surface(self, points: Array) -> tuple[Array, Array]:
        """Where points lie on the texture, (2, N) in metres, and the outward normals, (3, N)."""
        at = self.inside(points)
        metres = at * _column(self.half)
        if self.form == "box":
            axis = np.abs(at).argmax(0)
            normal = np.eye(3, dtype=np.float32)[axis].T * np.sign(at)
        elif self.form == "cutout":
            axis, normal = np.full(at.shape[1], 2), np.broadcast_to(_column((0, 0, 1)), at.shape)
        else:
            flat = (self.form == "cylinder") & (np.abs(at[1]) > 0.999)
            axis = np.where(flat, 1, 2)
            round_side = at * _column((1, float(self.form == "ball"), 1))
            normal = np.where(flat, _column((0, 1, 0)) * np.sign(at), round_side)
            metres[0] = np.where(flat, metres[0], np.arctan2(at[0], at[2]) * self.half[0])
        others = np.array([[1, 2], [0, 2], [0, 1]])[axis].T
        world = self.axes.T @ (normal / _column(self.half))
        world = world / np.maximum(np.sqrt(dot(world, world)), TINY)
        return np.take_along_axis(metres, others, 0), world


def nearest(bodies: list[Body], origins: Array, directions: Array) -> tuple[NDArray[np.int64], Array]:
    """Which body each ray meets first, -1 for none, and how far away, infinity for none.

    Args:
        bodies: The scene.
        origins: (3, 1) of all rays, or (3, N).
        directions: (3, N).
    """
    first = np.full(directions.shape[1], -1)
    depth = np.full(directions.shape[1], np.inf, np.float32)
    for index, body in enumerate(bodies):
        found = body.hit(origins, directions)
        wins = found < depth
        first[wins], depth[wins] = index, found[wins]
    return first, depth


def dot(one: Array, other: Array) -> Array:
    """(3, N) and (3, N) -> (N,)."""
    return one[0] * other[0] + one[1] * other[1] + one[2] * other[2]


def _column(values: tuple[float, float, float]) -> Array:
    return np.array(values, np.float32)[:, None]


def _box(start: Array, way: Array) -> Array:
    one, other = (-1 - start) / way, (1 - start) / way
    enter, leave = np.minimum(one, other).max(0), np.maximum(one, other).min(0)
    return np.where(enter <= leave, np.where(enter > 0, enter, leave), np.inf)


def _ball(start: Array, way: Array) -> Array:
    return _quadratic(dot(way, way), dot(way, start), dot(start, start) - 1)


def _cylinder(start: Array, way: Array) -> Array:
    square = way[0] ** 2 + way[2] ** 2
    constant = start[0] ** 2 + start[2] ** 2 - 1
    side = _quadratic(square, way[0] * start[0] + way[2] * start[2], constant)
    side = np.where(np.abs(start[1] + way[1] * side) <= 1, side, np.inf)
    cap = (np.where(way[1] < 0, 1, -1) - start[1]) / way[1]  # the one that faces the ray
    x, z = start[0] + way[0] * cap, start[2] + way[2] * cap
    return np.minimum(side, np.where((x * x + z * z <= 1) & (cap > 0), cap, np.inf))


def _quadratic(square: Array, half_linear: Array, constant: Array) -> Array:
    """The smaller root where it is positive, else infinity."""
    under = half_linear**2 - square * constant
    root = (-half_linear - np.sqrt(np.maximum(under, 0))) / square
    return np.where((under >= 0) & (root > 0), root, np.inf)
