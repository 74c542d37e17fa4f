"""Motion of the source eye, and how it is carried to the synthesised eye."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch

from spatialme.errors import WeightsError
from spatialme.flow.consistency import forward_backward_valid
from spatialme.flow.estimator import FlowEstimator
from spatialme.flow.reuse import carry_flow, carry_motion

__all__ = ["FlowEngine", "FlowEstimator", "carry_flow", "carry_motion", "forward_backward_valid", "open_flow"]

FlowEngine = Literal["auto", "dis", "raft"]
WEIGHT_NAMES = ("raft-large", "raft-things")  # as `spatialme.weights` lists them, the better known first


def open_flow(
    engine: FlowEngine, device: torch.device, *, find_weights: Callable[[str], Path | None] | None = None
) -> FlowEstimator:
    """Make the flow stage.

    Args:
        engine: ``auto`` is RAFT on a CUDA device when its weights are on this machine, else DIS.
        device: Where RAFT runs; DIS runs on the CPU.
        find_weights: Gives the file of a named network, None if it is not here; `spatialme.weights.find` by default.

    Raises:
        WeightsError: RAFT was asked for and has no weights.
    """
    if engine == "dis" or (engine == "auto" and device.type != "cuda"):
        return _dis()
    path = _raft_weights(find_weights)
    if path is None and engine == "raft":
        raise WeightsError(
            f"none of {', '.join(WEIGHT_NAMES)} is on this machine; run `spatialme weights fetch {WEIGHT_NAMES[0]}` "
            "or use the dis engine"
        )
    if path is None:
        return _dis()
    from spatialme.flow.raft import Raft

    return FlowEstimator(Raft(path, device))


def _dis() -> FlowEstimator:
    from spatialme.flow.dis import Dis

    return FlowEstimator(Dis())


def _raft_weights(find_weights: Callable[[str], Path | None] | None) -> Path | None:
    if find_weights is None:
        from spatialme.weights import find

        find_weights = find
    return next((path for name in WEIGHT_NAMES if (path := find_weights(name)) is not None), None)
