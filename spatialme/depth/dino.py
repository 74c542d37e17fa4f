"""`dino`: DINOv2's features (M. Oquab et al., TMLR 2024; T. Darcet et al., ICLR 2024) read by a light decoder.

The teacher of `tiny`. Its weights are a file of one's own making (`spatialme fit --config configs/fit/depth_dino.yaml`,
`spatialme weights export`), found as ``dino.safetensors`` in the weights folder or given by its path.

tokens of four blocks -> one width -> fused from deep to shallow, each finer than the one before -> the picture's edges
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from spatialme.depth.network import IMAGENET_MEAN, IMAGENET_STD, fit_size
from spatialme.errors import WeightsError

PATCH = 14  # px; both sides of the input are multiples of it
BLOCKS = (3, 6, 9, 12)  # whose tokens the decoder reads
SCALES = (4, 2, 1, 0.5)  # of the token grid, at which each is fused
TOKEN_WIDTH, HEADS, REGISTERS = 384, 6, 4  # ViT-S
TRAINED_SIDE = 518  # px, of the pictures that the position codes belong to
DEFAULT_SHORT_SIDE = 252

# the authors' names -> transformers'; query, key and value are one matrix there, see `rename_dinov2`
_RENAMED = (
    (r"(cls_token|mask_token|register_tokens)", r"embeddings.\1"),
    (r"pos_embed", r"embeddings.position_embeddings"),
    (r"patch_embed\.proj\.(.*)", r"embeddings.patch_embeddings.projection.\1"),
    (r"norm\.(.*)", r"layernorm.\1"),
    (r"blocks\.(\d+)\.ls([12])\.gamma", r"encoder.layer.\1.layer_scale\2.lambda1"),
    (r"blocks\.(\d+)\.(norm[12]|mlp\.fc[12])\.(.*)", r"encoder.layer.\1.\2.\3"),
)


class Residual(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class DinoDepth(nn.Module):
    """(N, 3, H, W) ImageNet-normalised RGB, sides multiples of 14 -> (N, 1, 2H/7, 2W/7) inverse depth, larger = nearer.

    Scale and offset of the result are arbitrary.
    """

    def __init__(self, width: int = 64):
        super().__init__()
        self.encoder = make_encoder()
        self.projections = nn.ModuleList(nn.Conv2d(TOKEN_WIDTH, width, 1) for _ in BLOCKS)
        self.fusions = nn.ModuleList(Residual(width) for _ in BLOCKS)
        # the tokens are 14 px wide: where exactly an edge runs only the picture itself tells
        self.edges = nn.Sequential(
            *(nn.Conv2d(3, 24, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(24, width, 3, stride=2, padding=1))
        )
        self.refine = Residual(width)
        self.head = nn.Sequential(nn.ReLU(), nn.Conv2d(width, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        features = self.encoder(images).feature_maps
        rows, columns = images.shape[-2] // PATCH, images.shape[-1] // PATCH
        fused: Tensor | None = None
        for feature, project, fuse, scale in list(zip(features, self.projections, self.fusions, SCALES))[::-1]:
            size = max(1, round(rows * scale)), max(1, round(columns * scale))
            level = _resized(project(feature), size)
            fused = fuse(level if fused is None else level + _resized(fused, size))
        assert fused is not None
        return self.head(self.refine(fused + _resized(self.edges(images), fused.shape[-2:])))


class DinoNetwork:
    """Resizes and normalises frames for `DinoDepth` and runs it; a `network.DepthNetwork`."""

    name = "dino"

    def __init__(self, model: nn.Module, *, device: torch.device, short_side: int | None = None):
        self.device = device
        self.short_side = short_side or DEFAULT_SHORT_SIDE
        self._model = model.eval().requires_grad_(False).to(device)
        self._mean = torch.tensor(IMAGENET_MEAN, device=device).view(3, 1, 1)
        self._std = torch.tensor(IMAGENET_STD, device=device).view(3, 1, 1)

    def __call__(self, frames: Tensor) -> Tensor:
        """(T, 3, H, W) RGB in [0, 1] -> (T, 1, h, w) raw inverse depth."""
        size = fit_size(frames.shape[-2:], self.short_side, PATCH)
        images = F.interpolate(frames.to(self.device), size=size, mode="bilinear", antialias=True, align_corners=False)
        return self._model((images - self._mean) / self._std).float()


def load_dino(path: Path) -> DinoDepth:
    """The network of a file made by `spatialme weights export`.

    Raises:
        WeightsError: The file is missing or holds something else.
    """
    model = DinoDepth()
    try:
        model.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    except (OSError, RuntimeError, SafetensorError) as error:
        raise WeightsError(
            f"{path} does not hold the dino depth network ({type(error).__name__}); make it by `spatialme fit --config "
            "configs/fit/depth_dino.yaml` and `spatialme weights export`"
        ) from None
    return model


def make_encoder() -> nn.Module:
    """DINOv2 ViT-S/14 with registers, giving the feature maps of `BLOCKS`; its weights are random."""
    from transformers import Dinov2WithRegistersBackbone, Dinov2WithRegistersConfig

    settings: dict[str, Any] = dict(
        hidden_size=TOKEN_WIDTH,
        num_attention_heads=HEADS,
        num_hidden_layers=max(BLOCKS),
        image_size=TRAINED_SIDE,
        patch_size=PATCH,
        num_register_tokens=REGISTERS,
        out_features=[f"stage{block}" for block in BLOCKS],
    )
    return Dinov2WithRegistersBackbone(Dinov2WithRegistersConfig(**settings))


def load_encoder(encoder: nn.Module, path: Path) -> None:
    """Fill an encoder with the authors' checkpoint, ``dinov2_vits14_reg4_pretrain.pth`` or its like.

    Raises:
        WeightsError: The file is missing or holds something else.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        encoder.load_state_dict(rename_dinov2(state, set(encoder.state_dict())))
    except Exception as error:  # torch raises half a dozen unrelated types for a damaged file
        raise WeightsError(
            f"{path} does not hold DINOv2 ViT-S/14 with registers ({type(error).__name__}); give the authors' "
            "dinov2_vits14_reg4_pretrain.pth"
        ) from None


def rename_dinov2(state: dict[str, Tensor], known: set[str]) -> dict[str, Tensor]:
    """The authors' tensors under transformers' names, of which `known` says how attention is called there."""
    modern = any(name.endswith("q_proj.weight") for name in known)  # transformers 5, not 4
    parts = ("q_proj", "k_proj", "v_proj") if modern else tuple(f"attention.{n}" for n in ("query", "key", "value"))
    renamed = {}
    for name, value in state.items():
        block = re.fullmatch(r"blocks\.(\d+)\.attn\.(qkv|proj)\.(weight|bias)", name)
        if block is None:
            renamed[_renamed(name)] = value
            continue
        attention = f"encoder.layer.{block[1]}.attention."
        if block[2] == "proj":
            renamed[f"{attention}{'o_proj' if modern else 'output.dense'}.{block[3]}"] = value
        else:
            renamed |= {f"{attention}{part}.{block[3]}": chunk for part, chunk in zip(parts, value.chunk(3))}
    return renamed


def _renamed(name: str) -> str:
    for pattern, replacement in _RENAMED:
        if re.fullmatch(pattern, name):
            return re.sub(pattern, replacement, name)
    return name


def _resized(x: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)
