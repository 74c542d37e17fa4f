"""Scenes in perspective, drawn for training: rooms, streets, tables and fields, their depth known everywhere.

Simple bodies with random surfaces, lit from one side, with shadows and haze. They teach what layered scenes
(`data/scenes.py`) cannot: that floors recede, walls run together, things stand where they touch the ground, and that
a sky is far.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from spatialme.data.textures import draw_outline, draw_texture
from spatialme.training.depth_set import DepthPicture
from spatialme.training.depth_shapes import Array, Body, Form, dot, nearest

TEXTURE_SIDE = 128
SUPERSAMPLING = 2
PLAIN_SHARE = 0.5  # of the surfaces, that have next to no pattern, as most painted walls and furniture
HAZE_SHARE = 0.6  # of the open-air scenes
Point = tuple[float, float, float]


@dataclass(frozen=True)
class Camera:
    """Stands over the origin and looks along z, turned."""

    height_metres: float
    yaw: float  # radians to the right
    pitch: float  # radians upwards
    field_of_view: float  # radians, across

    def rays(self, size: tuple[int, int]) -> Array:
        """(3, H * W) world directions of the pixel centres, of length 1 along the camera's axis."""
        height, width = size
        y, x = np.mgrid[:height, :width].astype(np.float32) + 0.5
        reach = math.tan(self.field_of_view / 2)
        seen = np.stack(((2 * x / width - 1) * reach, (height - 2 * y) / width * reach, np.ones_like(x)))
        return (_about_y(self.yaw) @ _about_x(self.pitch) @ seen.reshape(3, -1)).astype(np.float32)


@dataclass(frozen=True)
class World:
    """What is there."""

    bodies: list[Body]
    camera: Camera
    open_air: bool


def draw_room(random: np.random.Generator, size: tuple[int, int]) -> DepthPicture:
    """A random scene in perspective.

    Args:
        random: What decides.
        size: (height, width) in px.

    Returns:
        The picture; its label is 1 / depth in metres, 0 for the sky.
    """
    world = KINDS[random.integers(len(KINDS))](random)
    fine = size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING
    rays = world.camera.rays(fine)
    eye = np.array([[0], [world.camera.height_metres], [0]], np.float32)
    first, depth = nearest(world.bodies, eye, rays)
    colour = _light(random, world, eye, rays, first, depth).reshape(*fine, 3)
    rgb = cv2.resize(colour, size[::-1], interpolation=cv2.INTER_AREA)
    nearness = (1 / depth).reshape(fine)[::SUPERSAMPLING, ::SUPERSAMPLING]
    return DepthPicture((rgb.clip(0, 1) * 255).round().astype(np.uint8), np.ascontiguousarray(nearness))


def _light(
    random: np.random.Generator, world: World, eye: Array, rays: Array, first: NDArray[np.int64], depth: Array
) -> Array:
    """(N, 3) colours of what the rays, (3, N), meet."""
    colour = _sky(random, rays)
    sun = np.array([random.uniform(-1, 1), random.uniform(0.3, 1.5), random.uniform(-1, 0.5)], np.float32)
    sun /= np.linalg.norm(sun)
    ambient = random.uniform(0.35, 0.8)
    seen = first >= 0
    ways = rays[:, seen]
    points = eye + ways * depth[seen]
    surface, direct = np.zeros_like(points.T), np.zeros(points.shape[1], np.float32)
    for index, body in enumerate(world.bodies):
        own = first[seen] == index
        if own.any():
            place, normal = body.surface(points[:, own])
            normal = normal * -np.sign(dot(normal, ways[:, own]))  # the side that is seen
            surface[own] = _painted(body, place, depth[seen][own] / rays.shape[1] ** 0.5)
            direct[own] = (sun @ normal).clip(0)
    if world.open_air:  # inside a room no sun reaches anything
        shaded = nearest(world.bodies, points, np.broadcast_to(sun[:, None], points.shape))[0] >= 0
        direct[shaded] = 0
    else:
        direct /= 0.3 + depth[seen] / np.median(depth[seen])
    lit = surface * (ambient + (1 - ambient) * direct)[:, None]
    if world.open_air and random.random() < HAZE_SHARE:
        clear = np.exp(-depth[seen] / random.uniform(60, 600))[:, None]
        lit = clear * lit + (1 - clear) * colour[seen]
    colour[seen] = lit
    return colour * np.float32(random.uniform(0.8, 1.3))


