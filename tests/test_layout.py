from __future__ import annotations

import av
import numpy as np
import pytest

from spatialme.video import anaglyph
from spatialme.video.layout import pack, place, plan_geometry
from spatialme.video.planes import make_frame, read_planes
from tests.media import numbered_frame

FORMATS = ("yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv411p", "gray", "gbrp", "rgb24", "rgb48le")


def halves(frame: av.VideoFrame, axis: int) -> list[list[np.ndarray]]:
    return [list(parts) for parts in zip(*(np.split(plane, 2, axis) for plane in read_planes(frame)))]


def assert_same(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("pixel_format", FORMATS)
@pytest.mark.parametrize(("packing", "axis", "swapped"), [("full_sbs", 1, 0), ("cross_eyed", 1, 1), ("full_tb", 0, 0)])
def test_full_packings_hold_both_eyes_bit_for_bit(pixel_format, packing, axis, swapped):
    left, right = (numbered_frame(n, width=64, height=48, pixel_format=pixel_format) for n in (3, 700))
    geometry = plan_geometry(packing, 64, 48, pixel_format, keeps_odd_sides=False)
    first, second = halves(pack(left, right, geometry), axis)
    if swapped:
        first, second = second, first
    assert_same(first, read_planes(left))
    assert_same(second, read_planes(right))
    assert geometry.note is None


@pytest.mark.parametrize(
    ("packing", "size"),
    [
        ("full_sbs", (128, 48)),
        ("half_sbs", (64, 48)),
        ("full_tb", (64, 96)),
        ("half_tb", (64, 48)),
        ("cross_eyed", (128, 48)),
        ("anaglyph", (64, 48)),
        ("two_files", (64, 48)),
    ],
)
def test_sizes_of_the_packings(packing, size):
    geometry = plan_geometry(packing, 64, 48, "yuv420p", keeps_odd_sides=False)
    assert (geometry.width, geometry.height) == size


@pytest.mark.parametrize(
    ("packing", "pixel_format", "keeps_odd", "eye"),
    [
        ("full_sbs", "yuv420p", False, (66, 50)),
        ("full_sbs", "yuv420p", True, (66, 49)),  # FFV1 holds the odd height, but eyes share no chroma column
        ("full_tb", "yuv420p", True, (65, 50)),
        ("full_sbs", "yuv422p", False, (66, 49)),
        ("full_sbs", "yuv444p", False, (65, 49)),
        ("full_sbs", "rgb24", False, (65, 49)),
        ("half_sbs", "yuv420p", False, (68, 50)),  # half an eye still has whole chroma columns
        ("half_sbs", "yuv444p", False, (66, 49)),
        ("half_tb", "yuv420p", False, (66, 52)),
        ("two_files", "yuv420p", True, (65, 49)),
    ],
)
def test_odd_sides_grow_only_where_chroma_asks(packing, pixel_format, keeps_odd, eye):
    geometry = plan_geometry(packing, 65, 49, pixel_format, keeps_odd_sides=keeps_odd)
    assert (geometry.padded_width, geometry.padded_height) == eye
    assert (geometry.note is None) == (eye == (65, 49))


def test_odd_eye_gains_one_repeated_column_and_row():
    eye = numbered_frame(5, width=65, height=49)
    geometry = plan_geometry("full_sbs", 65, 49, "yuv420p", keeps_odd_sides=False)
    packed = pack(eye, eye, geometry)
    luma, source = read_planes(packed)[0], read_planes(eye)[0]
    for half in np.split(luma, 2, axis=1):
        np.testing.assert_array_equal(half, np.pad(source, ((0, 1), (0, 1)), mode="edge"))
    assert geometry.note == "each eye gained 1 repeated column and 1 repeated row: 65x49 does not fit"


@pytest.mark.parametrize("packing", ["half_sbs", "half_tb"])
def test_squeezing_keeps_slow_waves_and_stops_what_would_alias(packing):
    horizontal = packing == "half_sbs"
    position = np.arange(256) + 0.5
    squeezed_position = 2 * (np.arange(128) + 0.5)

    def squeezed(wave: np.ndarray) -> np.ndarray:
        luma = np.rint(wave).astype(np.uint8)
        luma = np.tile(luma, (256, 1)) if horizontal else np.tile(luma[:, None], (1, 256))
        neutral = np.full((128, 128), 128, np.uint8)
        eye = make_frame([luma, neutral, neutral], "yuv420p")
        geometry = plan_geometry(packing, 256, 256, "yuv420p", keeps_odd_sides=False)
        planes = read_planes(pack(eye, eye, geometry))
        assert (planes[1] == 128).all()
        return planes[0][60, :128].astype(float) if horizontal else planes[0][:128, 60].astype(float)

    inner = slice(8, -8)  # the filter reaches over the eye's edge there
    slow = squeezed(120 + 80 * np.sin(2 * np.pi * position / 32))
    # within rounding of source and result: the wave is neither shifted nor damped
    assert np.abs(slow - (120 + 80 * np.sin(2 * np.pi * squeezed_position / 32)))[inner].max() < 2
    stripes = squeezed(np.where(np.arange(256) % 3 == 0, 220.0, 20.0))
    assert np.ptp(stripes[inner]) < 60  # of 200; dropping every second column leaves 200


def test_squeezed_eyes_do_not_bleed_into_each_other():
    def flat(value: int) -> av.VideoFrame:
        planes = [np.full(shape, value, np.uint8) for shape in ((48, 64), (24, 32), (24, 32))]
        return make_frame(planes, "yuv420p")

    geometry = plan_geometry("half_sbs", 64, 48, "yuv420p", keeps_odd_sides=False)
    luma = read_planes(pack(flat(30), flat(200), geometry))[0]
    assert (luma[:, :32] == 30).all()
    assert (luma[:, 32:] == 200).all()


def test_one_eye_alone_is_placed_unchanged():
    eye = numbered_frame(9)
    geometry = plan_geometry("two_files", 64, 48, "yuv420p", keeps_odd_sides=False)
    assert_same(read_planes(place(eye, geometry)), read_planes(eye))


def srgb_to_light(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def light_to_srgb(light: float) -> float:
    return 12.92 * light if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_dubois_equals_a_pixel_by_pixel_computation_on_light(dtype):
    whole = np.iinfo(dtype).max
    left, right = (np.random.default_rng(seed).integers(0, whole + 1, (6, 5, 3)).astype(dtype) for seed in (0, 1))
    mixed = anaglyph.mix(left, right, "dubois")
    rows = [
        [0.437, 0.449, 0.164, -0.011, -0.032, -0.007],
        [-0.062, -0.062, -0.024, 0.377, 0.761, 0.009],
        [-0.048, -0.050, -0.017, -0.026, -0.093, 1.234],
    ]
    for y, x in np.ndindex(6, 5):
        light = [srgb_to_light(value / whole) for value in (*left[y, x], *right[y, x])]
        for channel, row in enumerate(rows):
            clipped = min(max(sum(a * b for a, b in zip(row, light)), 0.0), 1.0)
            # float32 against float64: one step of 8 bits, a few of 16
            assert abs(int(mixed[y, x, channel]) - light_to_srgb(clipped) * whole) < (1 if dtype == np.uint8 else 8)
    assert mixed.dtype == dtype


def test_red_shows_the_left_eye_and_cyan_the_right_one():
    left = np.zeros((2, 2, 3), np.uint8)
    right = np.zeros((2, 2, 3), np.uint8)
    left[...] = (200, 100, 50)
    assert anaglyph.mix(left, right, "colour")[0, 0].tolist() == [200, 0, 0]
    assert anaglyph.mix(right, left, "colour")[0, 0].tolist() == [0, 100, 50]
    luma = round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)
    assert anaglyph.mix(left, right, "half_colour")[0, 0].tolist() == [luma, 0, 0]
    assert anaglyph.mix(right, left, "grey")[0, 0].tolist() == [0, luma, luma]
    for kind in anaglyph.ANAGLYPHS:
        red, green, blue = anaglyph.mix(left, right, kind)[0, 0].astype(int)
        assert red > 5 * max(green, blue, 1)


@pytest.mark.parametrize("kind", anaglyph.ANAGLYPHS)
def test_equal_grey_eyes_stay_nearly_grey(kind):
    grey = np.full((4, 4, 3), 128, np.uint8)
    mixed = anaglyph.mix(grey, grey, kind).astype(int)
    assert np.abs(mixed - 128).max() <= (5 if kind == "dubois" else 0)  # the rows of Dubois' matrices sum to 1 +- 0.03
