"""VGG19's first layers, for the perceptual loss."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from urllib.error import URLError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from spatialme.depth.network import IMAGENET_MEAN, IMAGENET_STD
from spatialme.errors import WeightsError

# torchvision's `features`: convolutions by their number, "pool" between; every convolution is followed by a ReLU
LAYERS = (0, 2, "pool", 5, 7, "pool", 10, 12, 14, 16, "pool", 19)
TAPS = (5, 10, 19)  # conv2_1, conv3_1, conv4_1, read after their ReLU
CHANNELS = {0: 64, 2: 64, 5: 128, 7: 128, 10: 256, 12: 256, 14: 256, 16: 256, 19: 512}


class Vgg19Features(nn.Module):
    """Frozen features. The weights are buffers outside the state dict: never trained, never saved in a checkpoint."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, weights: Mapping[str, Tensor]):
        """Take weights by torchvision's names, ``0.weight`` to ``19.bias``, as `vgg19_weights` gives them."""
        super().__init__()
        for name, value in weights.items():
            self.register_buffer(_buffer(name), value.float(), persistent=False)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """(B, 3, H, W) RGB in [0, 1] -> the features of each of `TAPS`; sides at least 8."""
        x = (pictures - self.mean) / self.deviation
        features = []
        for layer in LAYERS:
            if layer == "pool":
                x = F.max_pool2d(x, 2)
                continue
            weight, bias = (getattr(self, _buffer(f"{layer}.{part}")) for part in ("weight", "bias"))
            x = F.relu(F.conv2d(x, weight, bias, padding=1))
            if layer in TAPS:
                features.append(x.float())  # losses are taken in full precision, autocast or not
        return features


def vgg19_weights(path: Path | None) -> dict[str, Tensor]:
    """The weights that `Vgg19Features` needs.

    Args:
        path: Torchvision's whole VGG19 or its ``features`` alone, .pth or .safetensors; None: torchvision's own, from
            its cache or downloaded.

    Raises:
        WeightsError: The file is missing, cannot be read or holds another network, or the download failed.
    """
    state = _download() if path is None else _read(path)
    features = {name.removeprefix("features."): value for name, value in state.items()}
    wanted = {}
    before = 3
    for layer, channels in CHANNELS.items():
        weight, bias = features.get(f"{layer}.weight"), features.get(f"{layer}.bias")
        if weight is None or bias is None or tuple(weight.shape) != (channels, before, 3, 3):
            raise WeightsError(
                f"{path} has no VGG19 layer {layer} of {channels} channels; give torchvision's vgg19 file"
            )
        wanted[f"{layer}.weight"], wanted[f"{layer}.bias"] = weight, bias
        before = channels
    return wanted


def _read(path: Path) -> dict[str, Tensor]:
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError, SafetensorError) as error:
        raise WeightsError(
            f"{path} cannot be read as VGG19 weights ({type(error).__name__}); give torchvision's vgg19 file"
        ) from None
    return state if isinstance(state, dict) else {}


def _download() -> dict[str, Tensor]:
    from torchvision.models import VGG19_Weights

    try:
        return dict(VGG19_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True))
    except (URLError, OSError, RuntimeError) as error:
        raise WeightsError(
            f"torchvision's VGG19 cannot be downloaded ({error}); give its file by --model.vgg19, or switch the "
            "perceptual loss off by --model.weights.perceptual 0"
        ) from None


def _buffer(name: str) -> str:
    return f"layer_{name.replace('.', '_')}"