def _painted(body: Body, place: Array, texel_metres: Array) -> Array:
    """Colours of a body's texture, washed out where a pixel spans many texels."""
    column, row = (place * body.texels_per_metre).astype(int) % TEXTURE_SIDE
    found = body.texture[row, column]
    span = np.maximum(texel_metres * body.texels_per_metre, 1)
    return found + (body.texture.mean((0, 1)) - found) * np.clip(np.log2(span) / 3, 0, 1)[:, None]


def _sky(random: np.random.Generator, rays: Array) -> Array:
    """A bright gradient with clouds, by direction."""
    low, high = random.uniform(0.5, 1, 3), random.uniform(0.2, 1, 3)
    up = (rays[1] / np.sqrt(dot(rays, rays))).clip(0, 1)[:, None] ** random.uniform(0.3, 1)
    clouds = draw_texture(random, TEXTURE_SIDE, TEXTURE_SIDE).mean(2)
    place = (rays[[0, 2]] / np.maximum(rays[1], 0.05) * random.uniform(5, 30)).astype(int) % TEXTURE_SIDE
    cover = clouds[place[0], place[1]][:, None] * random.uniform(0, 0.6)
    colour = low + up * (high - low)
    return (colour + cover * (1 - colour)).astype(np.float32)


class Builder:
    """Puts bodies into a world."""

    def __init__(self, random: np.random.Generator):
        self.random = random
        self.bodies: list[Body] = []

    def put(
        self, form: Form, centre: Point, half: Point, *, yaw: float = 0.0, outline: NDArray[np.uint8] | None = None
    ) -> Body:
        """Add one body with a random surface."""
        texture = draw_texture(self.random, TEXTURE_SIDE, TEXTURE_SIDE)
        if self.random.random() < PLAIN_SHARE:
            mean = texture.mean((0, 1))
            texture = mean + np.float32(self.random.uniform(0.02, 0.3)) * (texture - mean)
        grey = texture.mean(2, keepdims=True)
        texture = grey + np.float32(self.random.uniform(0.1, 0.8)) * (texture - grey)  # most things are no toys
        largest = max(half)
        texels = TEXTURE_SIDE / largest * math.exp(self.random.uniform(-1.5, 0.7))
        body = Body(form, centre, half, yaw, texture.astype(np.float32), texels, outline)
        self.bodies.append(body)
        return body

    def span(self, low: float, high: float) -> float:
        """A random number, small ones as likely as large ones."""
        return math.exp(self.random.uniform(math.log(low), math.log(high)))

    def thing(self, x: float, ground: float, z: float, size: float) -> Body:
        """A box, ball or cylinder that stands on the ground, and perhaps something on it."""
        form: Form = ("box", "box", "box", "ball", "cylinder")[self.random.integers(5)]
        half = (
            size * self.random.uniform(0.3, 1),
            size * self.random.uniform(0.3, 1),
            size * self.random.uniform(0.3, 1),
        )
        yaw = self.random.uniform(0, math.pi) if self.random.random() < 0.5 else 0.0
        body = self.put(form, (x, ground + half[1], z), half, yaw=yaw)
        if form != "ball" and self.random.random() < 0.35:
            self.thing(x, ground + 2 * half[1], z, size * 0.5)
        return body

    def person(self, x: float, ground: float, z: float) -> None:
        """Legs, a trunk, arms and a head."""
        tall, yaw = self.random.uniform(1.2, 1.9), self.random.uniform(0, math.pi)
        side, step = np.array([math.cos(yaw), math.sin(yaw)]), self.random.uniform(0, 0.12) * tall
        for sign in (-1, 1):
            leg_x, leg_z = (x, z) + sign * (0.06 * tall * side + step * side[::-1] * (1, -1))
            self.put("cylinder", (leg_x, ground + 0.24 * tall, leg_z), (0.05 * tall, 0.24 * tall, 0.05 * tall))
            arm_x, arm_z = (x, z) + sign * 0.14 * tall * side
            self.put("ball", (arm_x, ground + 0.62 * tall, arm_z), (0.04 * tall, 0.2 * tall, 0.05 * tall))
        self.put("ball", (x, ground + 0.65 * tall, z), (0.12 * tall, 0.22 * tall, 0.08 * tall), yaw=-yaw)
        self.put("ball", (x, ground + 0.92 * tall, z), (0.06 * tall, 0.08 * tall, 0.065 * tall), yaw=-yaw)

    def tree(self, x: float, ground: float, z: float, tall: float) -> None:
        """A trunk under a crown of balls or ragged leaves."""
        thick = tall * self.random.uniform(0.02, 0.06)
        self.put("cylinder", (x, ground + tall / 2, z), (thick, tall / 2, thick))
        for _ in range(self.random.integers(1, 4)):
            wide = tall * self.random.uniform(0.15, 0.35)
            off = self.random.normal(0, tall * 0.1, 3)
            place = x + off[0], ground + tall * 0.8 + off[1], z + off[2]
            if self.random.random() < 0.5:
                self.put("ball", place, (wide, wide * self.random.uniform(0.6, 1.3), wide))
            else:
                outline = draw_outline(self.random, TEXTURE_SIDE, TEXTURE_SIDE)
                self.put("cutout", place, (wide, wide, wide), outline=outline)


