"""`spatialme check`: faults put into a stereo file on purpose are found, and a good file has none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spatialme.errors import InputError, OptionError
from spatialme.evaluation.check import CheckReport
from spatialme.evaluation.comfort import Comfort
from spatialme.evaluation.commands import check
from spatialme.evaluation.eye_order import Votes
from spatialme.evaluation.findings import Finding, Measured, judge
from spatialme.evaluation.packing import PACKINGS, Packing, find_packing
from tests.stereo_files import arrays, crowd, write_image, write_video

WIDTH, HEIGHT = 256, 192


@pytest.fixture(scope="module")
def eyes() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Four frames, 2.5 % of disparity: comfortable."""
    scene = crowd(frames=4, velocity=2.0, max_disparity_percent=2.5)
    return arrays(scene.left), arrays(scene.right)


def sbs(path: Path, left: list[np.ndarray], right: list[np.ndarray]) -> Path:
    both = [np.concatenate(pair, axis=1) for pair in zip(left, right)]
    return write_image(path, both[0]) if path.suffix == ".png" else write_video(path, both)


def faults(report: CheckReport, level: str = "serious") -> list[str]:
    return [finding.text for finding in report.findings if finding.level == level]


# ---- whole files --------------------------------------------------------------------------------------------------


def test_a_good_file_has_no_serious_fault(eyes, tmp_path):
    report = check(sbs(tmp_path / "good_Full_SBS.mkv", *eyes))
    assert report.exit_code == 0
    assert report.frames == 4
    texts = "\n".join(report.lines())
    assert "repeated frames: both eyes in 0 of 3 steps" in texts
    assert "depth: " in texts
    assert "flicker: " in texts


def test_swapped_eyes_are_serious(tmp_path):
    scene = crowd()
    report = check(sbs(tmp_path / "clip_sbs.png", arrays(scene.right), arrays(scene.left)), format="full_sbs")
    assert report.exit_code == 1
    assert any(text.startswith("the eyes are swapped: ") for text in faults(report))
    # the same file is right when it is read as what it is
    assert not faults(check(tmp_path / "clip_sbs.png", format="cross_eyed"))[1:]


def test_one_picture_twice_is_no_stereo(eyes, tmp_path):
    report = check(sbs(tmp_path / "flat_Full_SBS.png", eyes[0][:1], eyes[0][:1]))
    assert report.exit_code == 1
    assert faults(report) == ["both eyes are the same picture (0.00 of 255 apart)"]
    assert len(report.findings) == 1


def test_an_eye_that_hangs_lower_is_serious(eyes, tmp_path):
    low = [np.roll(eye, 5, axis=0) for eye in eyes[1][:1]]  # 5 of 256 px: 1.95 % of the width
    report = check(sbs(tmp_path / "low_Full_SBS.png", eyes[0][:1], low))
    assert any(text.startswith(("vertical offset: +1.9", "vertical offset: +2.0")) for text in faults(report))


def test_a_darker_eye_is_serious(eyes, tmp_path):
    dark = [(0.8 * eye).astype(np.uint8) for eye in eyes[1][:1]]
    report = check(sbs(tmp_path / "dark_Full_SBS.png", eyes[0][:1], dark))
    assert any(text.startswith("brightness: right minus left -") for text in faults(report))


def test_an_eye_that_stands_still_is_serious(eyes, tmp_path):
    report = check(sbs(tmp_path / "frozen_Full_SBS.mkv", eyes[0], eyes[1][:1] * 4))
    assert "frozen: one eye stands still in 3 of 3 steps" in faults(report)


def test_repeated_frames_are_told(eyes, tmp_path):
    left, right = ([eye[0], eye[0], eye[1], eye[1]] for eye in eyes)
    report = check(sbs(tmp_path / "slow_Full_SBS.mkv", left, right))
    assert "repeated frames: both eyes in 2 of 3 steps" in faults(report, "warning")


def test_long_files_are_looked_at_in_runs_from_all_over(eyes, tmp_path):
    still = [np.concatenate((eyes[0][0], eyes[1][0]), axis=1)] * 20
    moving = [np.concatenate((eyes[0][t % 2], eyes[1][t % 2]), axis=1) for t in range(20)]
    report = check(write_video(tmp_path / "long_Full_SBS.mkv", still + moving), frames=16)
    assert report.frames == 16
    assert any("both eyes in 7 of 14 steps" in finding.text for finding in report.findings)


def test_wrong_words_are_refused(tmp_path):
    path = write_image(tmp_path / "a.png", np.zeros((100, 200, 3), np.uint8))
    with pytest.raises(OptionError, match="--frames is 0, expected 1 or more"):
        check(path, frames=0)
    with pytest.raises(OptionError, match="--format anaglyph holds no two eyes"):
        check(path, format="anaglyph")
    with pytest.raises(InputError, match="says nowhere how two eyes are packed in it; give --format"):
        check(path)
    with pytest.raises(InputError, match="does not exist"):
        check(tmp_path / "none.mp4")
    small = write_image(tmp_path / "a_Full_SBS.png", np.zeros((20, 200, 3), np.uint8))
    with pytest.raises(InputError, match="holds eyes of 100 x 20, expected 32 x 32"):
        check(small)


