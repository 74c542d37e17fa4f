"""StereoDiffusion (Wang et al. 2024, arXiv 2403.04965): shifting the latents of an image model, without training.

```
left frame -> latent -> DDIM inversion (50 steps) -> null-text optimisation: the left picture denoises to itself
   denoise left; after step 10 the right latent is the left one shifted by the disparity (Stereo Pixel Shift)
   from then on  the right one's self-attention looks at the left one's tokens
   steps 20, 30, 40: where the shift landed, the right latent is the left one shifted again (Symmetric Pixel Shift
                     Masking Denoise)
```

From the published code's settings: Stable Diffusion 1.4, an empty prompt, guidance 7.5, up to 10 optimisation steps per
denoising step. Frames are converted one by one: the method knows no time. Deviations: the disparity is the one that all
methods get instead of a share of the picture's depth range, rounded to whole latents; frames are not cut to 512 x 512
but continued to multiples of 64 px.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from spatialme.evaluation.baselines.diffusion.attention import install_shared_attention
from spatialme.evaluation.baselines.diffusion.checkpoints import CHECKPOINTS, diffusers, load_part
from spatialme.evaluation.baselines.diffusion.rounds import padded
from spatialme.evaluation.baselines.diffusion.text import TextNetworks, load_text_networks, move
from spatialme.evaluation.baselines.diffusion.tiles import LATENT_PX, Tiling
from spatialme.types import WarpedClip


@dataclass(frozen=True)
class StereoDiffusionSettings:
    """As in the published code for given pictures."""

    steps: int = 50
    guidance: float = 7.5
    shift_at: int = 10  # the step after which the right latent is made, and from which attention is shared
    shift_every: int = 10  # steps between two renewals of what the shift landed on
    inner_steps: int = 10  # of the null-text optimisation, at most
    prompt: str = ""
    noise_in_holes: bool = False  # the published option `deblur`
    seed: int = 0


class StereoDiffusion:
    """Makes whole views, frame by frame. Holds one clip, and the latents of one frame at every step."""

    needs_motion = False

    def __init__(self, networks: TextNetworks, settings: StereoDiffusionSettings | None = None):
        """Compose the method; `load_stereodiffusion` does it with the user's weights.

        Args:
            networks: Of a text-to-image model that predicts noise; the U-Net's self-attentions are replaced.
            settings: None is the published ones.
        """
        self._networks = networks
        self._settings = settings or StereoDiffusionSettings()
        self._shared = install_shared_attention(networks.unet)
        scheduler = diffusers().DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False
        )
        scheduler.set_timesteps(self._settings.steps)
        self._timesteps = scheduler.timesteps.tolist()  # falling
        alphas = scheduler.alphas_cumprod
        # after the step of the same number; the first entry is before the first step
        self._shares = torch.stack((*(alphas[t] for t in self._timesteps), scheduler.final_alpha_cumprod))

    def stream(self, clips: Iterable[WarpedClip]) -> Iterator[Tensor]:
        """Yield the made views."""
        for clip in clips:
            # `inference_mode` is left, for the optimisation needs gradients; inference tensors must be copied for that
            with torch.inference_mode(False), torch.no_grad():
                frames, disparity = clip.clip.frames.clone(), clip.source_disparity.clone()
                pairs = zip(frames.split(1), disparity.split(1))
                view = torch.cat([self._frame(frame, shift) for frame, shift in pairs])
            yield view

    def _frame(self, frame: Tensor, disparity: Tensor) -> Tensor:
        height, width = frame.shape[2:]
        size = (Tiling().padded_px(height), Tiling().padded_px(width))
        vae = self._networks.vae
        picture = padded(frame, *size).to(vae.dtype) * 2 - 1
        start = vae.encode(picture).latent_dist.mode() * vae.config.scaling_factor
        latent_size = (size[0] // LATENT_PX, size[1] // LATENT_PX)
        shift = F.interpolate(padded(disparity, *size).float(), latent_size, mode="bicubic", align_corners=False)
        right = self.right_latent(start, shift / LATENT_PX)
        image = vae.decode(right.to(vae.dtype) / vae.config.scaling_factor).sample
        return (image.float() / 2 + 0.5).clamp(0, 1)[..., :height, :width]

    def right_latent(self, left: Tensor, disparity: Tensor) -> Tensor:
        """The right view's latent.

        Args:
            left: (1, 4, h, w), scaled.
            disparity: (1, 1, h, w), in latents.

        Returns:
            (1, 4, h, w).
        """
        path = self.invert(left)
        contexts = self.null_contexts(path)
        return self._denoise(path[-1], disparity, contexts)

    def invert(self, latent: Tensor) -> list[Tensor]:
        """DDIM inversion under the prompt alone: latents from clean to noise, ``steps + 1`` of them."""
        context, path = self._networks.prompt(self._settings.prompt), [latent.float()]
        for step in reversed(range(len(self._timesteps))):
            noise = self._noise(path[-1], step, context)
            path.append(move(path[-1], noise, self._shares[step + 1], self._shares[step]))
        return path

    def null_contexts(self, path: list[Tensor]) -> list[Tensor]:
        """Null-text optimisation (Mokady et al. 2023): per step the empty context that leads back along the path."""
        prompt, empty = self._networks.prompt(self._settings.prompt), self._networks.prompt("").float()
        latent, contexts = path[-1], []
        for step in range(len(self._timesteps)):
            given = self._noise(latent, step, prompt)
            empty = self._optimised(empty, latent, given, path[-2 - step], step)
            contexts.append(empty)
            latent = self._stepped(latent, self._guided(given, self._noise(latent, step, empty)), step)
        return contexts

    @torch.enable_grad()
    def _optimised(self, empty: Tensor, latent: Tensor, given: Tensor, target: Tensor, step: int) -> Tensor:
        context = empty.clone().requires_grad_()
        optimiser = torch.optim.Adam([context], lr=1e-2 * (1 - step / 100))
        for _ in range(self._settings.inner_steps):
            free = self._noise(latent, step, context)
            loss = F.mse_loss(self._stepped(latent, self._guided(given, free), step), target)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if float(loss.detach()) < 1e-5 + 2e-5 * step:
                break
        return context.detach()

    def _denoise(self, noisiest: Tensor, disparity: Tensor, contexts: list[Tensor]) -> Tensor:
        """Left alone until the shift, then both."""
        settings, prompt = self._settings, self._networks.prompt(self._settings.prompt)
        pair, landed = noisiest, torch.zeros(())
        for step, empty in enumerate(contexts):
            self._shared.active = len(pair) == 2
            noise = self._guided(self._noise(pair, step, prompt), self._noise(pair, step, empty))
            pair = self._stepped(pair, noise, step)
            if step == settings.shift_at:
                shifted, landed = shift_latents(pair, disparity)
                pair = torch.cat((pair, self._with_noise(shifted, landed)))
            elif step > settings.shift_at and step % settings.shift_every == 0:
                shifted, landed = shift_latents(pair[:1], disparity)
                pair = torch.cat((pair[:1], torch.where(landed, shifted, pair[1:])))
        self._shared.active = False
        return pair[-1:]

    def _with_noise(self, shifted: Tensor, landed: Tensor) -> Tensor:
        if not self._settings.noise_in_holes:
            return shifted
        noise = torch.randn(shifted.shape, generator=torch.Generator().manual_seed(self._settings.seed))
        return torch.where(landed, shifted, noise.to(shifted))

    def _noise(self, latents: Tensor, step: int, context: Tensor) -> Tensor:
        unet = self._networks.unet
        contexts = context.to(unet.dtype).expand(len(latents), -1, -1)
        return unet(latents.to(unet.dtype), self._timesteps[step], encoder_hidden_states=contexts).sample.float()

    def _guided(self, given: Tensor, free: Tensor) -> Tensor:
        return free + self._settings.guidance * (given - free)

    def _stepped(self, latents: Tensor, noise: Tensor, step: int) -> Tensor:
        return move(latents, noise, self._shares[step], self._shares[step + 1])


def shift_latents(latents: Tensor, disparity: Tensor) -> tuple[Tensor, Tensor]:
    """Stereo Pixel Shift: each latent moves left by its disparity, the nearest wins, holes are nought.

    Args:
        latents: (1, C, h, w) of the left view.
        disparity: (1, 1, h, w), in latents; rounded to whole ones.

    Returns:
        (1, C, h, w) of the right view, and (1, 1, h, w) bool, True where one landed.
    """
    width = latents.shape[3]
    column = torch.arange(width, device=latents.device)
    shift = disparity.round().long()
    target = column - shift
    inside = (target >= 0) & (target < width)
    # one number per source: nearer ones are larger, and its column can be read from it
    rank = (shift + 2 * width).clamp(1, 4 * width) * width + column
    best = torch.zeros((*rank.shape[:-1], width + 1), dtype=torch.long, device=latents.device)
    best.scatter_reduce_(-1, torch.where(inside, target, width), rank, "amax")
    best = best[..., :width]
    source = (best % width).expand_as(latents)
    landed = best > 0
    return torch.where(landed, latents.gather(-1, source), 0), landed


def load_stereodiffusion(device: torch.device, settings: StereoDiffusionSettings | None = None) -> StereoDiffusion:
    """The method with the user's copy of Stable Diffusion 1.4.

    Raises:
        OptionError: diffusers is not installed.
        WeightsError: The checkpoint is not here, or is another one.
    """
    package: Any = diffusers()
    checkpoint = CHECKPOINTS["stable-diffusion"]
    vae = load_part(package.AutoencoderKL, checkpoint, device, torch.float32, "vae")
    # not in half precision: the optimisation's gradients, of a loss near 1e-5, would vanish
    networks = load_text_networks(package.UNet2DConditionModel, vae, checkpoint, device, torch.float32)
    return StereoDiffusion(networks, settings)
