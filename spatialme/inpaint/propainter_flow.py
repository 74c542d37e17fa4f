"""The published way to flow: RAFT on the warped frames themselves, at their own size, in full precision."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import torch

from spatialme.flow.raft import SMALLEST_SIDE_PX, Raft

ITERATIONS = 20


class FullSizeRaft(Raft):
    """RAFT as ProPainter was published with: 20 updates, float32, sides rounded up to multiples of 8."""

    def __init__(self, weights: Path, device: torch.device):
        super().__init__(weights, device, iterations=ITERATIONS)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the flow: the frame's, but at least 128 and multiples of 8."""
        return max(SMALLEST_SIDE_PX, -(-height // 8) * 8), max(SMALLEST_SIDE_PX, -(-width // 8) * 8)

    def _precision(self) -> AbstractContextManager:
        return torch.autocast(self._device.type, enabled=False)
