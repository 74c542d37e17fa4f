"""Image-classification features that perceptual metrics are made of: where their weights come from."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file
from torch import Tensor, nn

from spatialme.errors import WeightsError

ALEXNET_FILE = "alexnet_features.safetensors"


def alexnet_features() -> dict[str, Tensor]:
    """The package's AlexNet features (torchvision, BSD-3), float32 by torchvision's keys; the file is in half."""
    content = resources.files("spatialme").joinpath("assets").joinpath(ALEXNET_FILE).read_bytes()
    return {name: value.float() for name, value in load(content).items()}


def vgg16_features(path: Path) -> dict[str, Tensor]:
    """VGG16's features out of a file: torchvision's whole network or its ``features`` alone, .pth or .safetensors.

    Raises:
        WeightsError: The file is missing, cannot be read, or holds another network.
    """
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError, SafetensorError) as error:
        raise WeightsError(
            f"{path} cannot be read as VGG16 weights ({type(error).__name__}); give torchvision's vgg16 file"
        ) from error
    state = state if isinstance(state, dict) else {}
    features = {name.removeprefix("features."): value for name, value in state.items() if "classifier" not in name}
    first, last = features.get("0.weight"), features.get("28.weight")
    if first is None or last is None or tuple(first.shape) != (64, 3, 3, 3) or tuple(last.shape) != (512, 512, 3, 3):
        raise WeightsError(f"{path} holds no VGG16 features (0.weight to 28.bias); give torchvision's vgg16 file")
    return {name: value.float() for name, value in features.items()}


def load_convolutions(network: nn.Module, features: Mapping[str, Tensor]) -> None:
    """Put weights into every convolution of `network`, by the last part of its name: torchvision's layer number."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            number = name.rpartition(".")[2]
            module.load_state_dict({part: features[f"{number}.{part}"] for part in ("weight", "bias")})
