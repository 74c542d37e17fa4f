"""How well a warped view fits the true one outside its holes, brightness and contrast apart."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from spatialme.evaluation.pixels import LEVELS, peak_signal_to_noise


class ExposureMatch:
    """Fits ``truth = gain * warped + offset`` per channel to all frames that it is given, by least squares."""

    def __init__(self) -> None:
        self._sums = np.zeros((6, 3))  # of 1, w, t, w*w, w*t, t*t

    def add(self, warped: Tensor, truth: Tensor, hole: Tensor) -> None:
        """Take frames into account, where `hole` is False: (T, 3, H, W) twice, (T, 1, H, W)."""
        known = (~hole).double()
        first, second = warped.double() * known, truth.double() * known
        products = (known.expand_as(first), first, second, first * first, first * second, second * second)
        self._sums += np.stack([product.sum((0, 2, 3)).cpu().numpy() for product in products])

    def solve(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Gain and offset (in levels of 255) per channel, and PSNR in dB of what they leave; 0 without pixels."""
        count, first, second, squares, mixed, truths = self._sums
        if not count.all():
            return np.ones(3), np.zeros(3), 0.0
        spread = squares - first * first / count
        slope = (mixed - first * second / count) / np.maximum(spread, 1e-12)
        gain = np.where(spread > 1e-9 * count, slope, 1.0)  # of one flat colour only the offset can be told
        offset = (second - gain * first) / count
        error = truths + gain**2 * squares + count * offset**2
        error += 2 * (gain * offset * first - gain * mixed - offset * second)
        mean = torch.tensor(float(np.maximum(error / count, 0).mean()))
        return gain, LEVELS * offset, float(peak_signal_to_noise(mean))