def _room(random: np.random.Generator) -> World:
    """Four walls and furniture; every third one is a corridor."""
    make = Builder(random)
    corridor = random.random() < 0.35
    width, length = (make.span(1.4, 2.6), make.span(8, 30)) if corridor else (make.span(2.5, 9), make.span(2.5, 12))
    height, behind = random.uniform(2.2, 3.6), random.uniform(0.2, 0.8)
    middle = random.uniform(-0.35, 0.35) * width
    for x in (middle - width / 2 - 0.1, middle + width / 2 + 0.1):
        make.put("box", (x, height / 2, length / 2 - behind), (0.1, height / 2, length / 2))
    make.put("box", (middle, height / 2, length - behind + 0.1), (width / 2, height / 2, 0.1))
    make.put("box", (middle, height / 2, -behind - 0.1), (width / 2, height / 2, 0.1))
    for y in (-0.1, height + 0.1):
        make.put("box", (middle, y, length / 2 - behind), (width / 2 + 1, 0.1, length / 2 + 1))
    low, high = middle - width / 2, middle + width / 2
    for _ in range(random.integers(1, 6)):  # doors, windows, pictures
        z, y = random.uniform(0.5, length - behind), random.uniform(0.8, height - 0.5)
        half = random.uniform(0.2, 0.6), random.uniform(0.2, 1.0)
        wall = random.integers(3)
        if wall == 2:
            make.put(
                "box", (random.uniform(low, high), y, length - behind), (half[0], half[1], random.uniform(0.01, 0.05))
            )
        else:
            make.put("box", ((low, high)[wall], y, z), (random.uniform(0.01, 0.06), half[1], half[0]))
    for _ in range(random.integers(3, 15)):
        z = make.span(0.9, max(1.5, length - behind))
        x = (
            (low + 0.2, high - 0.2)[random.integers(2)]
            if corridor or random.random() < 0.3
            else random.uniform(low, high)
        )
        make.thing(x, 0, z, make.span(0.15, 0.9))
    for _ in range(random.integers(0, 3) if random.random() < 0.5 else 0):
        make.person(random.uniform(low + 0.3, high - 0.3), 0, make.span(0.8, max(1.2, length - behind - 0.5)))
    turn = 0.15 if corridor else 0.6
    camera = Camera(
        random.uniform(0.9, 1.8), random.uniform(-turn, turn), random.uniform(-0.35, 0.1), make.span(0.7, 1.4)
    )
    return World(make.bodies, camera, open_air=False)


