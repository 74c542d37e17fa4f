"""The published way to flow: RAFT on the warped frames themselves, at their own size, in full precision."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from spatialme.flow.raft import SMALLEST_SIDE_PX, Raft

ITERATIONS = 20


class FullSizeRaft(Raft):
    """RAFT as ProPainter was published with: 20 updates, float32, sides rounded up to multiples of 8."""

    def __init__(self, weights: Path, device: torch.device):
        super().__init__(weights, device, iterations=ITERATIONS)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the flow: the frame's, but at least 128 and multiples of 8."""
        return max(SMALLEST_SIDE_PX, -(-height // 8) * 8), max(SMALLEST_SIDE_PX, -(-width // 8) * 8)

    def both_ways(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Flow from the first to the second and back: (2, h, w) float32 px each."""
        with torch.autocast(self._device.type, enabled=False):
            there_and_back = torch.cat((first, second)), torch.cat((second, first))
            flows = self._network(*there_and_back, num_flow_updates=self._iterations)[-1]
        return flows[0], flows[1]
