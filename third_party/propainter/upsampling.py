"""Doubling the size of a feature map before a convolution, as both decoders do."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class UpsampledConv(nn.Module):
    """Bilinear times two (corners aligned), then a 3x3 convolution: (N, in, h, w) -> (N, out, 2 h, 2 w)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        return self.conv(F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=True))
