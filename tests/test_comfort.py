"""Stereo comfort measures, on pairs whose disparity, alignment and exposure are known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from spatialme.evaluation import comfort, measure_comfort

WIDTH, HEIGHT = 320, 240
OVERSAMPLING = 4


@pytest.fixture(scope="module")
def canvas() -> np.ndarray:
    """Noise at several sizes, four times as fine as the pictures cut from it, and larger all around: float32 RGB."""
    random = np.random.default_rng(0)
    size = ((HEIGHT + 80) * OVERSAMPLING, (WIDTH + 80) * OVERSAMPLING)
    total = np.zeros((*size, 3), dtype=np.float32)
    for cell in (8, 24, 64):
        coarse = random.random((size[0] // cell, size[1] // cell, 3), dtype=np.float32)
        total += cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC) / 3
    return total.clip(0.05, 0.95)


def picture(canvas: np.ndarray, *, right: float = 0.0, down: float = 0.0, turn_degrees: float = 0.0) -> torch.Tensor:
    """What lies under the window, (1, 3, H, W), its content moved by px; quarters are exact."""
    centre = ((canvas.shape[1] - 1) / 2, (canvas.shape[0] - 1) / 2)
    turned = cv2.warpAffine(canvas, cv2.getRotationMatrix2D(centre, turn_degrees, 1), canvas.shape[1::-1])
    top, start = round((40 - down) * OVERSAMPLING), round((40 - right) * OVERSAMPLING)
    window = turned[top : top + HEIGHT * OVERSAMPLING, start : start + WIDTH * OVERSAMPLING]
    small = window.reshape(HEIGHT, OVERSAMPLING, WIDTH, OVERSAMPLING, 3).mean((1, 3))
    return torch.from_numpy(small).permute(2, 0, 1)[None]


def of_width(px: float) -> float:
    return 100 * px / WIDTH


def flat(value: float = 0.5) -> torch.Tensor:
    return torch.full((1, 3, HEIGHT, WIDTH), value)


# ---- disparity ----------------------------------------------------------------------------------------------------


def test_percentiles_of_a_ramp():
    ramp = torch.linspace(-10, 10, HEIGHT).view(1, 1, HEIGHT, 1).expand(1, 1, HEIGHT, WIDTH).clone()
    found = measure_comfort(flat(), flat(), disparity=ramp)
    percentiles = [
        found.disparity_p1,
        found.disparity_p5,
        found.disparity_p50,
        found.disparity_p95,
        found.disparity_p99,
    ]
    wanted = [of_width(px) for px in (-9.8, -9.0, 0.0, 9.0, 9.8)]
    assert percentiles == pytest.approx(wanted, abs=of_width(20 / HEIGHT))  # one row's step


def test_percentiles_of_a_long_clip_are_taken_on_a_grid(monkeypatch):
    ramp = torch.linspace(-10, 10, WIDTH).expand(3, 1, HEIGHT, WIDTH).clone()
    monkeypatch.setattr(comfort, "MOST_PERCENTILE_VALUES", 10_000)
    found = measure_comfort(*[flat().expand(3, -1, -1, -1)] * 2, disparity=ramp)
    assert found.disparity_p95 == pytest.approx(of_width(9), abs=of_width(5 * 20 / WIDTH))  # a grid of 5 px


def test_unknown_disparity_does_not_count():
    disparity = torch.full((1, 1, HEIGHT, WIDTH), torch.nan)
    empty = measure_comfort(flat(), flat(), disparity=disparity)
    assert (empty.disparity_p50, empty.window_violation) == (None, None)
    disparity[..., :5, :] = 4.0
    found = measure_comfort(flat(), flat(), disparity=disparity)
    assert found.disparity_p1 == found.disparity_p99 == pytest.approx(of_width(4))
    assert found.window_violation == 1
    absent = measure_comfort(flat(), flat())
    assert (absent.disparity_p50, absent.window_violation) == (None, None)


def test_window_violations_are_a_share_of_the_side_borders():
    disparity = torch.full((1, 1, HEIGHT, WIDTH), -3.0)
    disparity[..., : HEIGHT // 2, 2:-20] = 5.0  # the upper half stands out, and touches the left border's strip only
    # a strip of 1 % is 3 px; the left one has 1 of its columns in front, over half its height: 1/2 * 1/3 * 1/2
    assert measure_comfort(flat(), flat(), disparity=disparity).window_violation == pytest.approx(1 / 12)
    in_the_middle = torch.full_like(disparity, -3.0)
    in_the_middle[..., 100:200] = 5.0
    assert measure_comfort(flat(), flat(), disparity=in_the_middle).window_violation == 0
    on_the_screen = torch.full_like(disparity, 0.0009 * WIDTH)
    assert measure_comfort(flat(), flat(), disparity=on_the_screen).window_violation == 0


# ---- alignment ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("down", [-6.0, 0.0, 0.5, 2.25])
def test_vertical_offset_is_found_below_a_pixel(canvas, down):
    found = measure_comfort(picture(canvas), picture(canvas, right=-8, down=down))
    assert found.vertical_offset == pytest.approx(of_width(down), abs=of_width(0.1))  # SIFT's positions: 0.1 px
    assert found.vertical_disparity_p95 == pytest.approx(of_width(abs(down)), abs=of_width(0.5))


def test_rotation_shows_in_the_spread_alone(canvas):
    found = measure_comfort(picture(canvas), picture(canvas, turn_degrees=1.0))
    # the side borders move by tan(1 degree) * W / 2 = 2.8 px, up on one side and down on the other
    assert found.vertical_offset == pytest.approx(0, abs=of_width(0.4))
    assert of_width(2.0) < found.vertical_disparity_p95 < of_width(2.8)


def test_large_pictures_are_told_in_their_own_pixels(canvas, monkeypatch):
    monkeypatch.setattr("spatialme.evaluation.alignment.LONG_SIDE", WIDTH // 2)
    found = measure_comfort(picture(canvas), picture(canvas, down=4))
    assert found.vertical_offset == pytest.approx(of_width(4), abs=of_width(0.4))


def test_alignment_is_taken_over_frames_of_the_whole_clip(canvas, monkeypatch):
    monkeypatch.setattr(comfort, "MOST_ALIGNED_FRAMES", 3)  # of six: the first, the third and the last
    straight, low = picture(canvas), picture(canvas, down=4)
    left = straight.expand(6, -1, -1, -1)
    for right, wanted in (([0, 0, 1, 0, 0, 1], 4), ([0, 1, 0, 1, 1, 1], 0)):
        found = measure_comfort(left, torch.cat([(straight, low)[is_low] for is_low in right]))
        assert found.vertical_offset == pytest.approx(of_width(wanted), abs=of_width(0.1))


def test_pictures_without_common_features_have_no_alignment(canvas):
    assert measure_comfort(flat(), flat()).vertical_offset is None
    assert measure_comfort(picture(canvas), flat()).vertical_offset is None
    upside_down = picture(canvas).flip(2)  # what matches by chance lies far away
    assert measure_comfort(picture(canvas), upside_down).vertical_disparity_p95 is None


# ---- exposure -----------------------------------------------------------------------------------------------------


def test_exposure_is_told_apart_from_colour(canvas):
    left = picture(canvas) * 0.8
    brighter = measure_comfort(left, left + 4 / 255)
    assert brighter.exposure_difference == pytest.approx(4, abs=1e-3)
    assert brighter.colour_difference == pytest.approx(0, abs=1e-3)
    tinted = left.clone()
    tinted[:, 0] -= 10 / 255
    found = measure_comfort(left, tinted)
    assert found.exposure_difference == pytest.approx(-2.99, abs=1e-3)  # red's share of the luma
    assert found.colour_difference == pytest.approx(10 - 2.99, abs=1e-3)


def test_ill_fitting_tensors_are_refused():
    with pytest.raises(ValueError, match=r"left and right must both be \(T, 3, H, W\)"):
        measure_comfort(flat(), flat()[..., 1:])
    with pytest.raises(ValueError, match=r"left and right must both be \(T, 3, H, W\)"):
        measure_comfort(flat()[:0], flat()[:0])
    with pytest.raises(ValueError, match=r"disparity must be \(1, 1, 240, 320\), got \(1, 240, 320\)"):
        measure_comfort(flat(), flat(), disparity=torch.zeros(1, HEIGHT, WIDTH))
