"""Colour conversion against exact arithmetic: no shift of level or hue either way."""

from __future__ import annotations

import av
import numpy as np
import pytest

from spatialme.video import convert_pixels
from spatialme.video.formats import bit_depth, chroma_shift, delivered_format, has_alpha
from spatialme.video.planes import make_frame, plane_layouts, read_planes

SHARES = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 9: (0.2627, 0.0593)}  # BT.709, BT.601, BT.2020
FORMATS = ("yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p12le")
PATCH = 8  # pixels; chroma filters reach 2


def patches(count: int = 40) -> np.ndarray:
    """(H, W, 3) in 0..1: a gray ramp, then patches of random colour."""
    colours = np.random.default_rng(3).random((count, count, 3))
    colours[:2] = np.linspace(0, 1, 2 * count).reshape(2, count, 1)
    return np.kron(colours, np.ones((PATCH, PATCH, 1)))


def inside_patches(rgb: np.ndarray) -> np.ndarray:
    """Mask of the pixels that no chroma filter mixes with a neighbouring patch."""
    inner = np.zeros((PATCH, PATCH), bool)
    inner[2:-2, 2:-2] = True
    return np.tile(inner, (rgb.shape[0] // PATCH, rgb.shape[1] // PATCH))


def exact_planes(rgb: np.ndarray, matrix: int, full: bool, bits: int) -> list[np.ndarray]:
    """ITU-T H.273 equations in float64, unrounded, chroma at full resolution."""
    red_share, blue_share = SHARES[matrix]
    luma = rgb @ np.array([red_share, 1 - red_share - blue_share, blue_share])
    blue_difference = (rgb[..., 2] - luma) / (2 * (1 - blue_share))
    red_difference = (rgb[..., 0] - luma) / (2 * (1 - red_share))
    unit, top = 2.0 ** (bits - 8), 2.0**bits - 1
    if full:
        return [luma * top, blue_difference * top + 128 * unit, red_difference * top + 128 * unit]
    return [(luma * 219 + 16) * unit, (blue_difference * 224 + 128) * unit, (red_difference * 224 + 128) * unit]


def tagged(height: int, width: int, pixel_format: str, matrix: int, full: bool) -> av.VideoFrame:
    frame = av.VideoFrame(width, height, pixel_format)
    frame.colorspace, frame.color_range = matrix, 2 if full else 1
    return frame


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", SHARES)
@pytest.mark.parametrize("pixel_format", FORMATS)
def test_patches_survive_the_round_trip(pixel_format: str, matrix: int, full: bool) -> None:
    deep = bit_depth(pixel_format) > 8
    original = np.rint(patches() * (65535 if deep else 255)).astype(np.uint16 if deep else np.uint8)
    like = tagged(*original.shape[:2], pixel_format, matrix, full)
    back = convert_pixels.rgb(convert_pixels.from_rgb(original, like))
    assert back.dtype == original.dtype
    difference = (back.astype(float) - original)[inside_patches(original)] / (257 if deep else 1)
    # one step of the coarser limited range is 1.1 to 1.2 levels per channel, and three channels round apart
    assert np.abs(difference).max() <= (0.8 if deep else 2)
    assert np.abs(difference.mean(axis=0)).max() < 0.1, "no channel's mean level shifts"


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", SHARES)
@pytest.mark.parametrize("pixel_format", FORMATS)
def test_planes_equal_exact_arithmetic(pixel_format: str, matrix: int, full: bool) -> None:
    original = np.rint(patches() * 65535).astype(np.uint16)
    frame = convert_pixels.from_rgb(original, tagged(*original.shape[:2], pixel_format, matrix, full))
    bits = av.VideoFormat(pixel_format).components[0].bits
    wanted = exact_planes(original / 65535, matrix, full, bits)
    step_x, step_y = (1 << shift for shift in chroma_shift(pixel_format))
    inside = inside_patches(original)
    for number, (plane, exact) in enumerate(zip(read_planes(frame), wanted)):
        columns, rows = (1, 1) if number == 0 else (step_x, step_y)
        part = inside[::rows, ::columns]
        error = (plane - np.clip(exact, 0, 2**bits - 1)[::rows, ::columns])[part]
        assert np.abs(error).max() <= 0.51, "rounded to nearest; 0.01 for float32"
        assert np.abs(error.mean()) / 2 ** (bits - 8) < 0.1


def test_samples_survive_the_round_trip_through_rgb() -> None:
    """A decoded 10 bit picture put back is the same picture: 16 bit RGB is finer than its steps (none is clipped)."""
    rng = np.random.default_rng(0)
    planes = [rng.integers(low, high, (48, 64), np.uint16) for low, high in ((350, 650), (460, 560), (460, 560))]
    frame = make_frame(planes, "yuv444p10le")
    frame.colorspace, frame.color_range = 1, 1
    again = convert_pixels.from_rgb(convert_pixels.rgb(frame), frame)
    for plane, original in zip(read_planes(again), planes):
        np.testing.assert_array_equal(plane, original)


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p", "yuv440p", "yuv411p", "yuv410p"])
def test_chroma_is_interpolated_where_it_lies(pixel_format: str) -> None:
    """A linear ramp of chroma stays on its line: level with every group's first column, between a group's rows."""
    width, height = 64, 48
    shift_x, shift_y = chroma_shift(pixel_format)
    layouts = plane_layouts(pixel_format, width, height)
    x = np.arange(layouts[1].width) * 2.0**shift_x
    y = np.arange(layouts[1].height) * 2.0**shift_y + (2**shift_y - 1) / 2
    u = np.rint(64 + x[None, :] + 0 * y[:, None]).astype(np.uint8)
    v = np.rint(64 + 0 * x[None, :] + y[:, None] * 2).astype(np.uint8)
    frame = make_frame([np.full((height, width), 128, np.uint8), u, v], pixel_format)
    frame.colorspace, frame.color_range = 1, 2
    result = convert_pixels.rgb(frame).astype(float)
    blue = 128 + 2 * (1 - 0.0722) * (64 + np.arange(width) - 128)
    red = 128 + 2 * (1 - 0.2126) * (64 + 2 * np.arange(height) - 128)
    inner_x, inner_y = slice(0, width - 4), slice(4, height - 4)  # the last group repeats its only sample
    # rounded chroma of half rows moves red by 0.8, the result's own rounding by 0.5
    np.testing.assert_allclose(result[8, inner_x, 2], np.clip(blue, 0, 255)[inner_x], atol=0.51)
    np.testing.assert_allclose(result[inner_y, 8, 0], np.clip(red, 0, 255)[inner_y], atol=1.4)


def test_down_and_up_keeps_a_smooth_colour_ramp() -> None:
    ramp = np.linspace(60, 190, 128)
    original = np.stack(np.broadcast_arrays(ramp[None, :], 128.0, ramp[::-1][:96, None]), axis=2)
    original = np.rint(original).astype(np.uint8)
    back = convert_pixels.rgb(convert_pixels.from_rgb(original, tagged(96, 128, "yuv420p", 1, False)))
    inner = (slice(4, -4), slice(4, -4))
    assert np.abs(back[inner].astype(int) - original[inner]).max() <= 3  # 8 bit limited range twice


def test_unspecified_matrix_is_guessed_by_size() -> None:
    planes = {side: [np.full((side, 64), 120, np.uint8), *[np.full((side, 64), 60, np.uint8)] * 2] for side in (32, 64)}
    frames = {side: make_frame(parts, "yuv444p") for side, parts in planes.items()}
    small = convert_pixels.rgb(frames[32])
    frames[32].colorspace = 6
    np.testing.assert_array_equal(small, convert_pixels.rgb(frames[32]))
    large = make_frame([np.full((720, 720), level, np.uint8) for level in (120, 60, 60)], "yuv444p")
    guessed = convert_pixels.rgb(large)
    assert (guessed[0, 0] != small[0, 0]).any()
    large.colorspace = 1
    np.testing.assert_array_equal(guessed, convert_pixels.rgb(large))


@pytest.mark.parametrize("pixel_format", ["rgb24", "gbrp", "gbrp10le", "rgb48le"])
def test_rgb_formats_keep_their_samples(pixel_format: str) -> None:
    bits = av.VideoFormat(pixel_format).components[0].bits
    original = np.rint(patches() * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)
    ordered = [original] if "rgb" in pixel_format else [original[..., channel] for channel in (1, 2, 0)]
    frame = make_frame(ordered, pixel_format)
    seen = convert_pixels.rgb(frame)
    top = 255 if bits == 8 else 65535
    np.testing.assert_array_equal(seen, np.rint(original * (top / (2**bits - 1))))
    for plane, wanted in zip(read_planes(convert_pixels.from_rgb(seen, frame)), ordered):
        np.testing.assert_array_equal(plane, wanted)


@pytest.mark.parametrize(
    ("pixel_format", "full"), [("gray", True), ("gray16le", True), ("gray10le", True), ("gray", False)]
)
def test_gray_ramp_survives(pixel_format: str, full: bool) -> None:
    bits = av.VideoFormat(pixel_format).components[0].bits
    low, high = (0, 2**bits - 1) if full else (16, 235)
    ramp = np.rint(np.linspace(low, high, 64)).astype(np.uint8 if bits == 8 else np.uint16)
    frame = make_frame([np.tile(ramp, (32, 1))], pixel_format)
    frame.color_range = 0 if full else 1  # unspecified gray is full
    seen = convert_pixels.rgb(frame)
    top = 255 if bits == 8 else 65535
    assert seen[0, 0].tolist() == [0] * 3
    assert seen[0, -1].tolist() == [top] * 3
    np.testing.assert_array_equal(read_planes(convert_pixels.from_rgb(seen, frame))[0], np.tile(ramp, (32, 1)))


@pytest.mark.parametrize("pixel_format", ["rgba", "bgr24", "yuva420p", "nv12", "yuyv422", "p010le", "ya8", "yuvj420p"])
def test_any_format_can_be_shown(pixel_format: str) -> None:
    plain = make_frame([np.full((32, 32, 3), (200, 100, 50), np.uint8)], "rgb24")
    frame = plain.reformat(format=pixel_format)
    seen = convert_pixels.rgb(frame)
    top = 255 if seen.dtype == np.uint8 else 65535
    wanted = np.array([200, 100, 50]) if pixel_format != "ya8" else np.full(3, 0.299 * 200 + 0.587 * 100 + 0.114 * 50)
    np.testing.assert_allclose(seen[16, 16] * (255 / top), wanted, atol=4)  # swscale's 8 bit YUV on the way in


@pytest.mark.parametrize("size", [(33, 17), (17, 33), (64, 48)])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p10le", "yuv444p"])
def test_odd_sizes_convert(pixel_format: str, size: tuple[int, int]) -> None:
    height, width = size
    gray = np.full((height, width, 3), 30000, np.uint16)
    back = convert_pixels.rgb(convert_pixels.from_rgb(gray, tagged(height, width, pixel_format, 1, False)))
    assert back.shape == gray.shape
    assert np.abs(back / (255 if back.dtype == np.uint8 else 65535) - 30000 / 65535).max() < 0.004


def test_formats_are_delivered_without_alpha_and_in_whole_planes() -> None:
    wanted = {
        "yuv420p": "yuv420p", "yuvj422p": "yuv422p", "nv12": "yuv420p", "p010le": "yuv420p10le", "uyvy422": "yuv422p",
        "rgba": "rgb24", "pal8": "rgb24", "rgb48be": "rgb48le", "gbrap12le": "gbrp12le", "ya8": "gray",
        "yuva444p12le": "yuv444p12le", "gray16be": "gray16le", "monow": "gray", "yuv440p10le": "yuv440p10le",
    }  # fmt: skip
    assert {name: delivered_format(name) for name in wanted} == wanted
    assert [has_alpha(name) for name in ("rgba", "ya8", "yuv420p", "gray")] == [True, True, False, False]
    assert [bit_depth(name) for name in ("yuv420p", "yuv420p9le", "yuv420p10le", "yuv444p12le", "gray14le")] == [
        8, 10, 10, 12, 16,
    ]  # fmt: skip


def test_packed_formats_have_no_plain_planes() -> None:
    with pytest.raises(ValueError, match="yuyv422 has no plain planes, expected yuv422p"):
        plane_layouts("yuyv422", 64, 48)
