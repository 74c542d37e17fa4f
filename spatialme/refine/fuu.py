"""Feature Update Unit: an encoder feature updated by the next coarser one (SpatialMe, equations 4-7)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FeatureUpdateUnit(nn.Module):
    """Gate between two updates that both see the fine feature f and the upsampled coarse feature u.

    ``z = sigmoid(conv([f, u]))``, ``q = tanh(conv([f, u]))``, ``r = tanh(conv([f, u]))``, ``f_out = q*z + (1 - z)*r``,
    where the three 3x3 convolutions share no weights. They are held as one convolution with three times the channels,
    in the order z, q, r: the same numbers, and the input is read once instead of three times.
    """

    def __init__(self, channels: int, coarse_channels: int) -> None:
        super().__init__()
        self.convolutions = nn.Conv2d(channels + coarse_channels, 3 * channels, 3, padding=1)

    def forward(self, feature: Tensor, coarse: Tensor) -> Tensor:
        """Update `feature`, (B, channels, h, w), by `coarse`, (B, coarse_channels, any size); result in (-1, 1)."""
        upsampled = F.interpolate(coarse, size=feature.shape[-2:], mode="bilinear", align_corners=False)
        gate, fine, broad = self.convolutions(torch.cat([feature, upsampled], dim=1)).chunk(3, dim=1)
        # q*z + (1 - z)*r, written as one interpolation from r to q
        return torch.lerp(torch.tanh(broad), torch.tanh(fine), torch.sigmoid(gate))
