"""LPIPS, by the package `lpips` (this is its one importer) on weights from this machine: nothing is downloaded."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from spatialme.errors import SpatialmeError
from spatialme.evaluation.features import alexnet_features, load_convolutions, vgg16_features
from spatialme.evaluation.sample import Sample, Scored


class Lpips:
    """Learned perceptual image patch similarity, version 0.1 (Zhang et al., CVPR 2018); lower is more alike."""

    smallest_side = 32  # px; AlexNet's last pooling has nothing left below

    def __init__(self, *, vgg16_weights: Path | None = None, device: torch.device | str = "cpu"):
        """Load the network.

        Args:
            vgg16_weights: Makes it LPIPS on VGG16, with these; see `vgg16_features`. None: on AlexNet, whose weights
                come with the package.
            device: Where it runs; the pictures must be there.

        Raises:
            WeightsError: The file does not hold VGG16.
            SpatialmeError: The package `lpips` is not installed.
        """
        self.name = "alex" if vgg16_weights is None else "vgg"
        features = alexnet_features() if vgg16_weights is None else vgg16_features(vgg16_weights)
        self._model = _lpips_model(self.name)
        load_convolutions(self._model.net, features)
        self._model.requires_grad_(False).eval().to(device)

    def to(self, device: torch.device | str) -> None:
        """Move the network, in place."""
        self._model.to(device)

    def __call__(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Distance of pictures and where it lies.

        Args:
            first: (n, 3, H, W) RGB in [0, 1]; sides at least `smallest_side`.
            second: The same size.

        Returns:
            (n,), the published value, averaged over each layer's own grid; and (n, 1, H, W), the layers' maps
            enlarged to the picture and added, whose mean is close to it (the package's ``spatial`` mode).
        """
        total = first.new_zeros(len(first))
        picture = torch.zeros_like(first[:, :1])
        layers = zip(self._features(first), self._features(second), self._model.lins)
        for first_layer, second_layer, weigh in layers:
            distance = weigh((first_layer - second_layer).square())
            total = total + distance.mean((1, 2, 3))
            picture = picture + F.interpolate(distance, size=first.shape[2:], mode="bilinear", align_corners=False)
        return total, picture

    def _features(self, pictures: Tensor) -> list[Tensor]:
        """Activations of each layer, of unit length per position."""
        layers = self._model.net(self._model.scaling_layer(2 * pictures - 1))
        return [layer / (layer.square().sum(1, keepdim=True).sqrt() + 1e-10) for layer in layers]


def lpips_alex(sample: Sample, frames: slice) -> Scored:
    """LPIPS on AlexNet; undefined without the network or below its smallest side."""
    return _lpips(sample.lpips, sample, frames)


def lpips_vgg(sample: Sample, frames: slice) -> Scored:
    """LPIPS on VGG16; undefined without the network or below its smallest side."""
    return _lpips(sample.lpips_vgg, sample, frames)


def _lpips(network: Lpips | None, sample: Sample, frames: slice) -> Scored:
    if network is None or min(sample.height, sample.width) < network.smallest_side:
        return Scored()
    whole, where = network(sample.prediction[frames], sample.truth[frames])
    return Scored(where, whole=whole)


def _lpips_model(network: str) -> Any:
    """The package's model with its learnt heads and a random network below them."""
    try:
        import lpips
    except ImportError as error:
        raise SpatialmeError("lpips is not installed and LPIPS needs it; run `pip install lpips`") from error
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(pretrained|weight enum).*")  # how it calls torchvision
        return lpips.LPIPS(net=network, pnet_rand=True, verbose=False)
