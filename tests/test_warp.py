"""The forward warp: both back ends against an exact reference, scenes with known answers, and the stage."""

from __future__ import annotations

import math

import numba
import numpy as np
import pytest
import torch

from spatialme.types import cut, join
from spatialme.warp import AutoConvergence, DisparityParams, Warper, forward_warp, to_disparity
from spatialme.warp.sampling import LOBES, PHASES, SHARPENING
from spatialme.warp.scanline import forward_warp_numba
from spatialme.warp.splat import forward_warp_torch
from spatialme.warp.surface import CHIP_PX, TEAR_PX
from tests.scenes import Layer, LayeredScene, Texture, depth_clip, square_scene, true_warped_clip, warped_clip

BACK_ENDS = {"numba": forward_warp_numba, "torch": forward_warp_torch}
every_back_end = pytest.mark.parametrize("warp", BACK_ENDS.values(), ids=BACK_ENDS.keys())


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def row_maps() -> dict[str, torch.Tensor]:
    """Disparity maps that between them stretch, squeeze, fold, tear, tie and leave the frame: (1, 1, 12, 40) each."""
    random = torch.Generator().manual_seed(5)
    shape = (1, 1, 12, 40)
    wander = torch.randn(shape, generator=random).cumsum(-1)
    return {
        "rough": 4 * torch.randn(shape, generator=random),
        "gentle": 0.4 * torch.randn(shape, generator=random),
        "wandering": wander,
        "eighths": (wander * 8).round() / 8,  # centres meet the ends of pieces exactly, and surfaces tie
        "halves": torch.randint(-6, 6, shape, generator=random) / 2,
        "far": 60 * torch.randn(shape, generator=random),
    }


def pieces_of(shift: list[float]) -> list[tuple[float, float, float, float, int]]:
    """The surface of one row, literally: (x from, x to, disparity there, disparity there, source column)."""
    width, pieces = len(shift), []

    def torn(i: int) -> bool:
        return i < 0 or i + 1 >= width or abs(shift[i + 1] - shift[i]) > TEAR_PX

    def is_chip(i: int) -> bool:
        low = high = i
        while not torn(low - 1):
            low -= 1
        while not torn(high):
            high += 1
        inside = low > 0 and high + 1 < width and high - low < CHIP_PX
        return inside and shift[low - 1] > shift[low] and shift[high] > shift[high + 1]

    for i, d in enumerate(shift):
        if is_chip(i):
            continue
        if torn(i - 1):
            pieces.append((i - d, i + 0.5 - d, d, d, i))
        if torn(i):
            pieces.append((i + 0.5 - d, i + 1 - d, d, d, i))
        else:
            pieces.append((i + 0.5 - d, i + 1.5 - shift[i + 1], d, shift[i + 1], i))
    return pieces


def kernel(distance: float, phase: float) -> float:
    """Lanczos, convolved with a sharpener that is strongest half-way between two pixels."""

    def lanczos(x: float) -> float:
        return float(np.sinc(x) * np.sinc(x / LOBES)) if abs(x) < LOBES else 0.0

    amount = SHARPENING * 4 * phase * (1 - phase)
    return (1 + 2 * amount) * lanczos(distance) - amount * (lanczos(distance - 1) + lanczos(distance + 1))


def sampled(row: np.ndarray, shift: list[float], position: float, column: int) -> np.ndarray:
    """The row (W, 3) at a position, without looking beyond a tear on either side of `column`."""
    low = high = column
    while low > 0 and abs(shift[low] - shift[low - 1]) <= TEAR_PX:
        low -= 1
    while high + 1 < len(shift) and abs(shift[high + 1] - shift[high]) <= TEAR_PX:
        high += 1
    left = math.floor(position - 0.5)
    phase = position - 0.5 - left
    weights = [kernel(phase - tap, phase) for tap in range(-2, 4)]
    pixels = [row[min(max(left + tap, low), high)] for tap in range(-2, 4)]
    return np.clip(sum(w * p for w, p in zip(weights, pixels)) / sum(weights), 0, 1)


