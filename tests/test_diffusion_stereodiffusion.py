"""StereoDiffusion: the shift of latents, inversion, null-text optimisation, and what the right latent is made of."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers", reason="the extra `diffusion` is not installed")

from diffusers import DDIMScheduler
from torch import nn

from spatialme.evaluation.baselines.diffusion.text import move
from spatialme.evaluation.baselines.stereodiffusion import StereoDiffusion, StereoDiffusionSettings, shift_latents
from spatialme.evaluation.run_method import warped_clips
from tests.diffusion_networks import text_networks
from tests.scenes import square_scene

SHORT = StereoDiffusionSettings(steps=5, shift_at=1, shift_every=2, inner_steps=2, guidance=2.0)


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    return text_networks("image", tmp_path_factory.mktemp("tokenizer"))


class SmoothUnet(nn.Module):
    """Predicts noise that follows the latents and one number of the context, so that inversion is nearly exact."""

    dtype = torch.float32

    def forward(self, latents: torch.Tensor, time: int, encoder_hidden_states: torch.Tensor):
        told = encoder_hidden_states[..., 0].mean(1).view(-1, 1, 1, 1)
        return SimpleNamespace(sample=0.1 * latents + told)


@pytest.fixture
def smooth(networks):
    return dataclasses.replace(networks, unet=SmoothUnet())


@pytest.fixture
def latent():
    return torch.randn(1, 4, 8, 16, generator=torch.Generator().manual_seed(0))


def test_latents_move_by_whole_ones_the_nearest_wins_and_holes_are_nought():
    random = np.random.default_rng(0)
    latents = torch.from_numpy(random.random((1, 4, 6, 20), dtype=np.float32)) + 1
    disparity = torch.from_numpy(random.uniform(-3, 5, (1, 1, 6, 20)).astype(np.float32))
    disparity[0, 0, 0] = 1000.0  # all of them leave the frame
    found, landed = shift_latents(latents, disparity)
    wanted, nearest = np.zeros((4, 6, 20), np.float32), np.full((6, 20), -np.inf)
    for row, column in np.ndindex(6, 20):
        shift = round(float(disparity[0, 0, row, column]))
        target = column - shift
        if 0 <= target < 20 and shift > nearest[row, target]:
            nearest[row, target] = shift
            wanted[:, row, target] = latents[0, :, row, column]
    assert np.array_equal(found[0].numpy(), wanted)
    assert np.array_equal(landed[0, 0].numpy(), nearest > -np.inf)


def test_one_move_is_diffusers_ddim_step_and_leads_back():
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False
    )
    scheduler.set_timesteps(50)
    latents, noise = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    here, there = scheduler.alphas_cumprod[480], scheduler.alphas_cumprod[460]
    found = move(latents, noise, here, there)
    torch.testing.assert_close(found, scheduler.step(noise, 480, latents).prev_sample, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(move(found, noise, there, here), latents, atol=1e-5, rtol=1e-5)


def test_times_and_noise_levels_are_the_published_ones(networks):
    method = StereoDiffusion(networks)
    assert method._timesteps == list(range(980, -1, -20))
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    shares = (1 - betas).cumprod(0)
    wanted = torch.stack([*(shares[time] for time in method._timesteps), shares[0]])
    torch.testing.assert_close(method._shares.double(), wanted, rtol=1e-4, atol=0)


@torch.no_grad()
def test_null_text_optimisation_leads_back_along_the_inverted_path(smooth, latent):
    """Guidance leads away from the path that was inverted without; optimised empty contexts keep to it."""
    ends = []
    for inner_steps in (0, 10):
        settings = StereoDiffusionSettings(steps=20, inner_steps=inner_steps, prompt="a cat")
        method = StereoDiffusion(smooth, settings)
        path = method.invert(latent)
        assert len(path) == 21
        contexts = method.null_contexts(path)
        prompt, back = smooth.prompt("a cat"), path[-1]
        for step, empty in enumerate(contexts):
            noise = method._guided(method._noise(back, step, prompt), method._noise(back, step, empty))
            back = method._stepped(back, noise, step)
        ends.append(float((back - latent).abs().mean()))
    assert ends[1] < 0.3 * ends[0], ends


@torch.no_grad()
def test_without_disparity_the_right_latent_is_the_left_one(smooth, latent):
    found = StereoDiffusion(smooth).right_latent(latent, torch.zeros(1, 1, 8, 16))
    # inversion in 50 steps is not exact; the largest latents are 3.5
    torch.testing.assert_close(found, latent, atol=0.1, rtol=0)


@torch.no_grad()
def test_where_the_shift_lands_the_right_latent_is_the_left_one_shifted(networks, latent):
    # renewed at step 4, the last of five; what it is renewed by is the left result, told by a disparity of nought
    method = StereoDiffusion(networks, SHORT)
    left = method.right_latent(latent, torch.zeros(1, 1, 8, 16))
    disparity = torch.zeros(1, 1, 8, 16)
    disparity[..., 8:12] = 2.0
    found = method.right_latent(latent, disparity)
    shifted, landed = shift_latents(left, disparity)
    assert bool((~landed).any())
    where = landed.expand_as(found)
    # the left picture is computed alone or beside the right one: sums in another order
    torch.testing.assert_close(found[where], shifted[where], atol=1e-4, rtol=0)
    assert float((found - shifted)[~where].abs().min()) > 0  # holes are filled by the network


@torch.no_grad()
def test_the_right_latent_attends_to_the_left_one_from_the_shift_on(networks, latent):
    method = StereoDiffusion(networks, SHORT)
    seen = []
    handle = networks.unet.register_forward_hook(lambda *call: seen.append((len(call[1][0]), method._shared.active)))
    method._denoise(latent, torch.zeros(1, 1, 8, 16), [networks.prompt("")] * SHORT.steps)
    handle.remove()
    alone, together = (1, False), (2, True)
    assert seen == [alone] * 4 + [together] * 6  # two prompts per step; shifted after the second of five


@torch.no_grad()
def test_holes_start_with_noise_when_asked(networks, latent):
    disparity = torch.zeros(1, 1, 8, 16)
    disparity[..., 8:12] = 2.0
    _, landed = shift_latents(latent, disparity)
    plain = StereoDiffusion(networks, SHORT).right_latent(latent, disparity)
    noisy = StereoDiffusion(networks, dataclasses.replace(SHORT, noise_in_holes=True)).right_latent(latent, disparity)
    where = landed.expand_as(plain)
    torch.testing.assert_close(noisy[where], plain[where], atol=1e-4, rtol=0)
    assert float((noisy - plain)[~where].abs().mean()) > 1e-2


def test_frames_are_converted_under_inference_mode_one_by_one(networks):
    scene = square_scene(frames=2, width=100, height=60)
    method = StereoDiffusion(networks, SHORT)
    with torch.inference_mode():
        view = torch.cat(list(method.stream(warped_clips(scene.left, scene.disparity))))
        alone = torch.cat(list(method.stream(warped_clips(scene.left[1:], scene.disparity[1:]))))
    assert view.shape == scene.left.shape
    assert bool(view.isfinite().all())
    assert torch.equal(view[1:], alone)
    assert not method._shared.active
    assert float(view.std()) > 0
