"""SVG (Dai et al. 2024, arXiv 2407.00367; S2VG is its journal form): a text-to-video model inpaints a frame matrix.

```
             view 0 (left)   view 1  ...  view 7 (right)      between: the left view warped by k / 7 of the disparity
frame 0      known           holes        holes
frame 1      known           holes        holes       a column is a video along time, a row is one along the cameras
```

At each of 50 DDPM steps every column is denoised; then the source latents are made anew from the picture just
predicted, its known pixels replaced and encoded again (disocclusion boundary re-injection); then the matrix is noised
back and denoised again six times, along time, along the cameras, along time, along the cameras in reverse, and so on
(resampling). Below step 600 only the last column goes on, resampled twice. What is known is put back, noised, before
every denoising.

From the published code's settings: zeroscope v2 with SVD's VAE, 16 frames, guidance 7.5, the negative prompt. Published
results have a prompt per video; a clip has none here, so it is empty. Deviations: encoding takes the mode of the
distribution; a latent is known where 70 % of its pixels are and the four in its middle; shots of more than 16 frames
are converted in pieces; one seed; frames are continued to multiples of 64 px.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from spatialme.evaluation.baselines.diffusion.checkpoints import CHECKPOINTS, diffusers, working_dtype
from spatialme.evaluation.baselines.diffusion.rounds import Round, in_rounds, padded, per_shot
from spatialme.evaluation.baselines.diffusion.svd import decode, encode, load_vae
from spatialme.evaluation.baselines.diffusion.text import TextNetworks, load_text_networks
from spatialme.evaluation.baselines.diffusion.tiles import LATENT_PX, Tiling
from spatialme.types import WarpedClip
from spatialme.warp import forward_warp

SOFTENING = (0.0625, 0.25, 0.375, 0.25, 0.0625)  # OpenCV's Gaussian of 5, along each side of the mask of the known
DIRECTIONS = ("time", "cameras", "time", "cameras reversed")  # of successive resamplings


@dataclass(frozen=True)
class SvgSettings:
    """As in the published code."""

    views: int = 8
    window: int = 16  # frames
    steps: int = 50
    guidance: float = 7.5
    prompt: str = ""
    negative_prompt: str = "low-quality, blurry, flickering, ghost"
    resamples: int = 6
    last_resamples: int = 2  # once only the last column goes on
    matrix_until: int = 600  # diffusion time below which only the last column goes on
    known_share: float = 0.7  # of a latent's pixels
    seed: int = 0


@dataclass
class FrameMatrix:
    """Views by frames: V views of F frames. Channels stand before frames, as the U-Net has them."""

    pixels: Tensor  # (V, F, 3, H, W) in [0, 1], nought in holes
    known_pixel: Tensor  # (V, F, 1, H, W) bool
    known: Tensor  # (V, 1, F, h, w) in [0, 1], 1 where a latent is known for sure
    source: Tensor  # (V, 4, F, h, w), latents of what is known; made anew at every step
    latents: Tensor  # (V, 4, F, h, w), at the noise level at hand


class Svg:
    """Makes whole views. Holds one shot, and the frame matrix of 16 frames."""

    needs_motion = False

    def __init__(self, networks: TextNetworks, settings: SvgSettings | None = None):
        """Compose the method; `load_svg` does it with the user's weights.

        Args:
            networks: Of a text-to-video model that predicts noise, with a VAE that decodes along time.
            settings: None is the published ones.
        """
        self._networks = networks
        self._settings = settings or SvgSettings()
        self._scheduler = diffusers().DDPMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
        )
        self._scheduler.set_timesteps(self._settings.steps)

    def stream(self, clips: Iterable[WarpedClip]) -> Iterator[Tensor]:
        """Yield the made views."""
        return per_shot(clips, self._shot)

    def _shot(self, warped: WarpedClip) -> Tensor:
        height, width = warped.view.shape[2:]
        draw = torch.Generator().manual_seed(self._settings.seed)

        def make(one: Round, made: Tensor | None) -> Tensor:
            part = slice(one.start, one.stop)
            matrix = self.matrix(warped.clip.frames[part], warped.source_disparity[part], draw)
            self.denoise(matrix, draw)
            return decode(self._networks.vae, _frames_first(matrix.latents[-1]))[..., :height, :width]

        return in_rounds(len(warped), self._settings.window, 0, make)

    def matrix(self, left: Tensor, disparity: Tensor, draw: torch.Generator) -> FrameMatrix:
        """Warp the left view to every camera.

        Args:
            left: (F, 3, H, W) in [0, 1].
            disparity: (F, 1, H, W) px, between the first and the last camera.
            draw: Gives the noise to start from; of the CPU.
        """
        settings, size = self._settings, [Tiling().padded_px(side) for side in left.shape[2:]]
        shares = [view / (settings.views - 1) for view in range(settings.views)]
        warps = [forward_warp(left, disparity * share) for share in shares]
        pixels = torch.stack([padded(warp.view, *size) for warp in warps])
        known_pixel = torch.stack([padded((~warp.hole).float(), *size) > 0 for warp in warps])
        known = torch.stack([known_latents(one, settings.known_share) for one in known_pixel])
        source = torch.stack([self._encode(view) for view in pixels])
        return FrameMatrix(pixels, known_pixel, known[:, None, :, 0], source, _noise(source, draw))

    @torch.no_grad()
    def denoise(self, matrix: FrameMatrix, draw: torch.Generator) -> None:
        """Bring the matrix's latents from noise to the picture; what is known is the source's in the end."""
        times = self._scheduler.timesteps.tolist()
        prompts = self._networks.prompt(self._settings.negative_prompt), self._networks.prompt(self._settings.prompt)
        for time, after in zip(times, [*times[1:], None]):
            views = self._views(time)
            for view in views:
                stepped, clean = self._step(matrix.latents[view], time, prompts, draw)
                matrix.latents[view] = stepped
                matrix.source[view] = self.reinject(clean, matrix.pixels[view], matrix.known_pixel[view])
            if after is not None:
                self._resample(matrix, time, after, prompts, draw)
            self._put_back(matrix, after, draw)

    def reinject(self, clean: Tensor, pixels: Tensor, known_pixel: Tensor) -> Tensor:
        """Disocclusion boundary re-injection: what is known, with the predicted picture instead of black beside it.

        Args:
            clean: (4, F, h, w), predicted latents without noise.
            pixels: (F, 3, H, W).
            known_pixel: (F, 1, H, W) bool.

        Returns:
            (4, F, h, w).
        """
        predicted = decode(self._networks.vae, _frames_first(clean))
        return self._encode(torch.where(known_pixel, pixels, predicted.to(pixels)))

    def _resample(
        self, matrix: FrameMatrix, time: int, after: int, prompts: tuple[Tensor, Tensor], draw: torch.Generator
    ) -> None:
        """Noise back from `after` to `time`, and denoise again, along alternating directions."""
        whole = time > self._settings.matrix_until
        alphas = self._scheduler.alphas_cumprod
        kept = float(alphas[time] / alphas[after])
        for number in range(self._settings.resamples if whole else self._settings.last_resamples):
            noise = _noise(matrix.latents, draw)
            matrix.latents = math.sqrt(kept) * matrix.latents + math.sqrt(1 - kept) * noise
            self._put_back(matrix, time, draw)
            direction = DIRECTIONS[number % len(DIRECTIONS)] if whole else "time"
            for index in self._sequences(direction, time, matrix):
                # a row is turned into a video whose frames are the cameras
                sequence = matrix.latents[index] if direction == "time" else matrix.latents[index].transpose(0, 1)
                turned = sequence.flip(1) if direction == "cameras reversed" else sequence
                stepped = self._step(turned, time, prompts, draw)[0]
                stepped = stepped.flip(1) if direction == "cameras reversed" else stepped
                matrix.latents[index] = stepped if direction == "time" else stepped.transpose(0, 1)

    def _sequences(self, direction: str, time: int, matrix: FrameMatrix) -> list[Any]:
        if direction == "time":
            return list(self._views(time))
        return [(slice(None), slice(None), frame) for frame in range(matrix.latents.shape[2])]

    def _views(self, time: int) -> range:
        """Columns that go on at a diffusion time."""
        return range(0 if time > self._settings.matrix_until else self._settings.views - 1, self._settings.views)

    def _put_back(self, matrix: FrameMatrix, time: int | None, draw: torch.Generator) -> None:
        """Replace the known latents by the source's, noised to a diffusion time; None is without noise."""
        source = matrix.source
        if time is not None:
            source = self._scheduler.add_noise(source, _noise(source, draw), torch.tensor(time))
        matrix.latents = torch.lerp(matrix.latents, source, matrix.known)

    def _step(
        self, latents: Tensor, time: int, prompts: tuple[Tensor, Tensor], draw: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """One DDPM step of a video (4, F, h, w): at the next noise level, and the picture predicted."""
        unet = self._networks.unet
        free, given = (
            unet(latents[None].to(unet.dtype), time, encoder_hidden_states=prompt).sample[0].float()
            for prompt in prompts
        )
        noise = free + self._settings.guidance * (given - free)
        result = self._scheduler.step(noise, time, latents, generator=draw)
        return result.prev_sample, result.pred_original_sample

    def _encode(self, frames: Tensor) -> Tensor:
        """Scaled latents (4, F, h, w) of RGB in [0, 1], (F, 3, H, W)."""
        vae = self._networks.vae
        return (encode(vae, frames) * vae.config.scaling_factor).float().transpose(0, 1)


def known_latents(known_pixel: Tensor, share: float) -> Tensor:
    """Which latents are known: (F, 1, H, W) bool -> (F, 1, H / 8, W / 8) float in [0, 1].

    Args:
        known_pixel: True where a source pixel landed.
        share: Of a latent's pixels that must be known; so must the four in its middle. Towards the unknown the mask
            falls off, inside the known.
    """
    pixels = known_pixel.float()
    enough = F.avg_pool2d(pixels, LATENT_PX) >= share
    middle = -F.max_pool2d(-pixels[..., 3:, 3:], 2, stride=LATENT_PX)  # least of the four
    known = (enough & (middle > 0)).float()
    kernel = known.new_tensor(SOFTENING)
    wide = F.pad(known, (len(kernel) // 2,) * 4, mode="replicate")
    blurred = F.conv2d(F.conv2d(wide, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
    return known * blurred


def load_svg(device: torch.device, settings: SvgSettings | None = None) -> Svg:
    """The method with the user's copies of zeroscope and of SVD's VAE.

    Raises:
        OptionError: diffusers is not installed.
        WeightsError: A checkpoint is not here, or is another one.
    """
    unet = diffusers().UNet3DConditionModel
    return Svg(
        load_text_networks(unet, load_vae(device), CHECKPOINTS["zeroscope"], device, working_dtype(device)), settings
    )


def _frames_first(latents: Tensor) -> Tensor:
    return latents.transpose(0, 1)


def _noise(like: Tensor, draw: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=draw).to(like)
