"""Soft split and soft composition: overlapping 7x7 patches, three pixels apart, as tokens and back.

A linear layer over unfolded patches is a strided convolution, and folding the patches that a linear layer gives is a
transposed one. Both are computed that way, so the unfolded patches, 5.4 times the features, never exist (1.8 times
the speed on a CPU); the weights keep the linear layers' shapes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .encoder import FEATURE_CHANNELS

PATCH = 7
STRIDE = 3
PADDING = 3
TOKEN_CHANNELS = 512


def split_patches(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Apply a linear layer to every patch.

    Args:
        features: (N, C, h, w).
        weight: (D, C * 49), the patch's values in the order of `torch.nn.functional.unfold`.
        bias: (D,).

    Returns:
        (N, rows, columns, D) with one row per started three feature rows.
    """
    kernel = weight.view(len(weight), -1, PATCH, PATCH)
    return F.conv2d(features, kernel, bias, stride=STRIDE, padding=PADDING).permute(0, 2, 3, 1)


def sum_patches(tokens: Tensor, weight: Tensor, bias: Tensor, size: tuple[int, int]) -> Tensor:
    """Apply a linear layer that gives a patch to every token, and add up the patches where they overlap.

    Args:
        tokens: (N, rows, columns, D).
        weight: (C * 49, D).
        bias: (C * 49,), added once per patch.
        size: (h, w) of the result.

    Returns:
        (N, C, h, w).
    """
    rows, columns = tokens.shape[1:3]
    surplus = (size[0] - (STRIDE * (rows - 1) + 1), size[1] - (STRIDE * (columns - 1) + 1))
    kernel = weight.t().reshape(tokens.shape[-1], -1, PATCH, PATCH)
    total = F.conv_transpose2d(
        tokens.permute(0, 3, 1, 2), kernel, stride=STRIDE, padding=PADDING, output_padding=surplus
    )
    every_token = torch.ones((1, 1, rows, columns), dtype=tokens.dtype, device=tokens.device)
    total_bias = F.conv_transpose2d(
        every_token, bias.view(1, -1, PATCH, PATCH), stride=STRIDE, padding=PADDING, output_padding=surplus
    )
    return total + total_bias


def count_patches(size: tuple[int, int], like: Tensor) -> Tensor:
    """How many patches cover each feature pixel: (1, 1, h, w) in the dtype and on the device of `like`."""
    pixels = torch.ones((1, 1, *size), dtype=like.dtype, device=like.device)
    return F.fold(F.unfold(pixels, PATCH, padding=PADDING, stride=STRIDE), size, PATCH, padding=PADDING, stride=STRIDE)


class SoftSplit(nn.Module):
    """Features (N, 128, h, w) to tokens (N, rows, columns, 512)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(FEATURE_CHANNELS * PATCH**2, TOKEN_CHANNELS)

    def forward(self, features: Tensor) -> Tensor:
        return split_patches(features, self.embedding.weight, self.embedding.bias)


class SoftComposition(nn.Module):
    """Tokens (N, rows, columns, 512) to features (N, 128, h, w)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(TOKEN_CHANNELS, FEATURE_CHANNELS * PATCH**2)
        self.bias_conv = nn.Conv2d(FEATURE_CHANNELS, FEATURE_CHANNELS, 3, padding=1)

    def forward(self, tokens: Tensor, size: tuple[int, int]) -> Tensor:
        return self.bias_conv(sum_patches(tokens, self.embedding.weight, self.embedding.bias, size))


class PatchFeedForward(nn.Module):
    """Feed-forward layer that mixes neighbouring tokens where their patches overlap (FuseFormer, 2021)."""

    HIDDEN_CHANNELS = 40  # 40 * 49 = 1960 values per token

    def __init__(self) -> None:
        super().__init__()
        hidden = self.HIDDEN_CHANNELS * PATCH**2
        # sequences only for the checkpoints' names, fc1.0 and fc2.1
        self.fc1 = nn.Sequential(nn.Linear(TOKEN_CHANNELS, hidden))
        self.fc2 = nn.Sequential(nn.GELU(), nn.Linear(hidden, TOKEN_CHANNELS))

    def forward(self, tokens: Tensor, patch_count: Tensor) -> Tensor:
        """Tokens (N, rows, columns, 512) and `count_patches` of the feature size to tokens."""
        widen, (activation, narrow) = self.fc1[0], self.fc2
        assert isinstance(widen, nn.Linear)
        assert isinstance(narrow, nn.Linear)
        height, width = patch_count.shape[-2:]
        mean = sum_patches(tokens, widen.weight, widen.bias, (height, width)) / patch_count
        # the activation is taken before patches are split instead of after: the same values, once each
        return split_patches(activation(mean), narrow.weight, narrow.bias)
