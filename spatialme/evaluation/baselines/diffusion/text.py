"""Text-conditioned networks: prompts, and the one step that DDIM takes in both directions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spatialme.evaluation.baselines.diffusion.checkpoints import Checkpoint, load_part, load_tokenizer


@dataclass(frozen=True)
class TextNetworks:
    """A text-to-image or text-to-video model's parts, on one device."""

    unet: Any  # UNet2DConditionModel or UNet3DConditionModel
    vae: Any  # AutoencoderKL or AutoencoderKLTemporalDecoder, in float32
    text_encoder: Any  # CLIPTextModel
    tokenizer: Any  # CLIPTokenizer

    def prompt(self, text: str) -> Tensor:
        """The context of a prompt, (1, tokens, D); longer ones are cut."""
        length = self.tokenizer.model_max_length
        tokens = self.tokenizer(
            text, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        ).input_ids
        return self.text_encoder(tokens.to(self.text_encoder.device))[0].to(self.unet.dtype)


def load_text_networks(
    unet: Any, vae: Any, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype
) -> TextNetworks:
    """A checkpoint's networks.

    Args:
        unet: The class of its U-Net.
        vae: A VAE that is there already.
        checkpoint: In diffusers' layout.
        device: Where they go.
        dtype: Of U-Net and text encoder.

    Raises:
        WeightsError: The checkpoint is not here, or is another one.
    """
    from transformers import CLIPTextModel

    return TextNetworks(
        load_part(unet, checkpoint, device, dtype, "unet"),
        vae,
        load_part(CLIPTextModel, checkpoint, device, dtype, "text_encoder"),
        load_tokenizer(checkpoint),
    )


def move(latents: Tensor, noise: Tensor, share_here: Tensor, share_there: Tensor) -> Tensor:
    """DDIM's deterministic step between two noise levels, in either direction (Song et al. 2020, equation 12).

    Args:
        latents: At the level `share_here`.
        noise: What the network predicts of them.
        share_here: () cumulative alpha, the share of the picture in the variance.
        share_there: The same of the level to go to.
    """
    clean = (latents - (1 - share_here).sqrt() * noise) / share_here.sqrt()
    return share_there.sqrt() * clean + (1 - share_there).sqrt() * noise
