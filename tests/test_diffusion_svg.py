"""SVG: the frame matrix, what is known in it, and a sampler that arrives where a perfect network leads."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

pytest.importorskip("diffusers", reason="the extra `diffusion` is not installed")

from spatialme.evaluation.baselines.diffusion.text import TextNetworks
from spatialme.evaluation.baselines.svg import DIRECTIONS, Svg, SvgSettings, known_latents
from spatialme.evaluation.run_method import warped_clips
from tests.diffusion_networks import text_networks
from tests.scenes import square_scene

TARGET = 0.25  # the clean latents that the perfect network knows


class PixelVae:
    """Latents are pictures in [-1, 1], an eighth in size."""

    dtype = torch.float32
    config = SimpleNamespace(scaling_factor=0.5)

    def encode(self, pictures: Tensor):
        small = F.avg_pool2d(pictures, 8)
        latents = torch.cat((small, small[:, :1]), 1)
        return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: latents))

    def decode(self, latents: Tensor, num_frames: int):
        return SimpleNamespace(sample=F.interpolate(latents[:, :3], scale_factor=8.0, mode="nearest"))


class PerfectUnet:
    """Predicts the noise that lies between its latents and `TARGET`."""

    dtype = torch.float32

    def __init__(self):
        self.alphas = None  # of the method's scheduler
        self.calls: list[tuple[int, int, float, float]] = []  # time, frames, spread of the latents, sum of the prompt

    def __call__(self, latents: Tensor, time: int, encoder_hidden_states: Tensor):
        self.calls.append((time, latents.shape[2], float(latents.std()), float(encoder_hidden_states.sum())))
        share = self.alphas[time]
        return SimpleNamespace(sample=(latents - share.sqrt() * TARGET) / (1 - share).sqrt())


class TwoPrompts(TextNetworks):
    def prompt(self, text: str) -> Tensor:
        return torch.tensor([[[1.0 if text else 2.0]]])


def perfect_method(settings: SvgSettings) -> tuple[Svg, PerfectUnet]:
    unet = PerfectUnet()
    method = Svg(TwoPrompts(unet, PixelVae(), None, None), settings)
    unet.alphas = method._scheduler.alphas_cumprod
    return method, unet


@pytest.fixture(scope="module")
def scene():
    return square_scene(frames=2, max_disparity_percent=25.0)  # 16 px to either side of the screen


def run(method: Svg, scene, settings: SvgSettings):
    draw = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        matrix = method.matrix(scene.left, scene.disparity, draw)
        method.denoise(matrix, draw)
    return matrix


@pytest.fixture(scope="module")
def finished(scene):
    settings = SvgSettings(views=3, steps=10, resamples=4)
    method, unet = perfect_method(settings)
    return run(method, scene, settings), unet


def test_the_matrix_holds_the_left_view_and_ends_with_the_warp(scene):
    method, _ = perfect_method(SvgSettings(views=3))
    matrix = method.matrix(scene.left, scene.disparity, torch.Generator().manual_seed(0))
    (warped,) = warped_clips(scene.left, scene.disparity)
    (halfway,) = warped_clips(scene.left, scene.disparity / 2)
    assert torch.equal(matrix.pixels[0], scene.left)
    assert bool(matrix.known_pixel[0].all())
    for view, clip in ((1, halfway), (2, warped)):
        assert torch.equal(matrix.pixels[view], clip.view)
        assert torch.equal(matrix.known_pixel[view], ~clip.hole)
    assert matrix.latents.shape == matrix.source.shape == (3, 4, 2, 8, 16)
    assert matrix.known.shape == (3, 1, 2, 8, 16)


def test_known_latents_are_where_enough_pixels_and_the_middle_are_known():
    random = np.random.default_rng(0)
    known = torch.from_numpy(random.random((2, 1, 64, 96)) < 0.93)
    known[0, 0, :20, :30] = False
    found = known_latents(known, 0.7)
    for frame, row, column in np.ndindex(2, 8, 12):
        cell = known[frame, 0, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
        wanted = float(cell.float().mean()) >= 0.7 and bool(cell[3:5, 3:5].all())
        assert bool(found[frame, 0, row, column] > 0) == wanted


def test_the_mask_of_the_known_falls_off_towards_the_unknown_as_opencv_blurs():
    import cv2

    known = torch.ones(1, 1, 64, 128, dtype=torch.bool)
    known[..., 64:] = False
    found = known_latents(known, 0.7)[0, 0]
    hard = np.zeros((8, 16), np.float32)
    hard[:, :8] = 1
    wanted = cv2.GaussianBlur(hard, (5, 5), 0, borderType=cv2.BORDER_REPLICATE) * hard
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert float(found[:, 8:].max()) == 0
    assert float(found[0, 0]) == pytest.approx(1, abs=1e-6)


def test_reinjection_keeps_known_pixels_and_puts_the_prediction_beside_them():
    method, _ = perfect_method(SvgSettings())
    pixels, clean = torch.rand(2, 3, 64, 64), torch.full((4, 2, 8, 8), TARGET)
    known = torch.ones(2, 1, 64, 64, dtype=torch.bool)
    known[..., 20:50] = False  # cuts through latents 2 and 6
    found = method.reinject(clean, pixels, known)
    predicted = TARGET / 0.5 / 2 + 0.5
    wanted = F.avg_pool2d(torch.where(known, pixels, predicted) * 2 - 1, 8) * 0.5
    torch.testing.assert_close(found[:3].transpose(0, 1), wanted, atol=1e-6, rtol=1e-5)


def test_known_latents_are_the_sources_in_the_end_and_the_others_the_networks(finished):
    matrix, _ = finished
    known = matrix.known.expand_as(matrix.latents)
    surely, unknown = known > 1 - 1e-6, known == 0
    assert bool(surely.any())
    assert bool(unknown[-1].any())
    torch.testing.assert_close(matrix.latents[surely], matrix.source[surely], atol=1e-5, rtol=1e-5)
    # the last view went on to the end; a perfect prediction of noise arrives at the picture
    torch.testing.assert_close(
        matrix.latents[-1][unknown[-1]], torch.full((int(unknown[-1].sum()),), TARGET), atol=1e-4, rtol=0
    )


def test_the_source_is_made_of_known_pixels_and_the_prediction(finished):
    matrix, _ = finished
    predicted = TARGET / 0.5 / 2 + 0.5
    picture = torch.where(matrix.known_pixel[-1], matrix.pixels[-1], predicted)
    wanted = F.avg_pool2d(picture * 2 - 1, 8) * 0.5
    # nothing but the prediction's float32 error, which the mask leaves where it is soft
    inner = (matrix.known[-1, 0] > 1 - 1e-6)[:, None].expand_as(wanted)
    torch.testing.assert_close(matrix.source[-1][:3].transpose(0, 1)[inner], wanted[inner], atol=1e-4, rtol=0)


def test_denoising_alternates_between_time_and_cameras_and_ends_with_the_last_view_alone(finished):
    _, unet = finished
    early, late = ([calls for calls in unet.calls if (calls[0] > 600) == first] for first in (True, False))
    times = sorted({time for time, *_ in unet.calls}, reverse=True)
    assert times == [901 - 100 * step for step in range(10)]
    views, frames, resamples = 3, 2, 4
    # per direction and prompt: a column per camera, or a row per frame
    order = [(views, frames), *((views, frames) if name == "time" else (frames, views) for name in DIRECTIONS)]
    one_step = [length for count, length in order for _ in range(2 * count)]
    at_first = [length for time, length, *_ in early if time == 901]
    assert at_first == one_step
    assert len(early) == len(one_step) * sum(time > 600 for time in times)
    assert {length for _, length, *_ in late} == {frames}
    last_step = 2  # not resampled any more
    assert len(late) == (sum(time < 600 for time in times) - 1) * 2 * (1 + 2) + last_step
    assert len(DIRECTIONS) == resamples


@pytest.mark.parametrize(("resamples", "reversed_"), [(2, False), (4, True)])
def test_rows_are_videos_along_the_cameras_and_every_other_time_in_reverse(resamples, reversed_, scene, monkeypatch):
    method, _ = perfect_method(SvgSettings(views=3, steps=10, resamples=resamples))
    seen = []
    monkeypatch.setattr(method, "_step", lambda latents, *args: seen.append(latents.clone()) or (latents, latents))
    draw = torch.Generator().manual_seed(0)
    matrix = method.matrix(scene.left, scene.disparity, draw)
    method._resample(matrix, 901, 801, (torch.zeros(1), torch.zeros(1)), draw)
    for frame, row in enumerate(seen[-2:]):  # of the last resampling, which changed nothing
        cameras = matrix.latents[:, :, frame].transpose(0, 1)
        assert torch.equal(row, cameras.flip(1) if reversed_ else cameras)


def test_every_denoising_sees_both_prompts(finished):
    prompts = [prompt for *_, prompt in finished[1].calls]
    assert prompts[0::2] == [1.0] * (len(prompts) // 2)  # the negative one
    assert prompts[1::2] == [2.0] * (len(prompts) // 2)


def test_noising_back_restores_the_noise_level(finished):
    """Where nothing is known but noise and a constant, the spread is the noise's share at every run."""
    settings = SvgSettings(views=2, steps=10, resamples=3, known_share=2.0)  # nothing is known
    method, unet = perfect_method(settings)
    run(method, square_scene(frames=4, width=192, height=128), settings)
    for time, _, spread, _ in unet.calls:
        wanted = float((1 - unet.alphas[time]).sqrt())
        assert spread == pytest.approx(wanted, abs=0.05), time  # 6,144 draws or more, some of them kept


def test_a_tiny_network_runs_and_does_so_again(tmp_path):
    scene = square_scene(frames=3, width=64, height=64)
    method = Svg(text_networks("video", tmp_path), SvgSettings(views=2, steps=2, resamples=2, window=2))
    views = []
    for _ in range(2):
        with torch.inference_mode():
            views.append(torch.cat(list(method.stream(warped_clips(scene.left, scene.disparity)))))
    assert views[0].shape == scene.left.shape
    assert bool(views[0].isfinite().all())
    assert float(views[0].std()) > 0
    assert torch.equal(*views)