def _street(random: np.random.Generator) -> World:
    """A road between houses, with cars, poles, trees and people."""
    make = Builder(random)
    make.put("box", (0, -0.5, 200), (300, 0.5, 300))
    half_road = make.span(2.5, 8)
    for sign in (-1, 1):
        make.put(
            "box", (sign * (half_road + 25), -0.1, 100), (25, 0.1 + random.uniform(0.02, 0.2), 150)
        )  # the pavement
        z, edge = random.uniform(-2, 10), half_road + random.uniform(1, 8)
        while z < 90 and random.random() < 0.93:
            deep, wide, tall = make.span(2, 12), make.span(3, 10), make.span(2.5, 25)
            make.put("box", (sign * (edge + wide), tall / 2, z + deep), (wide, tall / 2, deep))
            z += 2 * deep + (random.uniform(0, 8) if random.random() < 0.5 else 0)
        for _ in range(random.integers(0, 4)):
            pole = make.span(0.03, 0.15), make.span(1, 4)
            make.put("cylinder", (sign * (half_road + 0.5), pole[1], make.span(3, 50)), (pole[0], pole[1], pole[0]))
        for _ in range(random.integers(0, 4)):
            make.tree(sign * (half_road + random.uniform(0.5, 4)), 0, make.span(4, 60), make.span(2.5, 10))
        for _ in range(random.integers(0, 3)):
            make.person(sign * random.uniform(half_road * 0.5, half_road + 2), 0, make.span(1.5, 30))
    for _ in range(random.integers(0, 6)):
        x, z, yaw = random.uniform(-half_road, half_road), make.span(4, 60), random.normal(0, 0.2)
        make.put("box", (x, 0.55, z), (0.85, 0.4, 2.1), yaw=yaw)
        make.put("box", (x, 1.15, z), (0.75, 0.3, 1.1), yaw=yaw)
    camera = Camera(random.uniform(1, 2.2), random.normal(0, 0.25), random.uniform(-0.15, 0.1), make.span(0.7, 1.4))
    return World(make.bodies, camera, open_air=True)


def _table(random: np.random.Generator) -> World:
    """Things close by on a table or the floor, seen from above, before a wall."""
    make = Builder(random)
    away = make.span(0.5, 4)
    make.put("box", (0, -0.1, 0.9), (make.span(0.4, 4), 0.1, make.span(0.8, 4)))
    make.put("box", (0, -0.8, 0), (8, 0.05, 8))  # the floor under it
    make.put("box", (0, 1, 0.6 + away), (8, 3, 0.1), yaw=random.normal(0, 0.3))
    for _ in range(random.integers(5, 22)):
        z = make.span(0.4, min(1.6, 0.6 + away))
        make.thing(random.uniform(-0.6, 0.6) * z, 0, z, make.span(0.03, 0.2))
    camera = Camera(random.uniform(0.15, 0.7), random.normal(0, 0.15), random.uniform(-0.8, -0.05), make.span(0.5, 1.2))
    return World(make.bodies, camera, open_air=False)


def _field(random: np.random.Generator) -> World:
    """Open ground with trees, rocks, animals and people, and mountains far away."""
    make = Builder(random)
    make.put("box", (0, -0.5, 200), (600, 0.5, 600))
    for _ in range(random.integers(0, 6)):
        tall = make.span(10, 150)
        make.put("ball", (random.uniform(-400, 400), 0, random.uniform(150, 700)), (tall * make.span(1, 5), tall, tall))
    for _ in range(random.integers(2, 12)):
        z = make.span(2, 80)
        make.tree(random.uniform(-0.8, 0.8) * z, 0, z, make.span(0.5, 12))
    for _ in range(random.integers(0, 6)):
        z, size = make.span(1.5, 40), make.span(0.1, 1.5)
        make.put("ball", (random.uniform(-0.7, 0.7) * z, 0, z), (size * make.span(0.7, 2), size, size))
    for _ in range(random.integers(0, 4)):
        z = make.span(1.3, 25)
        make.person(random.uniform(-0.6, 0.6) * z, 0, z)
    camera = Camera(random.uniform(0.4, 2.2), random.normal(0, 0.2), random.uniform(-0.25, 0.1), make.span(0.6, 1.3))
    return World(make.bodies, camera, open_air=True)


def _about_x(angle: float) -> Array:
    """Turns a camera's view upwards."""
    sine, cosine = math.sin(angle), math.cos(angle)
    return np.array([[1, 0, 0], [0, cosine, sine], [0, -sine, cosine]], np.float32)


def _about_y(angle: float) -> Array:
    """Turns a camera's view to the right."""
    sine, cosine = math.sin(angle), math.cos(angle)
    return np.array([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]], np.float32)


KINDS: list[Callable[[np.random.Generator], World]] = [_room, _street, _table, _field]
