"""The mask-based hierarchical feature update refiner (SpatialMe, III.C, equations 1-7).

    poly, expansion, dl (, hole)
      |
    encoder 0 --- f0 --FUU(f0, f1)-- decoder 0 -- tail: three 3x3 convolutions -- M1, M2, M3, C
      | half size                       |
    encoder 1 --- f1 --FUU(f1, f2)-- decoder 1
      |                                 |
     ...                               ...
    encoder n --- fn -------------------+

An update sees the encoder's own coarser feature, not the updated one; the deepest feature passes unchanged. There is
no normalisation layer, so that a pixel's result does not depend on what the rest of the frame shows.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spatialme.refine.fuu import FeatureUpdateUnit

INITIAL_M1 = 0.5  # share of poly against expansion
INITIAL_M2 = 0.5  # share of these two against dl
INITIAL_M3 = 0.9975  # share of the three branches against new content
INITIAL_CONTENT = 0.5  # mid-grey
M2_CHANNEL, M3_CHANNEL, CONTENT_CHANNELS = 1, 2, (3, 4, 5)  # of the tail's output


@dataclass(frozen=True)
class MHFUSize:
    """What fixes the shape of a refiner."""

    channels: tuple[int, ...]  # of the encoder levels, finest first; each level halves the size
    hole_input: bool = True  # this project's addition; the paper's configuration runs without

    def __post_init__(self) -> None:
        if len(self.channels) < 2 or min(self.channels) < 1:
            raise ValueError(f"channels must be at least two positive numbers, got {self.channels}")

    @property
    def step_px(self) -> int:
        """Side of the coarsest level's pixels."""
        return 2 ** (len(self.channels) - 1)

    @property
    def reach_px(self) -> int:
        """No pixel of the answer depends on input farther away than this: 58 px for four levels.

        The longest way leads down to the coarsest level and through every decoder up again. A 3x3 convolution reaches
        one pixel of its level, an enlargement one of the coarser level.
        """
        deepest = len(self.channels) - 1
        down = 2 + sum(2 ** (level - 1) + 2**level for level in range(1, deepest + 1))
        up = sum(2 ** (level + 1) + 2 * 2**level for level in range(deepest))
        update, tail = 2 ** (deepest - 1), 3
        return down + update + up + tail


SIZES = {
    "small": MHFUSize(channels=(8, 12, 24, 32)),  # 18.1 kMAC per pixel: every frame on a CPU
    "base": MHFUSize(channels=(24, 48, 72, 128)),  # 195 kMAC per pixel: for a GPU
}


class MHFUOutput(NamedTuple):
    """The fused view and what it was made of; all in [0, 1] for inputs in [0, 1]."""

    fused: Tensor  # (B, 3, H, W) RGB
    m1: Tensor  # (B, 1, H, W): 1 = poly, 0 = expansion
    m2: Tensor  # (B, 1, H, W): 1 = those two, 0 = dl
    m3: Tensor  # (B, 1, H, W): 1 = the branches, 0 = content
    content: Tensor  # (B, 3, H, W) RGB made by the network


class MHFU(nn.Module):
    """Encoder-decoder that weighs three fillings of one view; fully convolutional, any size.

    The tail's last convolution starts with zero weights, so that an untrained network returns exactly its initial
    blend (`initial_blend`) whatever it is shown; that layer learns in the first step, the others from the second on.
    """

    def __init__(self, size: MHFUSize) -> None:
        super().__init__()
        self.size = size
        channels = size.channels
        inputs = 9 + int(size.hole_input)
        self.encoders = nn.ModuleList(
            _convolutions(before, after, stride=1 if level == 0 else 2)
            for level, (before, after) in enumerate(itertools.pairwise((inputs, *channels)))
        )
        self.updates = nn.ModuleList(FeatureUpdateUnit(f, u) for f, u in itertools.pairwise(channels))
        self.decoders = nn.ModuleList(_convolutions(f + u, f, stride=1) for f, u in itertools.pairwise(channels))
        self.tail = nn.Sequential(_convolutions(channels[0], channels[0], stride=1), _tail_end(channels[0]))

    def forward(self, poly: Tensor, expansion: Tensor, dl: Tensor, hole: Tensor) -> MHFUOutput:
        """Fuse three branches.

        Args:
            poly: (B, 3, H, W) in [0, 1], the polyline branch.
            expansion: (B, 3, H, W), the disparity-expansion branch.
            dl: (B, 3, H, W), the video-inpainting branch.
            hole: (B, 1, H, W) bool or float, the base warp's holes; ignored without `hole_input`.
        """
        height, width = poly.shape[-2:]
        branches = [poly, expansion, dl, hole.to(poly.dtype)] if self.size.hole_input else [poly, expansion, dl]
        multiple = self.size.step_px
        padding = (0, -width % multiple, 0, -height % multiple)
        logits = self.estimate(F.pad(torch.cat(branches, dim=1), padding, mode="replicate"))
        # under autocast the logits are half precision, in which M3 = 0.9975 cannot be written
        answer = torch.sigmoid(logits.to(poly.dtype))
        m1, m2, m3, content = answer[..., :height, :width].split([1, 1, 1, 3], dim=1)
        return MHFUOutput(fuse(poly, expansion, dl, m1, m2, m3, content), m1, m2, m3, content)

    def estimate(self, inputs: Tensor) -> Tensor:
        """(B, inputs, H, W), sides multiples of the coarsest step -> (B, 6, H, W): M1, M2, M3, C before
        their sigmoids."""
        features = []
        for encoder in self.encoders:
            inputs = encoder(inputs)
            features.append(inputs)
        decoded = features[-1]
        for level in reversed(range(len(self.updates))):
            skip = self.updates[level](features[level], features[level + 1])
            upsampled = F.interpolate(decoded, size=skip.shape[-2:], mode="bilinear", align_corners=False)
            decoded = self.decoders[level](torch.cat([skip, upsampled], dim=1))
        return self.tail(decoded)


def fuse(poly: Tensor, expansion: Tensor, dl: Tensor, m1: Tensor, m2: Tensor, m3: Tensor, content: Tensor) -> Tensor:
    """Equations 1-3: mask by mask from `content` up to `poly`; shapes as in `MHFUOutput`."""
    first = torch.lerp(expansion, poly, m1)
    second = torch.lerp(dl, first, m2)
    return torch.lerp(content, second, m3)


def initial_blend(poly: Tensor, expansion: Tensor, dl: Tensor) -> Tensor:
    """What an untrained `MHFU` returns, without running it: a quarter poly and expansion each, half dl, 1/400 grey."""
    blend = poly * (INITIAL_M3 * INITIAL_M2 * INITIAL_M1)
    blend += expansion * (INITIAL_M3 * INITIAL_M2 * (1 - INITIAL_M1))
    blend += dl * (INITIAL_M3 * (1 - INITIAL_M2))
    return blend.add_((1 - INITIAL_M3) * INITIAL_CONTENT)


def _convolutions(before: int, after: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride=stride, padding=1),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(after, after, 3, padding=1),
        nn.LeakyReLU(0.2, inplace=True),
    )


def _tail_end(channels: int) -> nn.Conv2d:
    """The tail's third convolution, whose sigmoids start at the initial blend."""
    last = nn.Conv2d(channels, 6, 3, padding=1)
    start = torch.tensor([INITIAL_M1, INITIAL_M2, INITIAL_M3, *[INITIAL_CONTENT] * 3])
    nn.init.zeros_(last.weight)
    last.bias = nn.Parameter(torch.logit(start))
    return last
