"""Depth that another program saved as numpy arrays, and the flicker figure of the report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from spatialme.depth import open_depth
from spatialme.depth.arrays import DepthArray
from spatialme.depth.flicker import FlickerMeter, aligned_second_difference
from spatialme.errors import InputError, WeightsError
from spatialme.pipeline import Converter
from spatialme.report import ConversionReport, Tally
from spatialme.settings import ConverterSettings
from spatialme.types import Clip, DepthClip

SIZE = (36, 48)


def maps(count: int = 4, height: int = SIZE[0], width: int = SIZE[1]) -> np.ndarray:
    """(T, h, w) from 2 to 10, nearer to the right, each frame a little nearer than the one before."""
    columns = np.linspace(0, 7, width, dtype=np.float32)
    return 2 + np.broadcast_to(columns, (count, height, width)) + np.linspace(0, 1, count)[:, None, None]


def clips(count: int = 4, size: tuple[int, int] = SIZE, length: int = 4) -> list[Clip]:
    pictures = torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(0))
    return [
        Clip(pictures[i : i + length], tuple(range(i, min(count, i + length))), i, 0, i == 0, i + length >= count)
        for i in range(0, count, length)
    ]


def read(name: str | Path, **settings) -> Tensor:
    return torch.cat([found.nearness for found in DepthArray(name).stream(clips(**settings))])


@pytest.mark.parametrize("name", ["depth.npy", "depth.npz"])
def test_larger_is_nearer_over_the_files_range(tmp_path: Path, name: str):
    write(tmp_path / name, maps())
    found = read(tmp_path / name)
    low, high = np.quantile(maps(), (0.01, 0.99))
    expected = torch.from_numpy(((maps() - low) / (high - low)).clip(0, 1)).float().unsqueeze(1)
    assert torch.allclose(found, expected, atol=1e-6)


def write(path: Path, values: np.ndarray, **more: np.ndarray) -> None:
    if path.suffix == ".npy":
        np.save(path, values)
    else:
        np.savez(path, depths=values, **more)


def test_distance_is_turned_round(tmp_path: Path):
    write(tmp_path / "depth.npz", 1 / maps())
    write(tmp_path / "near.npz", maps())
    assert torch.allclose(read(f"{tmp_path}/depth.npz:distance"), read(tmp_path / "near.npz"), atol=1e-5)
    write(tmp_path / "zero.npz", np.concatenate([np.zeros((4, 1, SIZE[1])), 1 / maps()[:, 1:]], 1))
    assert read(f"{tmp_path}/zero.npz:distance").isfinite().all()


@pytest.mark.parametrize("axis", [1, 3])
def test_an_axis_of_one_is_dropped(tmp_path: Path, axis: int):
    write(tmp_path / "a.npy", np.expand_dims(maps(), axis))
    write(tmp_path / "b.npy", maps())
    assert torch.equal(read(tmp_path / "a.npy"), read(tmp_path / "b.npy"))


def test_clips_may_be_cut_anywhere(tmp_path: Path):
    write(tmp_path / "a.npz", maps(6))
    assert torch.equal(read(tmp_path / "a.npz", count=6, length=6), read(tmp_path / "a.npz", count=6, length=1))


def test_another_camera_and_facts_beside_the_maps_do_no_harm(tmp_path: Path):
    write(tmp_path / "a.npz", maps(), intrinsics=np.eye(3), fps=np.array(24))
    assert DepthArray(tmp_path / "a.npz").frame_count == 4


def test_small_maps_get_their_step_on_the_frames_edge(tmp_path: Path):
    frames = torch.zeros(1, 3, 96, 160)
    frames[..., 83:] = 0.8
    near = np.zeros((1, 24, 40), np.float32)
    near[..., 21:] = 1  # 83 / 4 = 20.75: the step lies between two of the map's pixels
    write(tmp_path / "a.npy", near)
    estimator = DepthArray(tmp_path / "a.npy")
    (found,) = estimator.stream([Clip(frames, (0,), 0, 0, True, True)])
    row = found.nearness[0, 0, 48]
    assert (row[:82] < 0.1).all()
    assert (row[83:] > 0.9).all()
    assert estimator.notices == [f"depth array {tmp_path}/a.npy is 40x24, scaled to 160x96"]


def test_large_maps_are_reduced(tmp_path: Path):
    write(tmp_path / "a.npy", maps(4, 72, 96))
    assert read(tmp_path / "a.npy").shape == (4, 1, *SIZE)


def test_constant_depth_lies_in_the_middle(tmp_path: Path):
    write(tmp_path / "a.npy", np.full((4, *SIZE), 7, np.int16))
    assert (read(tmp_path / "a.npy") == 0.5).all()


def test_open_depth_knows_arrays_and_what_does_nothing_with_them(tmp_path: Path):
    write(tmp_path / "a.npz", maps())
    estimator = open_depth(f"{tmp_path}/a.npz:distance", input_size=256)
    assert estimator.name == "a.npz"
    assert estimator.notices == ["the depth input size 256 does nothing with a depth array"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (maps()[0], r"is \(36, 48\) of float64|holds 0 arrays"),
        (np.zeros((4, 3, 8, 8)), r"is \(4, 3, 8, 8\) of float64, expected \(frames, height, width\)"),
        (np.zeros((0, 8, 8)), "expected"),
        (np.zeros((4, 8, 8), complex), "of complex128"),
        (np.full((4, 8, 8), np.nan), "values that are no numbers"),
    ],
)
@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_other_shapes_and_values_are_one_clear_line(tmp_path: Path, values: np.ndarray, message: str, name: str):
    write(tmp_path / name, values)
    with pytest.raises(InputError, match=message):
        DepthArray(tmp_path / name)


def test_what_is_no_array_is_one_clear_line(tmp_path: Path):
    with pytest.raises(InputError, match="does not exist"):
        DepthArray(tmp_path / "none.npz")
    for name in ("broken.npy", "broken.npz"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 not an array")
        with pytest.raises(InputError, match="cannot be read"):
            DepthArray(tmp_path / name)
    write(tmp_path / "two.npz", maps(), other=maps())
    with pytest.raises(InputError, match="holds 2 arrays of maps, expected one"):
        DepthArray(tmp_path / "two.npz")


def test_a_wrong_number_of_frames_is_one_clear_line(tmp_path: Path):
    write(tmp_path / "a.npy", maps(3))
    with pytest.raises(InputError, match=r"depth array .* has 3 frames, its source has more; give the one made"):
        read(tmp_path / "a.npy")
    write(tmp_path / "a.npy", maps(5))
    with pytest.raises(InputError, match="has more frames than its source, which has 4; give the one made"):
        read(tmp_path / "a.npy")
    with pytest.raises(InputError, match="has 5 frames, its source about 40"):
        DepthArray(tmp_path / "a.npy").check_length(40)


def test_dino_without_its_file_says_where_it_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SPATIALME_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match=r"dino's weights are not here; make them as docs/depth\.md says"):
        open_depth("dino")
    with pytest.raises(WeightsError, match="dino may not be used commercially"):
        open_depth("dino", licence="commercial")
    with pytest.raises(WeightsError, match=r"none\.safetensors does not hold the dino depth network"):
        open_depth(str(tmp_path / "none.safetensors"))


def test_a_conversion_takes_an_array_and_reports_its_flicker(tmp_path: Path):
    swaying = maps(5) * np.array([1, 1.02, 1, 1.02, 1])[:, None, None]
    write(tmp_path / "a.npy", swaying)
    converter = Converter(ConverterSettings(quality="draft", device="cpu"), depth=DepthArray(tmp_path / "a.npy"))
    tally = Tally()
    shot = still_shot(torch.zeros(5, 1, *SIZE))
    (stereo,) = converter.stereo([shot], tally=tally)
    assert stereo.right is not None
    assert stereo.right.shape == shot.frames.shape
    assert tally.depth_flicker is not None
    # 2 % of 2 to 10, there and back, over a range of about 7
    assert 100 * 2 * 0.02 * 2 / 7 < (tally.depth_flicker.percent or 0) < 100 * 2 * 0.02 * 10 / 7
    report = ConversionReport(
        [], 5, 1, 1.0, {}, 0.0, 1.0, 1.0, None, "a.npy", "branch poly", depth_flicker_percent=1.234
    )
    assert "depth a.npy, flicker 1.23 % of its range where nothing moves; branch poly" in "\n".join(report.lines())
    report.depth_flicker_percent = None
    assert "depth a.npy; branch poly" in "\n".join(report.lines())


# flicker


def still_shot(nearness: Tensor) -> Clip:
    count = len(nearness)
    picture = torch.rand(1, 3, *nearness.shape[-2:], generator=torch.Generator().manual_seed(0))
    return Clip(picture.expand(count, -1, -1, -1), tuple(range(count)), 0, 0, True, True)


def flicker(nearness: Tensor, length: int, clip: Clip | None = None) -> float | None:
    whole = clip or still_shot(nearness)
    meter = FlickerMeter()
    for i in range(0, len(nearness), length):
        part = Clip(whole.frames[i : i + length], whole.pictures[i : i + length], i, 0, i == 0, False)
        meter.feed(DepthClip(part, nearness[i : i + length]))
    return meter.percent


def test_a_jump_there_and_back_is_flicker_and_a_steady_change_is_none():
    swaying = torch.tensor([0.5, 0.52, 0.5, 0.52, 0.5]).view(5, 1, 1, 1).expand(-1, 1, 90, 120)
    assert flicker(swaying, 5) == pytest.approx(4, abs=1e-3)  # 2 % there and 2 % back
    growing = torch.linspace(0.2, 0.8, 5).view(5, 1, 1, 1).expand(-1, 1, 90, 120)
    assert flicker(growing, 5) == pytest.approx(0, abs=1e-3)


def test_flicker_does_not_depend_on_the_clips():
    nearness = torch.rand(7, 1, 90, 120, generator=torch.Generator().manual_seed(1))
    one, three, seven = (flicker(nearness, length) for length in (1, 3, 7))
    assert one == pytest.approx(three, rel=1e-6)  # sums of single-precision differences in another order
    assert one == pytest.approx(seven, rel=1e-6)


def test_flicker_starts_afresh_at_a_cut_and_when_told():
    dark, bright = torch.full((4, 1, 90, 120), 0.1), torch.full((4, 1, 90, 120), 0.9)
    meter = FlickerMeter()
    for nearness in (dark, bright):
        meter.feed(DepthClip(still_shot(nearness), nearness))
    assert meter.percent == 0
    going_on = Clip(still_shot(dark).frames, still_shot(dark).pictures, 4, 0, False, True)
    meter.restart()
    meter.feed(DepthClip(going_on, dark))
    assert meter.percent == 0
    meter.feed(DepthClip(going_on, bright))
    assert (meter.percent or 0) > 10


def test_what_moves_is_no_flicker():
    frames = torch.rand(3, 3, 90, 120, generator=torch.Generator().manual_seed(0))
    clip = Clip(frames, (0, 1, 2), 0, 0, True, True)
    assert flicker(torch.rand(3, 1, 90, 120), 3, clip) is None


def test_along_the_motion_a_moving_surface_is_steady():
    generator = torch.Generator().manual_seed(0)
    picture = torch.nn.functional.interpolate(
        torch.rand(1, 3, 12, 20, generator=generator), size=(96, 160), mode="bicubic"
    )
    frames = torch.cat([torch.roll(picture, 2 * t, -1) for t in range(3)]).clamp(0, 1)
    nearness = torch.cat([torch.roll(picture[:, :1], 2 * t, -1) for t in range(3)])
    change, trusted = aligned_second_difference(nearness, frames)
    assert trusted[..., 10:-10].mean() > 0.8
    along = (change * trusted)[..., 10:-10].mean()
    across = (nearness[:-2] - 2 * nearness[1:-1] + nearness[2:]).abs()[..., 10:-10].mean()
    assert along < across / 5
