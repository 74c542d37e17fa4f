"""MobileNetV2's features (Sandler et al., CVPR 2018), under torchvision's parameter names.

Defined here because `import torchvision.models` takes longer than all the rest of the program's start together: it
brings in torch's compiler.
"""

from __future__ import annotations

from torch import Tensor, nn

FIRST_CHANNELS = 32
# expansion, channels, blocks, stride of the first of them: table 2 of the paper
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow again; add the input where the shape is the same."""

    def __init__(self, channels_in: int, channels_out: int, *, stride: int, expansion: int):
        super().__init__()
        wide = channels_in * expansion
        layers: list[nn.Module] = [_convolution(channels_in, wide, 1)] if expansion != 1 else []
        layers += [
            _convolution(wide, wide, 3, stride=stride, groups=wide),
            nn.Conv2d(wide, channels_out, 1, bias=False),
            nn.BatchNorm2d(channels_out),
        ]
        self.conv = nn.Sequential(*layers)
        self.keeps_shape = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.keeps_shape else self.conv(x)


def mobilenet_features() -> nn.Sequential:
    """The first convolution and the 17 blocks, without the last convolution: (N, 3, H, W) -> (N, 320, H/32, W/32)."""
    blocks: list[nn.Module] = [_convolution(3, FIRST_CHANNELS, 3, stride=2)]
    channels = FIRST_CHANNELS
    for expansion, wanted, count, stride in STAGES:
        for i in range(count):
            blocks.append(InvertedResidual(channels, wanted, stride=stride if i == 0 else 1, expansion=expansion))
            channels = wanted
    return nn.Sequential(*blocks)


def _convolution(channels_in: int, channels_out: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU6(inplace=True),
    )