def reference_warp(frames: torch.Tensor, disparity: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The contract in float64, one pixel after the other."""
    source, shifts = frames.double().numpy(), disparity.double().numpy()
    view, seen = np.zeros_like(source), np.zeros_like(shifts)
    hole = np.ones(shifts.shape, dtype=bool)
    for t, y, x in np.ndindex(shifts.shape[0], *shifts.shape[2:]):
        shift = shifts[t, 0, y].tolist()
        nearest = -math.inf
        for start, stop, d_start, d_stop, column in pieces_of(shift):
            if not start <= x + 0.5 < stop:
                continue
            along = (x + 0.5 - start) / (stop - start)
            d = d_start + along * (d_stop - d_start)
            if d > nearest:
                nearest, seen[t, 0, y, x], hole[t, 0, y, x] = d, d, False
                view[t, :, y, x] = sampled(source[t, :, y].T, shift, x + 0.5 + d, column)
    return view, seen, hole


@every_back_end
@pytest.mark.parametrize("name", row_maps())
def test_warp_equals_exact_reference(warp, name):
    disparity = row_maps()[name]
    frames = noise(1, 3, 12, 40)
    view, seen, hole = reference_warp(frames, disparity)
    warped = warp(frames, disparity)
    np.testing.assert_array_equal(warped.hole, hole)
    # float32: a quotient of numbers below 200, times a slope of at most TEAR_PX
    np.testing.assert_allclose(warped.disparity, seen, atol=1e-4)
    # the position is rounded by at most 0.5 / PHASES px, and white noise through this kernel rises by at most
    # about 3 per px (the sum of its slopes' sizes)
    np.testing.assert_allclose(warped.view, view, atol=3 * 0.5 / PHASES)


@pytest.mark.parametrize("name", row_maps())
def test_back_ends_agree_to_the_bit(name):
    disparity = row_maps()[name].repeat(2, 1, 4, 3)
    frames = noise(2, 3, *disparity.shape[2:])
    for left, right in zip(forward_warp_numba(frames, disparity), forward_warp_torch(frames, disparity)):
        assert torch.equal(left, right)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", row_maps())
def test_gpu_agrees_with_cpu_to_the_bit(name):
    disparity = row_maps()[name].repeat(2, 1, 4, 3)
    frames = noise(2, 3, *disparity.shape[2:])
    for left, right in zip(forward_warp(frames, disparity), forward_warp(frames.cuda(), disparity.cuda())):
        assert torch.equal(left, right.cpu())


@every_back_end
@pytest.mark.parametrize("shift", [0, 3, -2])
def test_integer_disparity_copies_pixels_and_opens_holes_at_the_frame_edge(warp, shift):
    frames = noise(2, 3, 8, 24)
    warped = warp(frames, torch.full((2, 1, 8, 24), float(shift)))
    kept = slice(max(0, -shift), 24 - max(0, shift))
    source = slice(max(0, shift), 24 - max(0, -shift))
    assert torch.equal(warped.view[..., kept], frames[..., source])
    assert not warped.hole[..., kept].any()
    assert int(warped.hole.sum()) == 2 * 8 * abs(shift)
    assert not warped.view[warped.hole.expand_as(warped.view)].any()
    assert not warped.disparity[warped.hole].any()


@every_back_end
def test_near_square_covers_far_plane(warp):
    scene = square_scene(frames=2, square_velocity=(3.0, 1.0))
    warped = warp(scene.left, scene.disparity)
    assert torch.equal(warped.hole, scene.hole)  # integer disparities and borders: exactly the same pixels
    assert torch.equal(warped.view, scene.right * ~scene.hole)
    assert torch.equal(warped.disparity, scene.disparity_right * ~scene.hole)


@every_back_end
def test_sub_pixel_disparity_gives_the_true_right_view(warp):
    scene = square_scene(background_nearness=0.37, square_nearness=0.91)  # -1.04 and 3.28 px
    warped = warp(scene.left, scene.disparity)
    assert torch.equal(warped.hole, scene.hole)
    known = ~scene.hole.expand_as(scene.right)
    error = (warped.view - scene.right)[known].abs()
    assert error.max() < 0.01  # beside a tear, where the row is continued by repetition
    assert error.median() < 0.001  # elsewhere only the kernel's own error at wavelengths of 7 px and more


@every_back_end
@pytest.mark.parametrize("slope", [-0.95, -0.5, -0.01, 0.01, 0.5, 0.95])
def test_slanted_plane_has_no_cracks(warp, slope):
    column = torch.arange(96.0)
    disparity = (slope * (column - 48)).expand(1, 1, 2, 96).contiguous()
    hole = warp(noise(1, 3, 2, 96), disparity).hole[0, 0]
    inside = slice(*(math.ceil(x) for x in sorted((0 - slope * -48, 96 - slope * 48))))
    assert not hole[:, max(1, inside.start + 1) : min(95, inside.stop - 1)].any()


@every_back_end
def test_steepest_untorn_stretch_has_no_cracks(warp):
    disparity = (-TEAR_PX * torch.arange(16.0)).expand(1, 1, 1, 16).contiguous()
    hole = warp(noise(1, 3, 1, 16), disparity).hole
    assert not hole.any()  # pixel 15 lands at 15 + 22.5: every output pixel is on the stretched surface


@every_back_end
@pytest.mark.parametrize(("width", "lands"), [(1, False), (CHIP_PX, False), (CHIP_PX + 1, True)])
def test_ramp_of_a_blurred_border_leaves_no_chips_in_the_hole(warp, width, lands):
    disparity = torch.full((1, 1, 1, 48), -6.0)
    disparity[..., :24] = 6.0
    disparity[..., 24 : 24 + width] = 0.0  # half-way down
    hole = warp(noise(1, 3, 1, 48), disparity).hole
    assert bool(hole[..., 24 : 24 + width].all()) == (not lands)
    # a thin thing of its own, nearer than both its sides, is no ramp
    disparity[..., 24 : 24 + width] = 12.0
    assert int((warp(noise(1, 3, 1, 48), disparity).disparity == 12).sum()) == width


@every_back_end
def test_colours_never_mix_across_a_tear(warp):
    frames = torch.zeros(1, 3, 4, 48)
    frames[..., 16:32] = 1.0
    disparity = torch.where(frames[:, :1] > 0, 5.3, -3.4)
    warped = warp(frames, disparity)
    near = warped.disparity > 0
    # the kernel's weights sum to 1 in float32, nothing more
    torch.testing.assert_close(warped.view[:, :1], near.float(), atol=1e-6, rtol=0)
    assert int(near.sum()) == 4 * 16


@every_back_end
def test_warp_keeps_the_detail_of_a_picture(warp):
    """A picture with a photograph's spectrum (1 / frequency, through a lens), under disparities of every fraction."""
    height, width = 64, 256
    random = torch.Generator().manual_seed(3)
    fy, fx = torch.meshgrid(torch.fft.fftfreq(height), torch.fft.rfftfreq(width), indexing="ij")
    frequency = (fx**2 + fy**2).sqrt()
    lens = torch.exp(-2 * (math.pi * 0.5 * frequency) ** 2)  # a blur of 0.5 px, about what a sharp camera leaves
    spectrum = torch.fft.rfft2(torch.randn(3, height, width, generator=random)) * lens / frequency.clamp(min=0.02)
    picture = torch.fft.irfft2(spectrum)
    frames = ((picture - picture.mean()) / picture.std() * 0.12 + 0.5).clamp(0, 1)[None]
    disparity = torch.linspace(-3, 3, height)[:, None] + torch.linspace(-0.5, 0.5, width)
    warped = warp(frames, disparity[None, None])

    def detail(image: torch.Tensor) -> float:
        inner = image[..., 1:-1, 1:-1]
        sides = image[..., 2:, 1:-1] + image[..., :-2, 1:-1] + image[..., 1:-1, 2:] + image[..., 1:-1, :-2]
        return float((sides - 4 * inner)[..., 8:-8].var())

    kept = detail(warped.view) / detail(frames)
    assert 0.97 < kept < 1.03, kept
    level = warped.view[..., 8:-8].mean() - frames[..., 8:-8].mean()
    assert abs(float(level)) * 255 < 0.3


@every_back_end
def test_result_does_not_depend_on_the_batch(warp):
    disparity = row_maps()["wandering"].repeat(3, 1, 1, 1) * torch.tensor([1.0, -0.5, 2.0])[:, None, None, None]
    frames = noise(3, 3, 12, 40)
    together = warp(frames, disparity)
    for t in range(3):
        for whole, alone in zip(together, warp(frames[t : t + 1], disparity[t : t + 1])):
            assert torch.equal(whole[t : t + 1], alone)


def test_result_does_not_depend_on_the_thread_count():
    disparity, frames = row_maps()["rough"], noise(1, 3, 12, 40)
    threads = numba.get_num_threads()
    together = forward_warp_numba(frames, disparity)
    try:
        numba.set_num_threads(1)
        alone = forward_warp_numba(frames, disparity)
    finally:
        numba.set_num_threads(threads)
    assert all(torch.equal(left, right) for left, right in zip(together, alone))


@every_back_end
def test_half_precision_frames_stay_half_precision(warp):
    frames = noise(1, 3, 4, 16).half()
    warped = warp(frames, torch.full((1, 1, 4, 16), 2.0, dtype=torch.float16))
    assert warped.view.dtype == torch.float16
    assert warped.disparity.dtype == torch.float32
    assert torch.equal(warped.view[..., :-2], frames[..., 2:])


@every_back_end
def test_disparity_far_beyond_the_frame_lands_nowhere(warp):
    frames = noise(1, 3, 2, 16)
    disparity = torch.zeros(1, 1, 2, 16)
    disparity[..., 4:8] = torch.tensor([3e38, -3e38, 1e9, -1e9])
    warped = warp(frames, disparity)
    assert torch.equal(warped.hole[0, 0, 0].nonzero().flatten(), torch.arange(4, 8))
    torch.testing.assert_close(warped.view[..., 8:], frames[..., 8:], atol=0, rtol=0)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("soft", [False, True])
def test_disparity_that_is_not_finite_is_refused(value, soft):
    disparity = torch.zeros(1, 1, 4, 16)
    disparity[0, 0, 2, 3] = value
    with pytest.raises(ValueError, match="NaN or infinite"):
        forward_warp(noise(1, 3, 4, 16), disparity, soft=soft)


def test_torch_back_end_drops_what_is_not_finite_instead_of_waiting_for_the_device():
    disparity = torch.zeros(1, 1, 1, 16)
    disparity[..., 5] = math.nan
    warped = forward_warp_torch(noise(1, 3, 1, 16), disparity)
    assert warped.hole.flatten().nonzero().flatten().tolist() == [5]


@pytest.mark.parametrize("warp", [*BACK_ENDS.values(), lambda f, d: forward_warp(f, d, soft=True)])
def test_shapes_that_do_not_fit_are_refused(warp):
    with pytest.raises(ValueError, match=r"frames must be \(T, 3, H, W\)"):
        warp(noise(1, 1, 4, 16), torch.zeros(1, 1, 4, 16))
    with pytest.raises(ValueError, match=r"disparity must be \(2, 1, 4, 16\)"):
        warp(noise(2, 3, 4, 16), torch.zeros(1, 1, 4, 16))


def test_soft_warp_lets_a_third_through_at_a_step_of_two_pixels():
    frames = torch.zeros(1, 3, 1, 16)
    frames[..., 6] = 1.0
    disparity = torch.zeros(1, 1, 1, 16)
    disparity[..., 6] = 2.0  # lands on column 4, with twice the weight of what is there
    warped = forward_warp(frames, disparity, soft=True)
    torch.testing.assert_close(warped.view[0, 0, 0, 4], torch.tensor(2 / 3))
    torch.testing.assert_close(warped.disparity[0, 0, 0, 4], torch.tensor(4 / 3))
    assert warped.hole.flatten().nonzero().flatten().tolist() == [6]


def test_soft_warp_of_a_constant_fraction_is_linear_interpolation():
    frames = noise(1, 3, 4, 16)
    warped = forward_warp(frames, torch.full((1, 1, 4, 16), 0.25), soft=True)
    blend = 0.75 * frames[..., 1:-1] + 0.25 * frames[..., 2:]
    torch.testing.assert_close(warped.view[..., 1:-1], blend, atol=1e-6, rtol=0)  # float32 rounding
    torch.testing.assert_close(warped.disparity[..., 1:-1], torch.full((1, 1, 4, 14), 0.25))


def test_soft_warp_survives_the_largest_disparities_and_any_batch():
    frames = noise(2, 3, 4, 64)
    disparity = 100 * torch.randn((2, 1, 4, 64), generator=torch.Generator().manual_seed(1))
    together = forward_warp(frames, disparity, soft=True)
    assert together.view.isfinite().all()
    alone = forward_warp(frames[1:], disparity[1:], soft=True)
    assert all(torch.equal(whole[1:], part) for whole, part in zip(together, alone))


def test_stage_warps_by_the_disparity_of_its_parameters():
    scene = square_scene(frames=4, square_velocity=(2.0, 0.0))
    params = DisparityParams(scene.max_disparity_percent, scene.convergence)
    whole = depth_clip(scene)
    warped = join(list(Warper(params).stream([cut(whole, 0, 1), cut(whole, 1, 4)])))
    torch.testing.assert_close(warped.source_disparity, scene.disparity)
    assert torch.equal(warped.hole, scene.hole)
    assert torch.equal(warped.view, true_warped_clip(scene).view)
    assert torch.equal(warped_clip(scene).view, warped.view)
    (half,) = Warper(params).stream([whole], share=0.5)
    torch.testing.assert_close(half.source_disparity, scene.disparity / 2)


def test_stage_with_automatic_convergence_declares_its_window_and_uses_it():
    scene = square_scene(frames=4, square_size=60)
    params = DisparityParams(scene.max_disparity_percent)
    warper = Warper(params, auto_convergence=AutoConvergence(lookback=2, lookahead=1))
    assert (warper.lookback, warper.lookahead) == (2, 1)
    assert (Warper(params).lookback, Warper(params).lookahead) == (0, 0)
    (warped,) = warper.stream([depth_clip(scene)])
    # the square fills the middle, so the plane goes as near as it may: 0.8
    torch.testing.assert_close(warped.source_disparity, to_disparity(scene.nearness, DisparityParams(6.25, 0.8)))


def test_scene_with_a_slanted_wall_agrees_with_the_warp():
    wall = Layer(0.5, Texture(seed=4), slant=(0.5, 0.2))
    ball = Layer(0.9, Texture(seed=5), shape="disc", centre=(50, 30), size=30)
    scene = LayeredScene(96, 60, 1, (wall, ball), max_disparity_percent=8.0)
    warped = warped_clip(scene)
    differs = warped.hole != scene.hole
    assert differs.float().mean() < 0.001  # a tear lies at a pixel's border up to the surface's own slope
    both = ~warped.hole & ~scene.hole
    # at a tear and at the frame's edge the surface ends flat, half a pixel beyond its last centre: slope 0.04 / 2
    torch.testing.assert_close(warped.disparity[both], scene.disparity_right[both], atol=0.021, rtol=0)
    assert (warped.view - scene.right).abs().amax(1, keepdim=True)[both].quantile(0.99) < 0.005
