"""Depth Anything V2 (L. Yang et al., NeurIPS 2024), run through transformers' implementation.

Weights come as a transformers folder, a hub id, or the authors' own `.pth`, whose names are mapped here.
"""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spatialme.depth.network import IMAGENET_MEAN, IMAGENET_STD, fit_size
from spatialme.errors import WeightsError
from spatialme.weights import TIMEOUT_SECONDS

PATCH = 14  # px; both sides of the input are multiples of it
DEFAULT_SHORT_SIDE = 518  # as published; the size that the networks were trained at
HEAD_WIDTH = 64  # channels per attention head in all DINOv2 encoders
# Encoder blocks whose output the decoder reads, counted from 1, by the encoder's depth; others: every quarter.
TAPPED_BLOCKS = {24: (5, 12, 18, 24)}

# The authors' names -> transformers'. Attention and the fusion stages need more than a pattern, see below.
_RENAMED = (
    (r"pretrained\.(cls_token|mask_token)", r"backbone.embeddings.\1"),
    (r"pretrained\.pos_embed", r"backbone.embeddings.position_embeddings"),
    (r"pretrained\.patch_embed\.proj\.(.*)", r"backbone.embeddings.patch_embeddings.projection.\1"),
    (r"pretrained\.norm\.(.*)", r"backbone.layernorm.\1"),
    (r"pretrained\.blocks\.(\d+)\.ls([12])\.gamma", r"backbone.encoder.layer.\1.layer_scale\2.lambda1"),
    (r"pretrained\.blocks\.(\d+)\.(norm[12]|mlp\.fc[12])\.(.*)", r"backbone.encoder.layer.\1.\2.\3"),
    (r"depth_head\.projects\.(\d)\.(.*)", r"neck.reassemble_stage.layers.\1.projection.\2"),
    (r"depth_head\.resize_layers\.(\d)\.(.*)", r"neck.reassemble_stage.layers.\1.resize.\2"),
    (r"depth_head\.scratch\.output_conv1\.(.*)", r"head.conv1.\1"),
    (r"depth_head\.scratch\.output_conv2\.0\.(.*)", r"head.conv2.\1"),
    (r"depth_head\.scratch\.output_conv2\.2\.(.*)", r"head.conv3.\1"),
)


class AnythingNetwork:
    """Resizes and normalises frames as published and runs Depth Anything V2; a `network.DepthNetwork`."""

    def __init__(self, model: nn.Module, *, name: str, device: torch.device, short_side: int | None = None):
        self.name = name
        self.device = device
        self.short_side = short_side or DEFAULT_SHORT_SIDE
        self.dtype = torch.float16 if device.type == "cuda" else torch.float32
        self._model = model.eval().requires_grad_(False).to(device=device, dtype=self.dtype)
        self._mean = torch.tensor(IMAGENET_MEAN, device=device).view(3, 1, 1)
        self._std = torch.tensor(IMAGENET_STD, device=device).view(3, 1, 1)

    def __call__(self, frames: Tensor) -> Tensor:
        """(T, 3, H, W) RGB in [0, 1] -> (T, 1, h, w) raw inverse depth at the network's input size."""
        size = fit_size(frames.shape[-2:], self.short_side, PATCH)
        images = F.interpolate(frames.to(self.device), size=size, mode="bicubic", antialias=True, align_corners=False)
        images = ((images.clamp(0, 1) - self._mean) / self._std).to(self.dtype)
        return self._model(pixel_values=images).predicted_depth.unsqueeze(1).float()


def load(source: str | Path) -> nn.Module:
    """The network of the authors' ``.pth``, a transformers folder, or a hub id.

    Raises:
        WeightsError: It is not here, or holds something else.
    """
    path = Path(source)
    if path.suffix.lower() not in (".pth", ".pt"):
        return load_pretrained(source)
    if not path.is_file():
        raise WeightsError(f"{source} does not exist; give the path of a depth_anything_v2_vit*.pth")
    return load_official(path)


def load_official(path: Path) -> nn.Module:
    """Build the network that fits the authors' checkpoint, and load it.

    Raises:
        WeightsError: Not a Depth Anything V2 checkpoint.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen unrelated types for a damaged file
        raise WeightsError(f"{path} is not a PyTorch checkpoint ({type(error).__name__}); fetch it again") from None
    return from_official(state, str(path))


def from_official(state: dict[str, Tensor], origin: str) -> nn.Module:
    """The network of a state dict with the authors' names; `origin` is for the error."""
    from transformers import DepthAnythingForDepthEstimation

    try:
        model = DepthAnythingForDepthEstimation(_config(state))
        renamed = dict(rename_official(state, modern=_is_modern(model)))
        wanted = model.state_dict()
        wrong = (renamed.keys() ^ wanted.keys()) - {"backbone.embeddings.mask_token"}  # only training uses it
        model.load_state_dict({name: renamed[name] for name in wanted if name in renamed}, strict=False)
    except (KeyError, ValueError, RuntimeError, AttributeError) as error:
        wrong = {f"{type(error).__name__}: {error}"}
    if wrong:
        raise WeightsError(
            f"{origin} does not fit Depth Anything V2 ({len(wrong)} entries differ, as {sorted(wrong)[0]}); give the "
            "official depth_anything_v2_vit*.pth or a transformers folder"
        )
    return model


