"""The depth networks that can be trained: how each is made, run, told apart into encoder and decoder, and exported."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from spatialme.depth import dino, tiny
from spatialme.errors import OptionError, WeightsError
from spatialme.training import lora

DepthNetworkName = Literal["tiny", "dino", "anything"]


@dataclass(frozen=True)
class TrainableNetwork:
    """One kind of network."""

    make: Callable[[Path | None, int], nn.Module]  # from where it starts, and the rank of its LoRA
    run: Callable[[nn.Module, Tensor], Tensor]  # normalised (B, 3, H, W) -> (B, 1, h, w) inverse depth
    is_encoder: Callable[[str], bool]  # by a parameter's name
    settings: Callable[[nn.Module], dict[str, Any]]  # what a checkpoint must tell so that it can be made anew
    multiple: int  # of the input's sides
    short_side: int  # px of held-out pictures


def _make_tiny(start: Path | None, rank: int) -> nn.Module:
    _refuse_lora("tiny", rank)
    model = tiny.TinyDepth()
    if start is None:
        return model
    state = _read(start)
    if start.suffix == ".safetensors":
        tiny.load_state(model, state, str(start))
        return model
    features = {name.removeprefix("features."): value for name, value in state.items() if name.startswith("features.")}
    wanted = model.encoder.state_dict()
    if not set(wanted) <= set(features):
        raise WeightsError(f"{start} is not torchvision's MobileNetV2; give its mobilenet_v2-*.pth")
    model.encoder.load_state_dict({name: features[name] for name in wanted})
    return model


def _make_dino(start: Path | None, rank: int) -> nn.Module:
    _refuse_lora("dino", rank)
    if start is not None and start.suffix == ".safetensors":
        return dino.load_dino(start)
    model = dino.DinoDepth()
    if start is not None:
        dino.load_encoder(model.encoder, start)
    return model


def _make_anything(start: Path | None, rank: int) -> nn.Module:
    from spatialme.depth import find_anything

    if start is None:
        raise OptionError("model.start is missing; give the name, .pth or folder of Depth Anything V2 to fine-tune")
    model = find_anything(str(start))
    model.train()
    return lora.add_lora(model, rank) if rank else model


def _refuse_lora(name: str, rank: int) -> None:
    if rank:
        raise OptionError(f"lora_rank is {rank}, expected 0 for {name}; LoRA is for the network `anything`")


def _read(path: Path) -> dict[str, Tensor]:
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read as weights ({type(error).__name__}); fetch it again") from None
    return state if isinstance(state, dict) else {}


NETWORKS: dict[DepthNetworkName, TrainableNetwork] = {
    "tiny": TrainableNetwork(
        make=_make_tiny,
        run=lambda model, images: model(images.contiguous(memory_format=torch.channels_last)),
        is_encoder=lambda name: name.startswith("encoder."),
        settings=lambda model: {},
        multiple=tiny.SIDE_MULTIPLE,
        short_side=tiny.DEFAULT_SHORT_SIDE,
    ),
    "dino": TrainableNetwork(
        make=_make_dino,
        run=lambda model, images: model(images),
        is_encoder=lambda name: name.startswith("encoder."),
        settings=lambda model: {},
        multiple=dino.PATCH,
        short_side=dino.DEFAULT_SHORT_SIDE,
    ),
    "anything": TrainableNetwork(
        make=_make_anything,
        run=lambda model, images: model(pixel_values=images).predicted_depth.unsqueeze(1),
        is_encoder=lambda name: name.startswith("backbone."),
        settings=lambda model: {"config": cast(Any, model).config.to_dict()},
        multiple=14,
        short_side=252,
    ),
}
