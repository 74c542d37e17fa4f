"""The critic that tells real right views from refined ones, patch by patch."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

DEFAULT_CHANNELS = (64, 128, 256)


class PatchCritic(nn.Module):
    """Strided convolutions under spectral normalisation, the Lipschitz constraint of equation 10.

    With the default channels each score judges a patch of 46x46 px. Spectral normalisation bounds every layer's norm by
    1 (Miyato et al. 2018), reshaped as a matrix, which bounds the whole up to a constant. It keeps a running estimate
    that moves with every pass in training mode; the buffers are part of the state.
    """

    def __init__(self, channels: tuple[int, ...] = DEFAULT_CHANNELS):
        """Set the channels; every level halves the size."""
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise((3, *channels)):
            layers += [spectral_norm(nn.Conv2d(before, after, 4, stride=2, padding=1)), nn.LeakyReLU(0.2)]
        layers.append(spectral_norm(nn.Conv2d(channels[-1], 1, 4, padding=1)))
        self.layers = nn.Sequential(*layers)

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in [0, 1] -> (B, 1, h, w) unbounded scores, larger = more real."""
        return self.layers(2 * pictures - 1).float()  # losses are taken in full precision, autocast or not
