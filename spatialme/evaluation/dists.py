"""DISTS, the distance of textures and structures, on VGG16 weights from this machine: nothing is downloaded."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import vgg16

from spatialme.evaluation.features import load_convolutions, vgg16_features
from spatialme.evaluation.sample import Sample, Scored
from spatialme.evaluation.structure import torchmetrics_image

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
STABILISER = 1e-6  # the paper's c1 and c2
LAYERS = 30  # of torchvision's VGG16 features, up to conv5_3 and its ReLU


class Dists:
    """Deep image structure and texture similarity (Ding et al., TPAMI 2020), a distance; lower is more alike.

    The learnt weights of its channels are those that torchmetrics carries (MIT); torchmetrics' own network cannot be
    used, since making it downloads VGG16.
    """

    smallest_side = 16  # px, VGG16's stride

    def __init__(self, vgg16_weights: Path, *, device: torch.device | str = "cpu"):
        """Load the network; raises what `vgg16_features` and `torchmetrics_image` raise."""
        self._stages = _stages(vgg16_features(vgg16_weights)).to(device)
        content = resources.files(torchmetrics_image()).joinpath("dists_models").joinpath("weights.pt")
        with resources.as_file(content) as path:
            learnt = torch.load(path, device, weights_only=True)
        weights = torch.stack((learnt["alpha"].detach().flatten(), learnt["beta"].detach().flatten()))
        self._weights = weights / weights.sum()  # (2, channels): of the texture and of the structure terms
        self._mean = torch.tensor(IMAGENET_MEAN, device=device).view(3, 1, 1)
        self._std = torch.tensor(IMAGENET_STD, device=device).view(3, 1, 1)

    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        """Distance of pictures (n, 3, H, W) in [0, 1], sides at least `smallest_side`: (n,)."""
        textures, structures = [], []
        for a, b in zip(self._features(first), self._features(second)):
            mean_a, mean_b = a.mean((2, 3)), b.mean((2, 3))
            variance_a, variance_b = a.var((2, 3), correction=0), b.var((2, 3), correction=0)
            covariance = (a * b).mean((2, 3)) - mean_a * mean_b
            textures.append((2 * mean_a * mean_b + STABILISER) / (mean_a**2 + mean_b**2 + STABILISER))
            structures.append((2 * covariance + STABILISER) / (variance_a + variance_b + STABILISER))
        alike = torch.cat(textures, 1) @ self._weights[0] + torch.cat(structures, 1) @ self._weights[1]
        return 1 - alike

    def _features(self, pictures: Tensor) -> list[Tensor]:
        """The pictures themselves and the activations after each stage."""
        found = [pictures]
        x = (pictures - self._mean) / self._std
        for stage in self._stages:
            x = stage(x)
            found.append(x)
        return found


class HannPool(nn.Module):
    """Halve by the root of a Hann-weighted mean of squares, which DISTS has in place of maximum pooling."""

    def __init__(self, channels: int):
        super().__init__()
        window = torch.from_numpy(np.hanning(5)[1:-1]).float()
        kernel = torch.outer(window, window)
        self.register_buffer("kernel", (kernel / kernel.sum()).expand(channels, 1, 3, 3).clone())

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, H, W) -> (n, C, ceil(H / 2), ceil(W / 2))."""
        kernel = self.get_buffer("kernel")
        return (F.conv2d(x.square(), kernel, stride=2, padding=1, groups=len(kernel)) + 1e-12).sqrt()


def texture_distance(sample: Sample, frames: slice) -> Scored:
    """DISTS; undefined without the network, which needs VGG16's weights, or below its smallest side."""
    if sample.dists is None or min(sample.height, sample.width) < sample.dists.smallest_side:
        return Scored()
    return Scored(whole=sample.dists(sample.prediction[frames], sample.truth[frames]))


def _stages(features: dict[str, Tensor]) -> nn.ModuleList:
    """VGG16's layers, split before each pooling, the pooling replaced."""
    with torch.device("meta"):  # the many random numbers of a new network would take seconds to draw
        layers = list(vgg16(weights=None).features.named_children())[:LAYERS]
    stages = nn.ModuleList([nn.Sequential()])
    channels = 3
    for number, layer in layers:
        if isinstance(layer, nn.MaxPool2d):
            stages.append(nn.Sequential(HannPool(channels)))
            continue
        if isinstance(layer, nn.Conv2d):
            channels = layer.out_channels
        stages[-1].add_module(number, layer.to_empty(device="cpu"))
    load_convolutions(stages, features)
    return stages.requires_grad_(False).eval()
