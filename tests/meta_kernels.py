"""In place of the Triton kernels whose twins ask the device for numbers: functions that give the shapes alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from spatialme.inpaint import polyline, propagation
from spatialme.inpaint.trace_torch import background_range

META = torch.device("meta")


class Recalled(NamedTuple):
    steps: Tensor
    colour: Tensor


def sample_polylines(colours: Tensor, shift_px: Tensor, half_width: float, samples: int) -> tuple[Tensor, Tensor]:
    return torch.empty_like(colours), torch.empty_like(shift_px, dtype=torch.bool)[:, None]


def walk(disparity: Tensor, hole: Tensor, walks: Any) -> tuple[Tensor, list[Recalled]]:
    colour = disparity.expand(3, -1, -1).clone()
    found = Recalled(torch.empty_like(hole[0], dtype=torch.int32), colour)
    return background_range(disparity, hole)[2], [found for _ in walks]


def install(set_attribute: Callable[..., None] = setattr) -> None:
    """Have the stages take them; `set_attribute` may be pytest's, which undoes it."""
    set_attribute(polyline, "_sampler", lambda device: sample_polylines)
    set_attribute(propagation, "computes_with_triton", lambda device: True)
    set_attribute(propagation, "_walk_everywhere", walk)
