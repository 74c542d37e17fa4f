"""StereoCrafter: its noise levels, its conditions, and a sampler that arrives where a perfect network leads."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

pytest.importorskip("diffusers", reason="the extra `diffusion` is not installed")

from spatialme.evaluation.baselines.diffusion.svd import svd_scheduler
from spatialme.evaluation.baselines.diffusion.tiles import Tiling
from spatialme.evaluation.baselines.stereocrafter import StereoCrafter, StereoCrafterSettings
from spatialme.evaluation.run_method import warped_clips
from tests.diffusion_networks import svd_networks
from tests.scenes import square_scene


class PerfectNetworks:
    """Latents are pictures, an eighth in size; the U-Net knows the clean ones: the picture it is shown, halved."""

    def __init__(self):
        self.shown: list[dict] = []

    def encode(self, frames: Tensor) -> Tensor:
        small = F.avg_pool2d(frames, 8)
        return torch.cat((small, small[:, :1]), 1)

    def decode(self, latents: Tensor) -> Tensor:
        return F.interpolate(latents[:, :3], scale_factor=8.0, mode="nearest")

    def embed(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))

    def velocity(self, latents, conditions, timestep, embeddings, numbers):
        self.shown.append(
            {"conditions": conditions, "timestep": float(timestep), "embeddings": embeddings, "numbers": numbers}
        )
        sigma = math.exp(4 * float(timestep))
        picture, noise = 1 / math.sqrt(1 + sigma**2), sigma / math.sqrt(1 + sigma**2)
        return (picture * latents - conditions[:, :4] / 2) / noise


@pytest.fixture(scope="module")
def scene():
    return square_scene(frames=5, square_velocity=(2.0, 0.0))


def view_of(method, scene) -> Tensor:
    with torch.inference_mode():
        return torch.cat(list(method.stream(warped_clips(scene.left, scene.disparity))))


def test_noise_levels_and_times_are_stable_video_diffusions():
    scheduler = svd_scheduler()
    scheduler.set_timesteps(25)
    # Karras et al. 2022, equation 5, with rho 7
    ramp = torch.linspace(0, 1, 25, dtype=torch.float64)
    sigmas = (700 ** (1 / 7) + ramp * (0.002 ** (1 / 7) - 700 ** (1 / 7))) ** 7
    torch.testing.assert_close(scheduler.sigmas[:-1].double(), sigmas, rtol=1e-4, atol=0)
    torch.testing.assert_close(scheduler.timesteps.double(), 0.25 * sigmas.log(), rtol=1e-4, atol=1e-5)
    assert float(scheduler.sigmas[-1]) == 0
    scheduler.set_timesteps(1)
    assert scheduler.sigmas.tolist() == pytest.approx([700.0, 0.0], rel=1e-4)


@pytest.mark.parametrize("steps", [25, 1])
def test_the_sampler_arrives_where_a_perfect_network_leads(steps, scene):
    networks = PerfectNetworks()
    # guidance 1 is the guided answer alone
    found = view_of(StereoCrafter(networks, StereoCrafterSettings(steps=steps, guidance=1.0)), scene)
    (warped,) = warped_clips(scene.left, scene.disparity)
    wanted = networks.decode(networks.encode(warped.view)) / 2
    assert len(networks.shown) == 2 * steps
    # one step from sigma 700 in float32 leaves 700 * 1e-7 * noise
    torch.testing.assert_close(found, wanted, atol=2e-3, rtol=0)


def test_guidance_goes_on_from_the_unconditioned_answer():
    networks = PerfectNetworks()
    view, hole = torch.full((1, 3, 64, 64), 0.8), torch.zeros(1, 1, 64, 64)
    draw = torch.Generator().manual_seed(0)
    for guidance, wanted in ((0.0, 0.0), (1.0, 0.4), (1.5, 0.6)):  # nothing shown is nought, the picture is 0.4
        method = StereoCrafter(networks, StereoCrafterSettings(steps=25, guidance=guidance))
        assert float(method.latents(view, hole, draw).mean()) == pytest.approx(wanted, abs=2e-3)


def test_the_network_is_shown_warped_frames_and_holes_and_nothing_at_all(scene):
    networks = PerfectNetworks()
    view_of(StereoCrafter(networks, StereoCrafterSettings(steps=1)), scene)
    (warped,) = warped_clips(scene.left, scene.disparity)
    guided, free = networks.shown
    assert torch.equal(guided["conditions"][:, :4], networks.encode(warped.view))
    assert torch.equal(guided["conditions"][:, 4:], warped.hole[..., ::8, ::8].float())
    assert float(guided["conditions"][:, 4:].max()) == 1
    assert torch.equal(guided["embeddings"], networks.embed(warped.view[:1]))
    assert guided["numbers"] == (6.0, 127.0, 0.0)
    assert float(free["conditions"].abs().max()) == 0
    assert float(free["embeddings"].abs().max()) == 0
    assert guided["timestep"] == free["timestep"] == pytest.approx(0.25 * math.log(700), rel=1e-4)


def test_frames_taken_over_are_kept_and_shown_to_the_next_round(scene):
    networks = PerfectNetworks()
    settings = StereoCrafterSettings(steps=1, window=3, overlap=1, guidance=1.0)
    found = view_of(StereoCrafter(networks, settings), scene)
    (warped,) = warped_clips(scene.left, scene.disparity)
    first, second = networks.shown[0]["conditions"], networks.shown[2]["conditions"]
    assert torch.equal(first[:, :4], networks.encode(warped.view[:3]))
    assert torch.equal(second[:1, :4], networks.encode(found[2:3]))
    assert torch.equal(second[1:, :4], networks.encode(warped.view[3:]))
    # halved once: made by the first round; a second time would be a quarter
    wanted = networks.decode(networks.encode(warped.view[2:3])) / 2
    torch.testing.assert_close(found[2:3], wanted, atol=2e-3, rtol=0)


def test_tiles_make_the_same_picture_where_the_network_is_local():
    networks = PerfectNetworks()
    scene = square_scene(frames=1, width=300, height=264)
    views = [
        view_of(StereoCrafter(networks, StereoCrafterSettings(steps=1, guidance=1.0, tiling=Tiling(count))), scene)
        for count in (1, 2)
    ]
    assert {shown["conditions"].shape[2:] for shown in networks.shown} == {(40, 40), (32, 32)}
    torch.testing.assert_close(views[0], views[1], atol=2e-3, rtol=0)


def test_a_tiny_network_runs_and_does_so_again(scene):
    method = StereoCrafter(svd_networks(9), StereoCrafterSettings(steps=2, window=3, overlap=1))
    view = view_of(method, scene)
    assert view.shape == scene.left.shape
    assert bool(view.isfinite().all())
    assert float(view.std()) > 0
    assert torch.equal(view_of(method, scene), view)


def test_networks_encode_without_scale_and_decode_with_it():
    networks = svd_networks(9)
    frames = torch.rand(6, 3, 64, 64)
    with torch.inference_mode():
        wanted = networks.vae.encode(frames * 2 - 1).latent_dist.mode()
        torch.testing.assert_close(networks.encode(frames), wanted, atol=1e-5, rtol=1e-5)
        image = networks.vae.decode(wanted / 0.18215, num_frames=6).sample
        torch.testing.assert_close(networks.decode(wanted), (image / 2 + 0.5).clamp(0, 1), atol=1e-5, rtol=1e-5)


def test_pictures_are_embedded_as_clip_wants_them():
    networks = svd_networks(9)
    picture = torch.full((1, 3, 40, 56), 0.5)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])
    deviation = torch.tensor([0.26862954, 0.26130258, 0.27577711])
    values = ((0.5 - mean) / deviation).view(1, 3, 1, 1).expand(1, 3, 28, 28)
    with torch.inference_mode():
        wanted = networks.image_encoder(values).image_embeds
        torch.testing.assert_close(networks.embed(picture), wanted, atol=1e-5, rtol=1e-4)
