"""Per-frame encoder and decoder of the inpainting network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .upsampling import UpsampledConv

FEATURE_CHANNELS = 128
REDUCTION = 4  # feature maps have a quarter of the frame's height and width


class Encoder(nn.Module):
    """Nine 3x3 convolutions; from the sixth on each sees the fourth's output again, group by group.

    The result for a frame depends on nothing but that frame and its masks, so it can be kept between windows.
    """

    def __init__(self) -> None:
        super().__init__()
        first = [
            nn.Conv2d(5, 64, 3, stride=2, padding=1),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.Conv2d(64, 128, 3, stride=2, padding=1),
            nn.Conv2d(128, 256, 3, padding=1),
            nn.Conv2d(256, 384, 3, padding=1),
        ]
        grouped = [
            nn.Conv2d(640, 512, 3, padding=1, groups=2),
            nn.Conv2d(768, 384, 3, padding=1, groups=4),
            nn.Conv2d(640, 256, 3, padding=1, groups=8),
            nn.Conv2d(512, FEATURE_CHANNELS, 3, padding=1),
        ]
        # one flat list with the activations in between: the checkpoints' indices are 0, 2, ..., 16
        self.layers = nn.ModuleList()
        for conv in (*first, *grouped):
            self.layers.extend((conv, nn.LeakyReLU(0.2, inplace=True)))

    def forward(self, frames: Tensor) -> Tensor:
        """(N, 5, H, W): RGB in [-1, 1], hole mask, mask of what is still unfilled -> (N, 128, H / 4, W / 4)."""
        features = frames
        for layer in self.layers[:8]:
            features = layer(features)
        skip = features
        for layer in self.layers[8:10]:
            features = layer(features)
        for conv, activation in zip(self.layers[10::2], self.layers[11::2]):
            assert isinstance(conv, nn.Conv2d)
            features = activation(conv(_join_by_group(skip, features, conv.groups)))
        return features


def _join_by_group(first: Tensor, second: Tensor, groups: int) -> Tensor:
    """Concatenate channels so that each group of a grouped convolution sees its share of both."""
    pairs = zip(first.chunk(groups, dim=1), second.chunk(groups, dim=1))
    return torch.cat([share for pair in pairs for share in pair], dim=1)


def build_decoder() -> nn.Sequential:
    """(N, 128, h, w) features -> (N, 3, 4 h, 4 w) colours before the tanh."""
    return nn.Sequential(
        UpsampledConv(FEATURE_CHANNELS, 128),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(128, 64, 3, padding=1),
        nn.LeakyReLU(0.2, inplace=True),
        UpsampledConv(64, 64),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(64, 3, 3, padding=1),
    )
