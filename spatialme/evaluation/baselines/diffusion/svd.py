"""Stable Video Diffusion's parts as StereoCrafter and M2SVid use them: latents, image embeddings, noise levels, U-Net.

Facts of the published model (Blattmann et al. 2023, and its configuration in diffusers): v-prediction, noise levels
after Karras from 700 to 0.002, the U-Net is told ``0.25 * log(sigma)``; conditioning latents are the mode of the
encoder's distribution, *not* scaled, while what is denoised is scaled by 0.18215.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from spatialme.evaluation.baselines.diffusion.checkpoints import (
    CHECKPOINTS,
    diffusers,
    load_part,
    working_dtype,
)

SIGMA_MAX, SIGMA_MIN = 700.0, 0.002
ENCODED_AT_ONCE, DECODED_AT_ONCE = 5, 8  # frames; the published pipeline's, for decoding looks at neighbours
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_DEVIATION = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class SvdNetworks:
    """The three networks, on one device. The VAE stays in float32: in half its values overflow."""

    unet: Any  # UNetSpatioTemporalConditionModel
    vae: Any  # AutoencoderKLTemporalDecoder
    image_encoder: Any  # CLIPVisionModelWithProjection

    def encode(self, frames: Tensor) -> Tensor:
        """Conditioning latents of RGB in [0, 1]: (F, 3, H, W) -> (F, 4, H / 8, W / 8)."""
        return encode(self.vae, frames).to(self.unet.dtype)

    def decode(self, latents: Tensor) -> Tensor:
        """RGB in [0, 1] of denoised latents (F, 4, h, w)."""
        return decode(self.vae, latents)

    def embed(self, images: Tensor) -> Tensor:
        """CLIP's embeddings of RGB in [0, 1]: (N, 3, H, W) -> (N, D)."""
        side = self.image_encoder.config.image_size
        small = F.interpolate(images.float(), (side, side), mode="bicubic", align_corners=False, antialias=True)
        mean, deviation = (small.new_tensor(values).view(1, 3, 1, 1) for values in (CLIP_MEAN, CLIP_DEVIATION))
        normalised = ((small - mean) / deviation).to(self.image_encoder.dtype)
        return self.image_encoder(normalised).image_embeds.to(self.unet.dtype)

    def velocity(
        self, latents: Tensor, conditions: Tensor, timestep: Tensor, embeddings: Tensor, numbers: tuple[float, ...]
    ) -> Tensor:
        """The U-Net's v.

        Args:
            latents: (F, 4, h, w), scaled to unit variance.
            conditions: (F, C, h, w), what follows the latents along the channels.
            timestep: () ``0.25 * log(sigma)``.
            embeddings: (N, D), image tokens that every frame sees.
            numbers: Frames per second, motion bucket, noise on the conditions.

        Returns:
            (F, 4, h, w).
        """
        sample = torch.cat((latents.to(conditions), conditions), 1)[None]
        ids = sample.new_tensor([numbers])
        return self.unet(sample, timestep, encoder_hidden_states=embeddings[None], added_time_ids=ids).sample[0]


def encode(vae: Any, frames: Tensor) -> Tensor:
    """The mode of a VAE's distribution, unscaled, for RGB in [0, 1] of (F, 3, H, W)."""
    parts = (frames.to(vae.dtype) * 2 - 1).split(ENCODED_AT_ONCE)
    return torch.cat([vae.encode(part).latent_dist.mode() for part in parts])


def decode(vae: Any, latents: Tensor) -> Tensor:
    """RGB in [0, 1] of scaled latents (F, 4, h, w), by a decoder that looks along time."""
    parts = (latents.to(vae.dtype) / vae.config.scaling_factor).split(DECODED_AT_ONCE)
    images = torch.cat([vae.decode(part, num_frames=len(part)).sample for part in parts])
    return (images.float() / 2 + 0.5).clamp(0, 1)


def svd_scheduler() -> Any:
    """Euler's method over the published noise levels."""
    return diffusers().EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        sigma_max=SIGMA_MAX,
        sigma_min=SIGMA_MIN,
        steps_offset=1,
        timestep_spacing="leading",
        timestep_type="continuous",
        use_karras_sigmas=True,
    )


def highest_timestep() -> float:
    """What the U-Net is told at t = T."""
    return 0.25 * math.log(SIGMA_MAX)


def load_vae(device: torch.device) -> Any:
    """SVD's VAE, in float32."""
    return load_part(
        diffusers().AutoencoderKLTemporalDecoder, CHECKPOINTS["svd"], device, torch.float32, subfolder="vae"
    )


def load_image_encoder(device: torch.device) -> Any:
    """SVD's CLIP image encoder."""
    from transformers import CLIPVisionModelWithProjection

    return load_part(
        CLIPVisionModelWithProjection, CHECKPOINTS["svd"], device, working_dtype(device), subfolder="image_encoder"
    )
