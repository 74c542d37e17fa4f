"""Where training starts: two sets of first weights in place of PyTorch's.

`start_from_differences` gives every level a say. `start_from_mean` makes a refiner return the mean of its branches, and
its content C be it, too: with random weights C begins as noise, and a small refiner takes thousands of steps to learn
to copy colours through its layers; meanwhile M3 learns to hide C, and then nothing reaches it. So three channels of the
finest level are set up to carry the branches' mean, red, green and blue, from the input to C, and four more of the tail
to bend the sigmoid straight at its ends. They are weights like all others from then on.

    branches --mean--> encoder 0 --> update 0 (tanh of a tenth) --> decoder 0 --> tail --sigmoid--> C
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from spatialme.refine.mhfu import CONTENT_CHANNELS, M2_CHANNEL, M3_CHANNEL, MHFU

COLOURS = 3
TENTH = 0.1  # of the value at the update's tanh, which is straight up to there
# sigmoid(SLOPE * v + OFFSET + BEND * (bright(v) - dark(v))) is v in [0, 1], but for 0.01 rms and 0.03 at the ends,
# where bright = leaky(leaky(v - BRIGHT)) and dark = leaky(leaky(DARK - v)); found by least squares
SLOPE, OFFSET, BEND, DARK, BRIGHT = 3.7245, -1.8623, 8.0495, 0.1748, 0.8252
CONTRAST = 8.0  # branches differ by some levels of 255 mostly
LEAK = 0.2  # of the network's leaky units
DARK_CHANNELS, BRIGHT_CHANNEL = (3, 4, 5), 6  # of the tail; bright is of the grey value, dark of each colour


@torch.no_grad()
def start_from_mean(network: MHFU, first_m3: float) -> None:
    """Set up the weights, in place.

    Args:
        network: With random weights, and at least seven channels at the finest level.
        first_m3: Share of the branches against the content everywhere.
    """
    first, second = _convolutions(network.encoders[0])
    update = _convolutions(network.updates[0])[0]
    decoders, tail, last = _convolutions(network.decoders[0]), _convolutions(network.tail[0]), network.tail[1]
    for colour in range(COLOURS):
        _carry(first, colour, [colour, COLOURS + colour, 2 * COLOURS + colour], 1 / 3)
        _carry(second, colour, [colour], 1.0)
        # rows of the update's convolution: gate z, then q and r, which are made equal so that the gate has no say
        for part in (1, 2):
            _carry(update, part * network.size.channels[0] + colour, [colour], TENTH)
        for layer, factor in zip(decoders, (1 / TENTH, 1.0)):
            _carry(layer, colour, [colour], factor)
        _carry(tail[0], DARK_CHANNELS[colour], [colour], -1.0, DARK)
        _carry(last, CONTENT_CHANNELS[colour], [colour], SLOPE, OFFSET)
        _add(last, CONTENT_CHANNELS[colour], DARK_CHANNELS[colour], -BEND)
        _add(last, CONTENT_CHANNELS[colour], BRIGHT_CHANNEL, BEND)
        _carry(tail[0], colour, [colour], 1.0)
    _carry(tail[0], BRIGHT_CHANNEL, list(range(COLOURS)), 1 / COLOURS, -BRIGHT)
    for channel in (*range(COLOURS), *DARK_CHANNELS, BRIGHT_CHANNEL):
        _carry(tail[1], channel, [channel], 1.0)
    _bias(last)[M2_CHANNEL] = math.log(2)  # M2 = 2/3: with M1 = 1/2 the branches' mean, too
    _bias(last)[M3_CHANNEL] = math.log(first_m3 / (1 - first_m3))


@torch.no_grad()
def start_from_differences(network: MHFU) -> None:
    """Give every level a say from the first step, in place; the blend that an untrained network returns stays.

    PyTorch's own start loses half of the signal in every layer: of a dozen layers nothing is left but biases, and no
    step moves what lies deep. So variances are kept (He et al. 2015), and the first layer sees, instead of three views
    that are nearly alike, their mean and `CONTRAST` times what sets them apart.

    Args:
        network: Of any size; its tail's last layer is left alone.
    """
    for layer in _convolutions(network):
        if layer is network.tail[1]:
            continue
        nn.init.kaiming_normal_(layer.weight, a=LEAK)
        nn.init.zeros_(_bias(layer))
    weight = _convolutions(network.encoders[0])[0].weight
    mean, poly_expansion, both_dl = (weight[:, 3 * part : 3 * part + 3].clone() for part in range(3))
    weight[:, 0:3] = mean / 3 + CONTRAST * (poly_expansion + both_dl / 2)
    weight[:, 3:6] = mean / 3 + CONTRAST * (both_dl / 2 - poly_expansion)
    weight[:, 6:9] = mean / 3 - CONTRAST * both_dl


def _convolutions(layers: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in layers.modules() if isinstance(layer, nn.Conv2d)]


def _carry(layer: nn.Module, output: int, inputs: list[int], factor: float, bias: float = 0.0) -> None:
    """Make one output channel the sum of some input channels, pixel by pixel, times a factor."""
    assert isinstance(layer, nn.Conv2d)
    layer.weight[output] = 0
    layer.weight[output, inputs, 1, 1] = factor
    _bias(layer)[output] = bias


def _add(layer: nn.Module, output: int, channel: int, factor: float) -> None:
    assert isinstance(layer, nn.Conv2d)
    layer.weight[output, channel, 1, 1] += factor


def _bias(layer: nn.Module) -> Tensor:
    assert isinstance(layer.bias, Tensor)
    return layer.bias
