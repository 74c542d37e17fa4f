"""Networks of the diffusion methods with random weights: tiny ones for tests, the published sizes for benchmarks.

Import after `pytest.importorskip("diffusers")`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLTemporalDecoder,
    UNet2DConditionModel,
    UNet3DConditionModel,
    UNetSpatioTemporalConditionModel,
)
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from spatialme.evaluation.baselines.diffusion.checkpoints import frozen, working_dtype
from spatialme.evaluation.baselines.diffusion.svd import SvdNetworks
from spatialme.evaluation.baselines.diffusion.text import TextNetworks

Size = Literal["tiny", "full"]
CPU = torch.device("cpu")
TINY = (32, 32, 32, 32)  # channels per level of the VAEs: all group norms have 32 groups
TINY_LEVELS = (32, 32)  # of the U-Nets
CONTEXT = 16


def svd_unet(in_channels: int, size: Size = "tiny") -> nn.Module:
    if size == "full":
        return UNetSpatioTemporalConditionModel(in_channels=in_channels)
    return UNetSpatioTemporalConditionModel(
        in_channels=in_channels,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        block_out_channels=TINY_LEVELS,
        layers_per_block=1,
        num_attention_heads=2,
        cross_attention_dim=CONTEXT,
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24,
    )


def temporal_vae(size: Size = "tiny") -> nn.Module:
    if size == "full":
        return AutoencoderKLTemporalDecoder(
            down_block_types=("DownEncoderBlock2D",) * 4, block_out_channels=(128, 256, 512, 512), layers_per_block=2
        )
    return AutoencoderKLTemporalDecoder(
        down_block_types=("DownEncoderBlock2D",) * 4, block_out_channels=TINY, layers_per_block=1
    )


def image_vae(size: Size = "tiny") -> nn.Module:
    channels, layers = ((128, 256, 512, 512), 2) if size == "full" else (TINY, 1)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=channels,
        layers_per_block=layers,
        latent_channels=4,
    )


def image_encoder(size: Size = "tiny") -> nn.Module:
    if size == "full":  # ViT-H
        config = CLIPVisionConfig(
            hidden_size=1280,
            intermediate_size=5120,
            num_hidden_layers=32,
            num_attention_heads=16,
            patch_size=14,
            projection_dim=1024,
            hidden_act="gelu",
        )
    else:
        config = CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=28,
            patch_size=14,
            projection_dim=CONTEXT,
        )
    return CLIPVisionModelWithProjection(config)


def text_encoder(size: Size = "tiny", *, width: int = CONTEXT) -> nn.Module:
    layers, heads, vocabulary = (23 if width == 1024 else 12, width // 64, 49408) if size == "full" else (1, 2, 64)
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        bos_token_id=0,
        eos_token_id=1,
    )
    return CLIPTextModel(config)


def tokenizer(folder: Path) -> Any:
    """A CLIP tokenizer that knows the lower-case letters; its files go into the folder."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(letter + "</w>" for letter in letters)]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=77)


def image_unet(size: Size = "tiny") -> nn.Module:
    if size == "full":  # Stable Diffusion 1.4
        return UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8)
    return UNet2DConditionModel(
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=TINY_LEVELS,
        layers_per_block=1,
        cross_attention_dim=CONTEXT,
        attention_head_dim=2,
    )


def video_unet(size: Size = "tiny") -> nn.Module:
    if size == "full":  # zeroscope v2
        return UNet3DConditionModel(cross_attention_dim=1024, attention_head_dim=64)
    return UNet3DConditionModel(
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        block_out_channels=TINY_LEVELS,
        layers_per_block=1,
        cross_attention_dim=CONTEXT,
        attention_head_dim=16,
    )


def svd_networks(in_channels: int, size: Size = "tiny", device: torch.device = CPU) -> SvdNetworks:
    torch.manual_seed(0)
    unet, vae, encoder = svd_unet(in_channels, size), temporal_vae(size), image_encoder(size)
    dtype = working_dtype(device)
    return SvdNetworks(frozen(unet, device, dtype), frozen(vae, device, torch.float32), frozen(encoder, device, dtype))


def text_networks(kind: Literal["image", "video"], folder: Path, size: Size = "tiny", device: torch.device = CPU):
    torch.manual_seed(0)
    unet, vae = (image_unet(size), image_vae(size)) if kind == "image" else (video_unet(size), temporal_vae(size))
    width = unet.config.cross_attention_dim
    dtype = working_dtype(device) if kind == "video" else torch.float32  # as the methods' loaders do
    return TextNetworks(
        frozen(unet, device, dtype),
        frozen(vae, device, torch.float32),
        frozen(text_encoder(size, width=width), device, dtype),
        tokenizer(folder),
    )
