"""Where training starts: a refiner that returns the mean of its branches, and whose content C is it, too.

With random weights C begins as noise, and a small refiner takes thousands of steps to learn to copy colours through its
layers; meanwhile M3 learns to hide C, and then nothing reaches it. So three channels of the finest level are set up to
carry the branches' mean, red, green and blue, from the input to C. They are weights like all others from then on.

    branches --mean--> encoder 0 --> update 0 (tanh of half the value) --> decoder 0 --> tail --sigmoid--> C
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from spatialme.refine.mhfu import CONTENT_CHANNELS, M2_CHANNEL, M3_CHANNEL, MHFU

COLOURS = 3
HALF = 0.5  # of the value at the update's tanh, which is nearly straight up to there
# sigmoid(SLOPE * tanh(v / 2) + OFFSET) is v for v in [0, 1], but for 0.03 rms
SLOPE, OFFSET = 10.5, -2.55


@torch.no_grad()
def start_from_mean(network: MHFU, first_m3: float) -> None:
    """Set up the weights, in place.

    Args:
        network: With random weights.
        first_m3: Share of the branches against the content everywhere.
    """
    first, *passing = _convolutions(network.encoders[0])
    passing += [*_convolutions(network.decoders[0]), *_convolutions(network.tail[0])]
    last, update = network.tail[1], _convolutions(network.updates[0])[0]
    for colour in range(COLOURS):
        _carry(first, colour, [colour, COLOURS + colour, 2 * COLOURS + colour], 1 / 3)
        for layer in passing:
            _carry(layer, colour, [colour], 1.0)
        # rows of the update's convolution: gate z, then q and r, which are made equal so that the gate has no say
        for part in (1, 2):
            _carry(update, part * network.size.channels[0] + colour, [colour], HALF)
        _carry(last, CONTENT_CHANNELS[colour], [colour], SLOPE, OFFSET)
    _bias(last)[M2_CHANNEL] = math.log(2)  # M2 = 2/3: with M1 = 1/2 the branches' mean, too
    _bias(last)[M3_CHANNEL] = math.log(first_m3 / (1 - first_m3))


def _convolutions(layers: nn.Module) -> list[nn.Module]:
    return [layer for layer in layers.modules() if isinstance(layer, nn.Conv2d)]


def _carry(layer: nn.Module, output: int, inputs: list[int], factor: float, bias: float = 0.0) -> None:
    """Make one output channel the sum of some input channels, pixel by pixel, times a factor."""
    assert isinstance(layer, nn.Conv2d)
    layer.weight[output] = 0
    layer.weight[output, inputs, 1, 1] = factor
    _bias(layer)[output] = bias


def _bias(layer: nn.Module) -> Tensor:
    assert isinstance(layer.bias, Tensor)
    return layer.bias