# ---- packing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PACKINGS)
def test_each_packing_gives_both_eyes_back(name):
    packing = PACKINGS[name]
    left, right = (np.full((40, 60, 3), value, np.uint8) for value in (10, 200))
    squeezed = [eye[:, ::2] if packing.across else eye[::2] for eye in (left, right)] if packing.half else [left, right]
    order = squeezed[::-1] if packing.right_first else squeezed
    found = packing.eyes(np.concatenate(order, axis=1 if packing.across else 0))
    assert np.array_equal(found[0], left)
    assert np.array_equal(found[1], right)


@pytest.mark.parametrize(
    ("name", "size", "packing"),
    [
        ("film_Full_SBS.png", (200, 100), PACKINGS["full_sbs"]),
        ("film_HSBS.png", (1920, 1080), PACKINGS["half_sbs"]),
        ("film_full_tb.png", (1920, 1080), PACKINGS["full_tb"]),
        ("film_HTAB.png", (1920, 1080), PACKINGS["half_tb"]),
        ("film_RLF.png", (3840, 1080), PACKINGS["cross_eyed"]),
        ("clip_sbs.png", (3840, 1080), PACKINGS["full_sbs"]),
        ("clip_sbs.png", (1920, 1080), PACKINGS["half_sbs"]),
        ("film.png", (3840, 1080), PACKINGS["full_sbs"]),
        ("film.png", (1920, 2160), PACKINGS["full_tb"]),
    ],
)
def test_the_name_then_the_shape_tells_the_packing(name, size, packing, tmp_path):
    assert find_packing(tmp_path / name, *size) == packing


def test_the_files_own_mark_goes_first(tmp_path, monkeypatch):
    def marked(mode: str, name: str, width: int, height: int) -> Packing:
        tags = type("Tags", (), {"mode": mode})
        monkeypatch.setattr("spatialme.evaluation.packing.read_stereo_mode", lambda path: tags)
        return find_packing(tmp_path / name, width, height)

    assert marked("top_bottom", "film_Full_SBS.mp4", 1920, 2160) == PACKINGS["full_tb"]
    assert marked("top_bottom", "film.mp4", 1920, 1080) == PACKINGS["half_tb"]
    assert marked("right_left", "film.mp4", 3840, 1080) == PACKINGS["cross_eyed"]
    assert marked("bottom_top", "film.mp4", 1920, 2160) == replace(PACKINGS["full_tb"], right_first=True)
    # full or half is told by the name where both speak of the same packing
    assert marked("left_right", "film_Full_SBS.mp4", 2000, 1000) == PACKINGS["full_sbs"]
    assert marked("left_right", "film.mp4", 2000, 1000) == PACKINGS["half_sbs"]


# ---- what is said -------------------------------------------------------------------------------------------------

WELL = Measured(
    comfort=Comfort(-1.0, -0.8, 0.0, 0.8, 1.0, 0.0, 0.0, 0.1, 1.0, 1.0),
    matched=0.9,
    votes=Votes(80, 20),
    eye_difference=0.1,
    left_flicker=0.01,
    right_flicker=0.011,
    steps=20,
    frozen_eye=0,
    repeated=0,
)


def said(**changes) -> list[Finding]:
    comfort = {name: value for name, value in changes.items() if hasattr(WELL.comfort, name)}
    others = {name: value for name, value in changes.items() if name not in comfort}
    return [found for found in judge(replace(WELL, comfort=replace(WELL.comfort, **comfort), **others))]


def test_all_is_well():
    assert {finding.level for finding in said()} == {"ok"}


@pytest.mark.parametrize(
    ("changes", "level", "start"),
    [
        ({"matched": 0.01}, "serious", "the eyes share no scene: 1 %"),
        ({"votes": Votes(20, 80)}, "serious", "the eyes are swapped: 20 %"),
        ({"disparity_p1": -4.0}, "warning", "depth: -4.00 to +1.00 %"),
        ({"disparity_p99": 7.0}, "serious", "depth: -1.00 to +7.00 %"),
        ({"window_violation": 0.5}, "warning", "window: 50 %"),
        ({"vertical_offset": -0.5}, "warning", "vertical offset: -0.50 %"),
        ({"vertical_offset": 1.5}, "serious", "vertical offset: +1.50 %"),
        ({"exposure_difference": -8.0}, "warning", "brightness: right minus left -8.0"),
        ({"colour_difference": 20.0}, "serious", "colour: the eyes differ by 20.0"),
        ({"right_flicker": 0.015}, "warning", "flicker: 0.0100 in the left eye"),
        ({"right_flicker": 0.004}, "serious", "flicker: 0.0100 in the left eye"),
        ({"frozen_eye": 1}, "warning", "frozen: one eye stands still in 1 of 20"),
        ({"frozen_eye": 3}, "serious", "frozen: one eye stands still in 3 of 20"),
        ({"repeated": 6}, "warning", "repeated frames: both eyes in 6 of 20"),
    ],
)
def test_each_fault_has_its_level(changes, level, start):
    (fault,) = [finding for finding in said(**changes) if finding.level != "ok"]
    assert fault.level == level
    assert fault.text.startswith(start)


def test_what_cannot_be_told_is_no_fault():
    unknown = said(votes=Votes(3, 2), vertical_offset=None, left_flicker=None, steps=0, disparity_p1=None)
    assert {finding.level for finding in unknown} == {"ok"}
    texts = [finding.text for finding in unknown]
    assert "eye order could not be told (5 half-hidden areas)" in texts
    assert any("not enough to tell" in finding.text for finding in said(votes=Votes(50, 50)))
    assert not any(text.startswith(("depth", "flicker", "frozen")) for text in texts)
