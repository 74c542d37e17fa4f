"""Drawn scenes in perspective and views of panoramas: geometry with known answers, and a slow reference."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from spatialme.training import depth_rooms
from spatialme.training.depth_panorama import panorama_views
from spatialme.training.depth_prepare import prepare_set, read_material
from spatialme.training.depth_rooms import KINDS, Camera, draw_room
from spatialme.training.depth_set import read_index, read_picture
from spatialme.training.depth_shapes import Body, Form, nearest

SIZE = 48, 64
GREY = np.full((4, 4, 3), 0.5, np.float32)
HEADER = "name,kind,left,right,frames,first,last,source,split,licence,commercial\n"


def body(form: Form, centre=(0.0, 0.0, 5.0), half=(1.0, 1.0, 1.0), yaw: float = 0.0, outline=None) -> Body:
    return Body(form, centre, half, yaw, GREY, 1.0, outline)


def ray(*direction: float) -> np.ndarray:
    return np.array([direction], np.float32).T


ORIGIN = ray(0, 0, 0)


@pytest.mark.parametrize(
    ("form", "direction", "distance"),
    [
        ("box", (0, 0, 1), 4),  # the near face
        ("box", (0.3, 0, 1), math.inf),  # beside it
        ("ball", (0, 0, 1), 4),
        ("ball", (0.19, 0.19, 1), math.inf),  # a corner of the box, but not of the ball
        ("cylinder", (0, 0, 1), 4),
        # where the way across, 0.19 z, meets the circle: 1.0361 z^2 - 10 z + 24 = 0; still under the cap
        ("cylinder", (0.19, 0.19, 1), 4.474),
    ],
)
def test_a_ray_meets_a_body_where_geometry_says(form: Form, direction: tuple[float, ...], distance: float):
    assert body(form).hit(ORIGIN, ray(*direction))[0] == pytest.approx(distance, abs=1e-3)


@pytest.mark.parametrize("form", ["box", "ball", "cylinder"])
def test_a_stretched_and_turned_body_is_met_where_small_steps_first_find_it(form: Form):
    solid = body(form, (0.4, -0.3, 6), (1.5, 0.7, 0.9), 0.6)
    random = np.random.default_rng(0)
    rays = np.stack((random.uniform(-0.5, 0.5, 300), random.uniform(-0.4, 0.4, 300), np.ones(300))).astype(np.float32)
    found = solid.hit(ORIGIN, rays)
    steps = np.arange(3, 9, 0.01, dtype=np.float32)
    at = solid.inside((rays[:, :, None] * steps).reshape(3, -1)).reshape(3, 300, -1)
    within = {
        "box": (np.abs(at) < 1).all(0),
        "ball": (at**2).sum(0) < 1,
        "cylinder": (at[0] ** 2 + at[2] ** 2 < 1) & (np.abs(at[1]) < 1),
    }[form]
    stepped = np.where(within.any(1), steps[within.argmax(1)], np.inf)
    assert 20 < np.isfinite(found).sum() < 250
    grazing = np.isfinite(found) & np.isinf(stepped)  # a corner thinner than a step
    assert grazing.mean() < 0.03
    both = np.isfinite(stepped)
    np.testing.assert_allclose(found[both], stepped[both], atol=0.011)  # one step


def test_a_cut_out_is_missed_where_its_outline_is_empty():
    outline = np.zeros((8, 8), np.uint8)
    outline[:4] = 255  # the upper half
    flat = body("cutout", outline=outline)
    assert flat.hit(ORIGIN, ray(0.05, 0.1, 1))[0] == pytest.approx(5)
    assert flat.hit(ORIGIN, ray(0.05, -0.1, 1))[0] == np.inf


def test_the_walls_are_seen_from_inside_a_box():
    assert body("box", (0, 0, 0), (2, 3, 4)).hit(ORIGIN, ray(0, 0, 1))[0] == pytest.approx(4)


def test_the_nearer_body_covers_the_farther():
    first, depth = nearest([body("box", (0, 0, 9)), body("ball"), body("ball", (0, 0, -5))], ORIGIN, ray(0, 0, 1))
    assert first.tolist() == [1]
    assert depth[0] == pytest.approx(4)


@pytest.mark.parametrize("form", ["box", "ball", "cylinder", "cutout"])
def test_normals_have_length_1_and_point_outwards(form: Form):
    solid = body(form, (0.4, -0.3, 6), (1.5, 0.7, 0.9), 0.6, np.full((4, 4), 255, np.uint8))
    rays = Camera(0, 0, 0, 0.4).rays((8, 8))
    depth = solid.hit(ORIGIN, rays)
    points = (rays * depth)[:, np.isfinite(depth)]
    place, normal = solid.surface(points)
    assert place.shape == (2, points.shape[1])
    np.testing.assert_allclose((normal**2).sum(0), 1, atol=1e-5)
    if form != "cutout":  # has no outside
        outside = solid.inside(points + 0.01 * normal)
        assert (np.abs(outside).max(0) > 1).mean() > 0.95 or ((outside**2).sum(0) > 1).all()


def test_a_floor_recedes_to_the_horizon():
    height = 1.5
    floor = body("box", (0, -1, 0), (1000, 1, 1000))
    rays = Camera(height, 0.3, 0, 1.0).rays(SIZE)
    _, depth = nearest([floor], ray(0, height, 0), rays)
    nearness = (1 / depth).reshape(SIZE)
    assert (nearness[: SIZE[0] // 2] == 0).all()
    pixels = np.arange(SIZE[0] // 2) + 0.5
    wanted = pixels * 2 / SIZE[1] * math.tan(0.5) / height  # of a level camera: the row's slope over the height
    wanted[wanted < 1 / 900] = 0
    np.testing.assert_allclose(nearness[SIZE[0] // 2 :], np.repeat(wanted[:, None], SIZE[1], 1), rtol=1e-3)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_of_scene_knows_all_its_depth_and_repeats(kind, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(depth_rooms, "KINDS", [kind])
    first, again, other = (draw_room(np.random.default_rng(seed), SIZE) for seed in (3, 3, 4))
    assert first.rgb.shape == (*SIZE, 3)
    assert first.label.shape == SIZE
    assert np.isfinite(first.label).all()
    assert (first.label >= 0).all()
    assert first.label.std() > 0
    np.testing.assert_array_equal(first.rgb, again.rgb)
    np.testing.assert_array_equal(first.label, again.label)
    assert (first.label != other.label).any()


def test_views_of_a_panorama_look_all_around():
    angles = 2 * math.pi * ((np.arange(512) + 0.5) / 512 - 0.5)
    coded = np.stack((127 + 120 * np.cos(angles), 127 + 120 * np.sin(angles), 0 * angles), 1)
    panorama = np.repeat(coded[None], 256, 0).astype(np.uint8)
    middles = [view[view.shape[0] // 2, view.shape[1] // 2] for view in panorama_views(panorama, 4)]
    # ahead, to the right, back, to the left
    np.testing.assert_allclose(
        middles, [(247, 127, 0), (127, 247, 0), (7, 127, 0), (127, 7, 0)], atol=3
    )  # half a pixel


def test_a_view_shows_what_is_above_above():
    panorama = np.zeros((64, 128, 3), np.uint8)
    panorama[:32] = 255
    for view in panorama_views(panorama, 3):
        assert view[0].mean() > 200
        assert view[-1].mean() < 50


def test_a_list_can_ask_for_rooms_and_panoramas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("spatialme.training.depth_prepare.ROOM_SIZE", SIZE)
    noise = np.random.default_rng(0).integers(0, 255, (64, 128, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "place.png"), noise)
    rows = "rooms,rooms,,,2,0,1,rooms,train,ours,yes\nplace,panorama,place.png,,3,0,1,places,train,CC0,yes\n"
    (tmp_path / "list.csv").write_text(HEADER + rows)
    output = tmp_path / "set"
    assert list(prepare_set(tmp_path / "list.csv", output, root=tmp_path, teacher=None, device="cpu")) == [
        "rooms: 2 pictures",
        "place: 3 pictures",
    ]
    entries = read_index(output)
    assert [(entry.name, entry.labelled) for entry in entries] == [
        ("rooms-000", True),
        ("rooms-001", True),
        ("place-000l", False),
        ("place-001l", False),
        ("place-002l", False),
    ]
    drawn = draw_room(np.random.default_rng(1), SIZE)
    stored = read_picture(output, "rooms-001")
    np.testing.assert_array_equal(stored.rgb, drawn.rgb)
    np.testing.assert_allclose(stored.label, drawn.label, rtol=1e-3, atol=1e-6)  # stored as half floats
    assert np.isnan(read_picture(output, "place-000l").label).all()


@pytest.mark.parametrize("config", ["depth_tiny", "depth_tiny_clean", "depth_dino"])
def test_the_shipped_lists_have_every_source_of_the_shipped_configs(config: str):
    data = yaml.safe_load(Path(f"configs/fit/{config}.yaml").read_text())["data"]
    lists = (Path("configs/prepare/depth.csv"), Path("configs/prepare/panoramas.csv"))
    rows = [row for path in lists for row in read_material(path) if row.split == "train"]
    free_only, labelled_only = data.get("commercial_only", False), data.get("labelled_only", False)
    known = {row.source for row in rows if row.commercial >= free_only and row.labelled >= labelled_only}
    assert set(data["sources"]) <= known | {"synthetic"}
