"""Modulated deformable convolution that predicts its own offsets; aligns one frame's features with another's."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

CHANNELS = 128
GROUPS = 16  # each group of input channels has offsets of its own
KERNEL_SIZE = 3


class DeformableAlignment(nn.Module):
    """A 3x3 deformable convolution (DCNv2) whose offsets and weights are read off a condition.

    Args:
        in_channels: Of the features to be aligned.
        condition_channels: Of what offsets are predicted from.
        largest_offset_px: Offsets are this times a tanh, on top of the flow if there is one.
    """

    def __init__(self, in_channels: int, condition_channels: int, *, largest_offset_px: float) -> None:
        super().__init__()
        self.largest_offset_px = largest_offset_px
        self.weight = nn.Parameter(torch.empty(CHANNELS, in_channels, KERNEL_SIZE, KERNEL_SIZE))
        self.bias = nn.Parameter(torch.zeros(CHANNELS))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        self.conv_offset = nn.Sequential(
            nn.Conv2d(condition_channels, CHANNELS, 3, padding=1),
            nn.LeakyReLU(0.1, inplace=True),
            nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
            nn.LeakyReLU(0.1, inplace=True),
            nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
            nn.LeakyReLU(0.1, inplace=True),
            nn.Conv2d(CHANNELS, 3 * GROUPS * KERNEL_SIZE**2, 3, padding=1),
        )

    def forward(self, features: Tensor, condition: Tensor, flow: Tensor | None = None) -> Tensor:
        """Sample the features around where the flow leads.

        Sampling runs in float32 whatever the input, because it adds offsets to pixel positions.

        Args:
            features: (N, in_channels, h, w), not warped.
            condition: (N, condition_channels, h, w).
            flow: (N, 2, h, w) pixels, (u, v); none means zero.

        Returns:
            (N, 128, h, w) in the features' dtype.
        """
        predicted = self.conv_offset(condition).float()
        offsets, modulation = predicted.split((2 * GROUPS * KERNEL_SIZE**2, GROUPS * KERNEL_SIZE**2), dim=1)
        offsets = self.largest_offset_px * torch.tanh(offsets)
        if flow is not None:
            offsets = offsets + flow.float().flip(1).repeat(1, GROUPS * KERNEL_SIZE**2, 1, 1)  # (dy, dx) pairs
        aligned = deform_conv2d(
            features.float().contiguous(),
            offsets,
            self.weight.float(),
            self.bias.float(),
            padding=KERNEL_SIZE // 2,
            mask=torch.sigmoid(modulation),
        )
        return aligned.to(features.dtype)