def load_pretrained(source: str | Path) -> nn.Module:
    """Load a transformers folder or hub id; the hub is asked only for what is not in its cache.

    Raises:
        WeightsError: Nothing of that name here, and the hub cannot be reached or does not have it.
    """
    from transformers import DepthAnythingForDepthEstimation

    try:
        return DepthAnythingForDepthEstimation.from_pretrained(source, local_files_only=True)
    except (OSError, ValueError) as error:
        if Path(source).exists():
            raise WeightsError(
                f"{source} holds no Depth Anything network that transformers can read ({error})"
            ) from None
    try:
        _reach_hub()
        return DepthAnythingForDepthEstimation.from_pretrained(source)
    except Exception as error:  # the hub's client raises its own, requests' and OSErrors
        raise WeightsError(
            f"{source} is neither here nor on the hub ({type(error).__name__}); check the name and the network, or "
            "use --depth tiny"
        ) from None


def _reach_hub() -> None:
    """Raise OSError at once where there is no network: the hub's own client would try for half a minute, aloud."""
    from huggingface_hub.constants import ENDPOINT

    with urllib.request.urlopen(urllib.request.Request(ENDPOINT, method="HEAD"), timeout=TIMEOUT_SECONDS):
        pass


def rename_official(state: dict[str, Tensor], *, modern: bool) -> Iterator[tuple[str, Tensor]]:
    """Yield the checkpoint's tensors under transformers' names; a name that is not known stays as it is.

    Args:
        state: With the authors' names (DINOv2's encoder, DPT's decoder).
        modern: Attention is named as in transformers 5 (`q_proj`), not as in 4 (`attention.query`).
    """
    for name, value in state.items():
        block = re.fullmatch(r"pretrained\.blocks\.(\d+)\.attn\.(qkv|proj)\.(weight|bias)", name)
        if block is None:
            yield _renamed(name), value
            continue
        attention = f"backbone.encoder.layer.{block[1]}.attention."
        if block[2] == "proj":
            yield attention + ("o_proj." if modern else "output.dense.") + block[3], value
            continue
        parts = ("q_proj", "k_proj", "v_proj") if modern else tuple(f"attention.{n}" for n in ("query", "key", "value"))
        for part, chunk in zip(parts, value.chunk(3)):  # one matrix holds query, key and value, in this order
            yield f"{attention}{part}.{block[3]}", chunk


def _renamed(name: str) -> str:
    for pattern, replacement in _RENAMED:
        if re.fullmatch(pattern, name):
            return re.sub(pattern, replacement, name)
    found = re.fullmatch(r"depth_head\.scratch\.layer([1-4])_rn\.weight", name)
    if found:
        return f"neck.convs.{int(found[1]) - 1}.weight"
    found = re.fullmatch(r"depth_head\.scratch\.refinenet([1-4])\.(.*)", name)
    if found:  # the authors count from the finest level, transformers from the coarsest
        inner = found[2].replace("out_conv", "projection")
        inner = re.sub(r"resConfUnit([12])\.conv([12])", r"residual_layer\1.convolution\2", inner)
        return f"neck.fusion_stage.layers.{4 - int(found[1])}.{inner}"
    return name


def _is_modern(model: nn.Module) -> bool:
    return any(name.endswith("attention.q_proj.weight") for name in model.state_dict())


def _config(state: dict[str, Tensor]) -> Any:
    """The configuration that the tensors' shapes tell."""
    from transformers import DepthAnythingConfig, Dinov2Config

    width = state["pretrained.cls_token"].shape[-1]
    patches = state["pretrained.pos_embed"].shape[1] - 1
    depth = 1 + max(int(name.split(".")[2]) for name in state if name.startswith("pretrained.blocks."))
    tapped = TAPPED_BLOCKS.get(depth, tuple(depth * quarter // 4 for quarter in (1, 2, 3, 4)))
    backbone_settings: dict[str, Any] = dict(
        hidden_size=width,
        num_attention_heads=width // HEAD_WIDTH,
        num_hidden_layers=depth,
        image_size=round(patches**0.5) * PATCH,
        patch_size=PATCH,
        out_features=[f"stage{block}" for block in tapped],
        apply_layernorm=True,
        reshape_hidden_states=False,
    )
    return DepthAnythingConfig(
        backbone_config=Dinov2Config(**backbone_settings),
        patch_size=PATCH,
        reassemble_hidden_size=width,
        neck_hidden_sizes=[state[f"depth_head.projects.{level}.weight"].shape[0] for level in range(4)],
        fusion_hidden_size=state["depth_head.scratch.layer1_rn.weight"].shape[0],
        head_hidden_size=state["depth_head.scratch.output_conv2.0.weight"].shape[0],
    )
