"""The learning rate, step by step; a function of the step alone, so that a resumed run goes on with it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Schedule:
    """The paper's learning rate is constant."""

    decay: Literal["none", "cosine"] = "none"  # cosine: to zero at the run's last step
    warmup_steps: int = 0  # over which it rises from zero

    def __post_init__(self) -> None:
        if self.warmup_steps < 0:
            raise ValueError(f"warmup_steps must not be negative, got {self.warmup_steps}")

    def share(self, step: int, last_step: int) -> float:
        """Part of the full learning rate at a step, from 0 on."""
        rise = min(1.0, (step + 1) / (self.warmup_steps + 1))
        if self.decay == "none":
            return rise
        return rise * 0.5 * (1 + math.cos(math.pi * min(1.0, step / last_step)))
