"""Clips prepared for training: found, aligned, matched, cached, resumed and told about."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from spatialme import cli
from spatialme.data.clip_files import FrameFile, read_frame
from spatialme.data.manifest import read_manifest
from spatialme.data.stereo import StereoClips
from spatialme.depth import open_depth
from spatialme.errors import InputError, OptionError, OutputError
from spatialme.preparation import stereo
from spatialme.preparation.borders import Window, find_window
from spatialme.preparation.commands import prepare
from spatialme.preparation.exposure import ExposureMatch
from spatialme.preparation.eyes import read_eyes
from spatialme.preparation.items import Item, find_items, split_of, with_own_names
from spatialme.preparation.layout import UnusableError, find_layout
from spatialme.preparation.lists import read_list
from spatialme.preparation.maps import MapFolder
from spatialme.preparation.mpo import read_mpo
from spatialme.preparation.settings import ItemDefaults, PrepareSettings
from spatialme.preparation.store import ItemRecord, ItemStore
from spatialme.preparation.worker import one_thread, prepare_item
from spatialme.shots import to_tensor
from spatialme.types import Clip
from spatialme.warp import forward_warp
from tests.scenes import LayeredScene
from tests.stereo_files import arrays, crowd, write_image, write_pair, write_video

CONFIGS = Path(__file__).parents[1] / "configs/prepare"
STEREO = PrepareSettings("stereo", disparity="sgbm")
MONO = PrepareSettings("mono", depth="tiny")


@pytest.fixture(scope="module")
def scene() -> LayeredScene:
    """Two frames, 320 px wide: disparities 0, 10 and 20 px."""
    return crowd(frames=2, width=320, height=240, velocity=2.0)


@pytest.fixture(autouse=True)
def single_thread():
    with one_thread():
        yield


def item(*files: Path, name: str = "clip") -> Item:
    return Item(name, files, name, "here", "CC0", True)


def moved(picture: np.ndarray, *, right: int = 0, down: int = 0) -> np.ndarray:
    """The picture elsewhere in its frame, its border repeated."""
    shift = np.array([[1, 0, right], [0, 1, down]], np.float32)
    return cv2.warpAffine(picture, shift, picture.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)


def prepared(folder: Path, settings: PrepareSettings, *files: Path, name: str = "clip") -> ItemRecord:
    return prepare_item(item(*files, name=name), folder, settings, "cpu")


def write_eyes(folder: Path, scene: LayeredScene) -> list[Path]:
    eyes = {"l.png": scene.left, "r.png": scene.right}
    return [write_image(folder / name, arrays(eye)[0]) for name, eye in eyes.items()]


def frames_of(folder: Path, part: str, count: int, clip: str = "clip/0000") -> torch.Tensor:
    path = folder / "clips" / clip / f"{part}.mkv"
    return torch.stack([read_frame(path, index) for index in range(count)])


# --- what belongs together ---


def test_a_folder_holds_pairs_packed_files_and_lone_eyes(tmp_path):
    for name in (
        "a_left.png",
        "a_right.png",
        "b/left.jpg",
        "b/right.jpg",
        "c_sbs.mp4",
        "d.mpo",
        "e_left.webp",
        "f.txt",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_items(tmp_path, "stereo", ItemDefaults(licence="MIT"))
    names = {one.name: [str(file.relative_to(tmp_path)) for file in one.files] for one in found.items}
    assert names == {
        "a": ["a_left.png", "a_right.png"],
        "b": ["b/left.jpg", "b/right.jpg"],
        "c_sbs": ["c_sbs.mp4"],
        "d": ["d.mpo"],
    }
    assert {(one.source, one.licence, one.commercial) for one in found.items} == {(tmp_path.name, "MIT", False)}
    assert [(Path(lost.name).name, lost.reason.split(";")[0]) for lost in found.dropped] == [
        ("e_left.webp", "it has no right eye beside it")
    ]
    as_mono = find_items(tmp_path, "mono", ItemDefaults())
    assert len(as_mono.items) == 7, "2D takes every file by itself"


def test_items_of_one_name_get_their_own_folders():
    named = with_own_names([item(Path("a.png"), name="a"), item(Path("A.jpg"), name="A"), item(Path("b"), name="b")])
    assert [one.name for one in named] == ["a", "A~2", "b"]


def test_a_folder_without_media_is_told(tmp_path):
    with pytest.raises(InputError, match=r"holds no video and no image"):
        find_items(tmp_path, "mono", ItemDefaults())


@pytest.mark.parametrize("suffix", [".csv", ".json", ".yaml"])
def test_a_list_says_what_a_folder_cannot(tmp_path, suffix):
    for name in ("x/one.png", "x/two.png", "l.png", "r.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    entries: list[dict[str, str]] = [
        {"path": "x/two.png", "source": "s", "split": "validation", "scene": "hall", "commercial": "yes"},
        {"path": "x/*.png", "source": "s", "licence": "MIT"},
        {"left": "l.png", "right": "r.png", "name": "pair"},
        {"path": "none/*.png"},
    ]
    path = tmp_path / f"list{suffix}"
    if suffix == ".csv":
        with path.open("w", newline="") as file:
            columns = ["path", "left", "right", "name", "source", "split", "scene", "licence", "commercial", "width"]
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(entries)
    else:
        path.write_text(json.dumps(entries))  # JSON is YAML
    found = read_list(path, "stereo", ItemDefaults(source="other"))
    told = [(one.name, one.source, one.scene, one.split, one.licence, one.commercial) for one in found.items]
    assert told == [
        ("two", "s", "hall", "validation", "unknown", True),
        ("x__one", "s", "x__one", None, "MIT", False),
        ("pair", "other", "pair", None, "unknown", False),
    ]
    assert found.items[2].files == (tmp_path / "l.png", tmp_path / "r.png")
    assert [lost.name for lost in found.dropped] == ["none/*.png"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("clips: [{path: a.png, split: training}]", r"entry 1: split is 'training', expected one of train"),
        ("clips: [{path: a.png, commercial: maybe}]", r"entry 1: commercial is 'maybe', expected yes or no"),
        ("clips: [{name: a}]", r"entry 1: it has no path, nor left and right"),
        ("clips: []", r"holds no list of recordings"),
        ("- a.png", r"holds no list of recordings"),
        ("clips: [", r"is no YAML"),
    ],
)
def test_a_wrong_list_is_told(tmp_path, content, told):
    (tmp_path / "list.yaml").write_text(content)
    with pytest.raises(InputError, match=told):
        read_list(tmp_path / "list.yaml", "stereo", ItemDefaults())


def test_a_missing_list_is_told(tmp_path):
    with pytest.raises(InputError, match=r"none.csv cannot be read as a list"):
        read_list(tmp_path / "none.csv", "mono", ItemDefaults())


def test_a_scene_alone_decides_its_split():
    items = [item(Path("x"), name=f"scene{index}") for index in range(400)]
    drawn = [split_of(one, None, 0.25) for one in items]
    share = drawn.count("validation") / 400
    assert 0.18 < share < 0.32, "a quarter of 400, within three standard deviations"
    assert drawn == [split_of(dataclasses.replace(one, name="other"), None, 0.25) for one in items]
    assert {split_of(one, None, 0.0) for one in items} == {"train"}
    assert {split_of(one, None, 1.0) for one in items} == {"validation"}
    named = frozenset(("scene3",))
    assert [one.name for one in items if split_of(one, named, 0.9) == "validation"] == ["scene3"]
    assert split_of(dataclasses.replace(items[3], split="test"), named, 0.9) == "test"


# --- both eyes of a file ---


def test_eyes_come_out_of_every_packing(tmp_path, scene):
    lefts, rights = arrays(scene.left), arrays(scene.right)
    half = [np.asarray(cv2.resize(eye, (160, 240), interpolation=cv2.INTER_AREA)) for eye in (lefts[0], rights[0])]
    files = {
        "pair": (write_image(tmp_path / "l.png", lefts[0]), write_image(tmp_path / "r.png", rights[0])),
        "x_sbs": (write_image(tmp_path / "x_sbs.png", np.concatenate((lefts[0], rights[0]), 1)),),
        "x_TB": (write_image(tmp_path / "x_TB.png", np.concatenate((lefts[0], rights[0]), 0)),),
        "half": (write_image(tmp_path / "x_Half_SBS.png", np.concatenate(half, 1)),),
    }
    for name, paths in files.items():
        ((left, right),) = read_eyes(item(*paths), "half_sbs" if name == "half" else "auto", None, [])
        if name == "half":
            assert left.shape == (120, 160, 3), "no pixel is invented"
            small = cv2.resize(rights[0], (160, 120), interpolation=cv2.INTER_AREA)
            assert np.abs(right.astype(int) - small).max() <= 1, "shrunk in two steps, rounded twice"
        else:
            np.testing.assert_array_equal(left, lefts[0], name)
            np.testing.assert_array_equal(right, rights[0], name)
    ((left, _),) = read_eyes(item(*files["pair"]), "auto", 120, [])
    assert left.shape == (120, 160, 3)


def test_mpo_holds_two_eyes(tmp_path, scene):
    eyes = [Image.fromarray(arrays(eye)[0]) for eye in (scene.left, scene.right)]
    eyes[0].save(tmp_path / "x.mpo", save_all=True, append_images=eyes[1:])
    written = Image.open(tmp_path / "x.mpo")
    for index, found in enumerate(read_mpo(tmp_path / "x.mpo")):
        written.seek(index)
        difference = np.abs(found.astype(int) - np.asarray(written.convert("RGB"))).mean()
        assert difference < 1, "two decoders of one JPEG may round differently"
    Image.fromarray(arrays(scene.left)[0]).save(tmp_path / "one.jpg")
    (tmp_path / "one.jpg").rename(tmp_path / "one.mpo")
    with pytest.raises(InputError, match=r"one.mpo holds no two pictures"):
        read_mpo(tmp_path / "one.mpo")
    (tmp_path / "cut.mpo").write_bytes((tmp_path / "x.mpo").read_bytes()[:40])
    with pytest.raises(InputError, match=r"cut.mpo holds no two pictures"):
        read_mpo(tmp_path / "cut.mpo")


def test_eyes_that_do_not_fit_are_told(tmp_path, scene):
    left, right = arrays(scene.left), arrays(scene.right)
    first, second = write_video(tmp_path / "l.mkv", left), write_video(tmp_path / "r.mkv", right[:1])
    warnings: list[str] = []
    assert len(list(read_eyes(item(first, second), "auto", None, warnings))) == 1
    assert warnings == ["r.mkv ends after 1 frames, its other eye goes on; the rest is left out"]
    small = write_image(tmp_path / "small.png", right[0][:100])
    large = write_image(tmp_path / "large.png", left[0])
    with pytest.raises(InputError, match=r"left eye is 320x240 and the right eye 320x100, expected one size"):
        list(read_eyes(item(large, small), "auto", None, []))


# --- how the eyes lie ---


def test_black_borders_are_cut_off_both_eyes():
    random = np.random.default_rng(0)
    left, right = random.integers(30, 250, (2, 100, 140, 3), np.uint8)
    left[:12], right[:, 133:], right[50, 60:80] = 3, 0, 0  # a bar, a strip, and something black inside
    assert find_window([[left], [right]]) == Window(12, 100, 0, 133)
    assert find_window([[left, left[::-1]]]) == Window(0, 100, 0, 140), "a bar that is not there in every frame is none"
    wedge = random.integers(30, 250, (100, 200, 3), np.uint8)
    for row in range(100):
        wedge[row, : row // 10] = 0
    found = find_window([[wedge]])
    assert found.left in (8, 9), "all but the wedge's tip"
    assert (found.top, found.bottom, found.right) == (0, 100, 200)
    night = np.zeros((100, 200, 3), np.uint8)
    night[45:55, 90:110] = 200
    assert find_window([[night]]) == Window(0, 100, 0, 200), "too little would be left"


@pytest.mark.parametrize(
    ("swapped", "right", "down"),
    [(False, 0, 0), (False, 0, 3), (False, 0, -5), (True, 0, 4), (False, -12, 0), (False, 30, 0), (True, 7, -2)],
)
def test_offset_order_and_shift_are_found_and_undone(scene, swapped, right, down):
    def recorded(left_view, right_view):
        eyes = [left_view, moved(right_view, right=right, down=down)]
        for eye in eyes:
            eye[:20] = 0  # a letterbox bar, which does not move along
        return eyes[::-1] if swapped else eyes

    layout = find_layout([recorded(arrays(scene.left)[0].copy(), arrays(scene.right)[0])])
    assert layout.swapped == swapped
    assert layout.vertical_px == pytest.approx(down, abs=0.25), "SIFT is good to a quarter px here"
    assert -right - 2 <= layout.shift_px <= -right, "rounded down, and one per cent of the matches may be off"
    rows, columns = np.mgrid[:240, :320]
    place = np.stack([rows, columns // 256, columns % 256], -1).astype(np.uint8)
    assert layout.window == Window(20, 240, 0, 320)
    aligned = [
        eye[8:-8, 40:-40].astype(int) for eye in layout.align(recorded(place.copy(), place))
    ]  # no repeated border
    np.testing.assert_array_equal(aligned[0][..., 0], aligned[1][..., 0])
    step = 256 * (aligned[1] - aligned[0])[..., 1] + (aligned[1] - aligned[0])[..., 2]
    np.testing.assert_array_equal(step, -right - layout.shift_px, "what had no disparity has this much now")


def test_a_map_is_aligned_with_its_eye(scene):
    eyes = arrays(scene.left)[0], moved(arrays(scene.right)[0], right=-12, down=3)
    layout = find_layout([eyes])
    rows, columns = np.mgrid[:240, :320]
    aligned_rows = layout.align_map((1000 * rows + columns).astype(np.float32)) + layout.shift_px
    left, _ = layout.align((np.stack([rows, columns, columns // 256], -1).astype(np.uint8), eyes[1]))
    np.testing.assert_array_equal(aligned_rows // 1000, left[..., 0])
    np.testing.assert_array_equal(aligned_rows % 1000, left[..., 1] + 256.0 * left[..., 2])


def test_shots_that_cannot_be_trained_on_are_told(scene):
    left, right = arrays(scene.left)[0], arrays(scene.right)[0]
    with pytest.raises(UnusableError, match=r"both eyes show one view"):
        find_layout([(left, left)])
    noise = np.random.default_rng(0).integers(0, 256, (2, *left.shape), np.uint8)
    with pytest.raises(UnusableError, match=r"next to nothing of the two eyes matches"):
        find_layout([(noise[0], noise[1])])
    turned = cv2.warpAffine(right, cv2.getRotationMatrix2D((160, 120), 4, 1), (320, 240))
    with pytest.raises(UnusableError, match=r"off their rows after a shift by .* rectify it"):
        find_layout([(left, turned)])


def test_gain_and_offset_are_measured_outside_holes():
    random = np.random.default_rng(0)
    warped = torch.from_numpy(random.random((2, 3, 20, 30), dtype=np.float32))
    noise = torch.from_numpy(random.normal(0, 0.02, warped.shape).astype(np.float32))
    scale = torch.tensor([0.8, 0.9, 0.7])[:, None, None]
    truth = scale * warped + 0.1 + noise
    hole = torch.from_numpy(random.random((2, 1, 20, 30)) < 0.3)
    measured = ExposureMatch()
    for frame in range(2):
        spoiled = torch.where(hole, 0, warped)[frame : frame + 1]
        measured.add(spoiled, truth[frame : frame + 1], hole[frame : frame + 1])
    gain, offset, psnr = measured.solve()
    np.testing.assert_allclose(gain, [0.8, 0.9, 0.7], atol=0.01)  # of 800 samples with noise of 0.02
    np.testing.assert_allclose(offset, 25.5, atol=2.0)
    residual = [
        np.polyfit(*(view[:, c][~hole[:, 0]].numpy() for view in (warped, truth)), 1, full=True) for c in range(3)
    ]
    mean = np.mean([float(fit[1][0]) for fit in residual]) / int((~hole).sum())
    assert psnr == pytest.approx(-10 * np.log10(mean), abs=1e-3)
    assert ExposureMatch().solve()[2] == 0.0


# --- maps of others ---


@pytest.mark.parametrize("ending", [".npy", ".npz", ".pfm", ".png"])
def test_maps_of_others_are_read(tmp_path, ending):
    truth = np.round(np.random.default_rng(0).uniform(1, 90, (6, 8)), 1).astype(np.float32)
    truth[2, 3] = np.nan
    path = tmp_path / f"clip{ending}"
    if ending == ".npy":
        np.save(path, truth)
    elif ending == ".npz":
        np.savez(path, truth[None])
    elif ending == ".pfm":
        rows = np.where(np.isnan(truth), np.inf, truth)[::-1].astype("<f4")  # from the bottom up
        path.write_bytes(b"Pf\n8 6\n-1.0\n" + rows.tobytes())
    else:
        Image.fromarray(np.nan_to_num(256 * truth).round().astype(np.uint16)).save(path)
    found = MapFolder(tmp_path, item()).read(0, 8, 6)
    np.testing.assert_allclose(found, truth, atol=1 / 512)  # half of PNG's step
    np.testing.assert_allclose(MapFolder(tmp_path, item()).read(0, 4, 3), truth[::2, ::2] / 2, atol=1 / 512)


def test_maps_are_found_by_frame(tmp_path):
    (tmp_path / "clip").mkdir()
    for frame in (0, 7):
        np.save(tmp_path / "clip" / f"{frame:06d}.npy", np.full((2, 2), frame, np.float32))
    maps = MapFolder(tmp_path, item())
    assert maps.read(7, 2, 2).max() == 7
    with pytest.raises(InputError, match=r"none for frame 3"):
        maps.read(3, 2, 2)
    with pytest.raises(InputError, match=r"no disparity for other; expected"):
        MapFolder(tmp_path, item(name="other"))
    (tmp_path / "clip" / "000004.npy").write_bytes(b"no array")
    with pytest.raises(InputError, match=r"000004.npy cannot be read as disparities"):
        MapFolder(tmp_path, item()).read(4, 2, 2)
    cv2.imwrite(str(tmp_path / "clip" / "000005.png"), np.zeros((2, 2), np.uint8))
    with pytest.raises(InputError, match=r"expected one channel of 16 bits"):
        MapFolder(tmp_path, item()).read(5, 2, 2)


# --- pairs ---


def test_a_pair_with_known_disparity_is_warped_onto_its_other_eye(tmp_path, scene):
    write_pair(tmp_path, "clip", scene)
    (tmp_path / "maps").mkdir()
    np.save(tmp_path / "maps" / "clip.npy", scene.disparity[:, 0].numpy())
    settings = dataclasses.replace(STEREO, disparity=str(tmp_path / "maps"))
    (clip,) = prepared(tmp_path / "out", settings, tmp_path / "clip_sbs.mkv").clips
    shift = clip.measured["shift_px"]
    assert -2 <= shift <= 0
    assert (clip.frames, clip.width, clip.height) == (2, 320 + shift, 240)
    left, right, warped, hole = (frames_of(tmp_path / "out", part, 2) for part in ("left", "right", "warped", "hole"))
    np.testing.assert_array_equal((left * 255).round(), (scene.left[..., : 320 + shift] * 255).round())
    np.testing.assert_array_equal((right * 255).round(), (scene.right[..., -shift:] * 255).round())
    truth = forward_warp(left, scene.disparity[..., : 320 + shift] - shift)
    np.testing.assert_array_equal(hole > 0.5, truth.hole)
    np.testing.assert_allclose(warped, truth.view, atol=0.5 / 255 + 1e-6)
    assert clip.known_psnr_db > 35, "only sampling and whole px at borders keep it from perfect"
    for branch in ("poly", "dl", "de"):
        view = frames_of(tmp_path / "out", branch, 2)
        filled = (view - right).abs().mean(1, keepdim=True)[hole > 0.5].mean()
        empty = (warped - right).abs().mean(1, keepdim=True)[hole > 0.5].mean()
        assert filled < 0.6 * empty, branch


def test_a_crooked_pair_is_prepared_like_a_straight_one(tmp_path, scene):
    left, right = arrays(scene.left)[0], arrays(scene.right)[0]
    darker = (0.85 * moved(right, right=-12, down=3) + 10).round().astype(np.uint8)
    straight = prepared(tmp_path, STEREO, *write_eyes(tmp_path, scene))
    crooked = prepared(
        tmp_path, STEREO, write_image(tmp_path / "x.png", darker), write_image(tmp_path / "y.png", left), name="crooked"
    )
    good, bad = straight.clips[0], crooked.clips[0]
    assert (good.measured["swapped"], bad.measured["swapped"]) == (False, True)
    np.testing.assert_allclose(good.measured["exposure_gain"], 1.0, atol=0.06)  # matching errors flatten it a little
    np.testing.assert_allclose(
        np.divide(bad.measured["exposure_gain"], good.measured["exposure_gain"]), 0.85, atol=0.02
    )
    assert bad.height == good.height - 3
    assert good.known_psnr_db > 25
    assert abs(bad.known_psnr_db - good.known_psnr_db - 20 * np.log10(1 / 0.85)) < 1.0, "less contrast, less error"
    holes = [float(frames_of(tmp_path, "hole", 1, f"{name}/0000").mean()) for name in ("clip", "crooked")]
    assert holes[0] == pytest.approx(float(scene.hole[0].float().mean()), rel=0.35), "by matching, not by the truth"
    assert holes[1] == pytest.approx(holes[0], rel=0.3)


def test_maps_of_swapped_eyes_are_refused(tmp_path, scene):
    left, right = arrays(scene.left)[0], arrays(scene.right)[0]
    np.save(tmp_path / "clip.npy", scene.disparity[0, 0].numpy())
    files = write_image(tmp_path / "l.png", right), write_image(tmp_path / "r.png", left)
    record = prepared(tmp_path, dataclasses.replace(STEREO, disparity=str(tmp_path)), *files)
    assert record.clips == ()
    assert "the eyes are swapped, and so would be maps" in record.dropped[0][1]


def test_a_mirrored_pair_has_the_other_eye_as_its_left(tmp_path, scene):
    files = [
        write_image(tmp_path / f"{index}.png", arrays(eye)[0]) for index, eye in enumerate((scene.left, scene.right))
    ]
    record = prepared(tmp_path, dataclasses.replace(STEREO, mirrored=True), *files)
    assert [clip.name for clip in record.clips] == ["0000", "0000m"]
    left = frames_of(tmp_path, "left", 1, "clip/0000m")
    right = frames_of(tmp_path, "right", 1, "clip/0000")
    np.testing.assert_array_equal(left.flip(-1), right)
    assert record.clips[1].known_psnr_db > 25


def test_a_pair_of_which_nothing_matches_is_dropped(tmp_path, scene):
    np.save(tmp_path / "clip.npy", np.full((240, 320), np.nan, np.float32))
    files = [
        write_image(tmp_path / f"{index}.png", arrays(eye)[0]) for index, eye in enumerate((scene.left, scene.right))
    ]
    record = prepared(tmp_path, dataclasses.replace(STEREO, disparity=str(tmp_path)), *files)
    assert record.dropped == (("0000", "only 0.0 % of the pixels match; these are no two views"),)


# --- 2D ---


def test_2d_clips_keep_frames_and_their_nearness(tmp_path, scene):
    first = arrays(scene.left)
    other = [255 - moved(first[0], right=100, down=60) // 2] * 6
    video = write_video(tmp_path / "cut.mkv", [first[0]] * 5 + [first[1]] * 3 + other)
    settings = dataclasses.replace(MONO, every=3, max_frames=2)
    clips = prepared(tmp_path, settings, video).clips
    assert [(clip.name, clip.first_frame, clip.frames) for clip in clips] == [("0000", 0, 2), ("0001", 8, 2)]
    frames = frames_of(tmp_path, "frames", 2)
    expected = to_tensor([first[0], first[0]], "cpu")
    assert torch.equal(frames, expected), "frames 0 and 3, lossless"
    shot = Clip(expected, (None, None), 0, 0, starts_shot=True, ends_shot=True)
    with torch.inference_mode():
        (depth,) = open_depth("tiny").stream([shot])
    found = frames_of(tmp_path, "nearness", 2)
    np.testing.assert_allclose(found, depth.nearness, atol=0.51 / 65535 + 1e-6)


def test_pictures_are_shrunk_to_8_bits_and_a_short_side(tmp_path):
    deep = np.full((160, 240, 3), 257 * 40 + 128, np.uint16)
    clips = prepared(tmp_path, dataclasses.replace(MONO, short_side=80), write_image(tmp_path / "a.png", deep)).clips
    assert (clips[0].width, clips[0].height) == (120, 80)
    assert frames_of(tmp_path, "frames", 1).mul(255).round().unique().tolist() == [40.0]


# --- runs ---


@pytest.fixture(scope="module")
def recordings(tmp_path_factory, scene):
    """Three pairs, and files that are none."""
    folder = tmp_path_factory.mktemp("recordings")
    write_pair(folder, "moving", scene)
    for index in range(2):
        write_pair(folder, f"still{index}", crowd(width=320, height=240, max_disparity_percent=4.0 + index))
    write_image(folder / "broken_left.png", arrays(scene.left)[0])
    (folder / "broken_right.png").write_text("no picture")
    write_image(folder / "same_sbs.png", np.concatenate([arrays(scene.left)[0]] * 2, 1))
    write_image(folder / "alone_left.png", arrays(scene.left)[0])
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory, recordings):
    """What one process made of them."""
    output = tmp_path_factory.mktemp("finished")
    options = {"disparity": "sgbm", "validation": "still1", "licence": "CC0", "commercial": True, "source": "toys"}
    report = prepare(recordings, output, workers=1, **options)
    return output, report, options


def test_a_run_keeps_what_is_good_and_says_what_it_dropped(recordings, finished):
    output, report, _ = finished
    clips = read_manifest(output / "manifest.json", check_hashes=True)
    told = [
        (clip.name, clip.kind, clip.scene, clip.source, clip.licence, clip.commercial, clip.split) for clip in clips
    ]
    assert told == [
        (f"{name}/0000", "stereo", name, "toys", "CC0", True, split)
        for name, split in (("moving_sbs", "train"), ("still0", "train"), ("still1", "validation"))
    ]
    reasons = {lost.name.removeprefix(f"{recordings}/"): lost.reason for lost in report.dropped}
    assert "no right eye" in reasons["alone_left.png"]
    assert "broken_right.png is not a video or image" in reasons["broken_left.png"]
    assert "both eyes show one view" in reasons["same_sbs/0000"]
    lines = "\n".join(report.lines())
    assert "3 clips (2 train, 1 validation), 4 frames" in lines
    assert "vertical offset 0." in lines
    assert "eyes exchanged in 0 clips" in lines
    content = json.loads((output / "report.json").read_text())
    assert {one["name"] for one in content["dropped"]} == {lost.name for lost in report.dropped}
    assert content["clips"][0]["measured"]["matched"] > 0.5


def test_two_processes_make_the_same_manifest(tmp_path, recordings, finished):
    output, _, options = finished
    prepare(recordings, tmp_path, workers=2, **options)
    assert (tmp_path / "manifest.json").read_bytes() == (output / "manifest.json").read_bytes()


def test_a_refiner_trains_on_what_was_prepared(tmp_path, finished, monkeypatch):
    pytest.importorskip("lightning.pytorch", reason="training needs lightning")
    from spatialme.training.cli import run_cli

    monkeypatch.chdir(tmp_path)
    smoke = Path(__file__).parents[1] / "configs/fit/smoke.yaml"
    manifest = finished[0] / "manifest.json"
    words = ["--config", str(smoke), "--data.manifests", json.dumps([str(manifest)]), "--data.sources", '{"toys": 1}']
    words += ["--trainer.max_steps", "2", "--trainer.val_check_interval", "2"]
    run_cli("fit", words)
    assert list(tmp_path.rglob("*.ckpt"))
    train = [clip for clip in read_manifest(manifest) if clip.split == "train"]
    sample = StereoClips(train, 64).sample(np.random.default_rng(0))
    assert sample.hole.dtype == torch.bool


def test_a_run_that_was_stopped_goes_on_with_the_next_clip(tmp_path, scene, monkeypatch):
    frames = [np.concatenate(eyes, 1) for eyes in zip(arrays(scene.left), arrays(scene.right))]
    cut = [255 - frames[0]] * 4
    video = write_video(tmp_path / "clip_sbs.mkv", frames[:1] * 4 + cut)
    settings = dataclasses.replace(STEREO, max_frames=1)
    whole = prepared(tmp_path / "whole", settings, video)
    assert len(whole.clips) == 2
    written = stereo.find_layout

    def stopped_at_the_second(shot):
        if ItemStore(tmp_path / "out", item()).finished_clip("0000"):
            raise KeyboardInterrupt
        return written(shot)

    monkeypatch.setattr(stereo, "find_layout", stopped_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        prepared(tmp_path / "out", settings, video)
    first = tmp_path / "out/clips/clip/0000/poly.mkv"
    when = first.stat().st_mtime_ns
    monkeypatch.setattr(stereo, "find_layout", written)
    assert prepared(tmp_path / "out", settings, video) == whole
    assert first.stat().st_mtime_ns == when, "not done again"
    monkeypatch.setattr(stereo, "find_layout", None)  # nothing is left to do
    assert prepared(tmp_path / "out", settings, video) == whole
    monkeypatch.undo()
    (tmp_path / "out/clips/clip/0001/hole.mkv").unlink()
    assert prepared(tmp_path / "out", settings, video) == whole
    assert (tmp_path / "out/clips/clip/0001/hole.mkv").is_file()


def test_other_settings_or_another_file_start_afresh(tmp_path):
    picture = write_image(tmp_path / "a.png", np.full((80, 96, 3), 90, np.uint8))
    assert prepared(tmp_path, MONO, picture).clips[0].width == 96
    assert prepared(tmp_path, dataclasses.replace(MONO, short_side=64), picture).clips[0].height == 64
    write_image(picture, np.full((100, 96, 3), 90, np.uint8))
    assert prepared(tmp_path, MONO, picture).clips[0].height == 100


def test_what_cannot_be_prepared_is_told(tmp_path):
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(InputError, match=r"nothing of .*a.png could be prepared: .*a.png: .* is not a video or image"):
        prepare(tmp_path / "a.png", tmp_path / "out", mono=True, depth="tiny", workers=1)
    record = prepared(tmp_path, MONO, tmp_path / "none.png")
    assert record.dropped == (("", f"{tmp_path / 'none.png'} does not exist; check the name"),)
    with pytest.raises(OutputError, match=r"cannot be made a folder"):
        prepare(tmp_path / "a.png", tmp_path / "a.png", mono=True, depth="tiny")
    with pytest.raises(OutputError, match=r"clip.mkv cannot be written"), FrameFile(tmp_path / "no/clip.mkv") as file:
        file.write(np.zeros((16, 16), np.uint8))
    (tmp_path / "list.yaml").write_text("[{path: a.png, scene: s, split: test}, {path: b.png, scene: s, split: train}]")
    with pytest.raises(InputError, match=r"scene 's' of .* is in two splits"):
        prepare(tmp_path / "list.yaml", tmp_path / "out", mono=True)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"every": 0}, r"--every is 0, expected 1 or more"),
        ({"max_frames": 0}, r"--max-frames is 0"),
        ({"short_side": 20}, r"--short-side is 20 px, expected 64 or more"),
        ({"workers": 0}, r"--workers is 0"),
        ({"validation_share": 1.5}, r"--validation-share is 1.5, expected 0 to 1"),
        ({"validation": "nowhere"}, r"--validation names 'nowhere', which is no scene here"),
        ({"mono": True, "mirrored": True}, r"--mono makes no use of"),
        ({"depth": "tiny"}, r"--depth tiny is of use with --mono only"),
        ({"disparity": "igev"}, r"--disparity igev is neither"),
        ({"disparity": ".", "mirrored": True}, r"--mirrored needs the right eye's disparity"),
    ],
)
def test_options_that_make_no_sense_are_told(tmp_path, options, told):
    with pytest.raises(OptionError, match=told):
        prepare(tmp_path / "a.png", tmp_path / "out", **options)


@pytest.mark.slow
def test_a_killed_run_leaves_no_process_and_goes_on(tmp_path, recordings, finished):
    options = ["--disparity", "sgbm", "--validation", "still1", "--licence", "CC0", "--commercial", "--source", "toys"]
    words = [sys.executable, "-m", "spatialme", "prepare", str(recordings), str(tmp_path), *options, "--workers", "2"]
    run = subprocess.Popen(words, start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("clips/*/0000/clip.json")) and time.monotonic() < deadline and run.poll() is None:
        time.sleep(0.02)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    done = {path: path.stat().st_mtime_ns for path in tmp_path.glob("clips/*/0000/clip.json")}
    assert done
    assert not (tmp_path / "manifest.json").exists(), "killed in the middle"
    while time.monotonic() < deadline and _session(run.pid):
        time.sleep(0.1)
    assert not _session(run.pid), "the workers end with their parent"
    assert subprocess.run(words, stderr=subprocess.DEVNULL, check=False).returncode == 0
    assert (tmp_path / "manifest.json").read_bytes() == (finished[0] / "manifest.json").read_bytes()
    assert {path: path.stat().st_mtime_ns for path in done} == done, "what was finished is not done again"


def _session(leader: int) -> list[str]:
    """Processes of a session that still run."""
    found = subprocess.run(["ps", "-o", "stat=", "-s", str(leader)], capture_output=True, text=True, check=False)
    return [state for state in found.stdout.split() if not state.startswith("Z")]


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_config_is_its_own_command(config, monkeypatch):
    command = config.read_text().splitlines()[0].removeprefix("# ")
    words = command.split()
    assert words[:3] == ["spatialme", "prepare", f"configs/prepare/{config.name}"]
    given = []
    monkeypatch.setattr("spatialme.preparation.run.run", lambda *values, **options: given.append((values, options)))
    assert cli.main(words[1:]) == 0
    settings = given[0][0][2]
    found = read_list(config, settings.kind, ItemDefaults())  # its material may not be here
    assert found.items or found.dropped
