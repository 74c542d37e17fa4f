"""Loads a user's own copies of the published checkpoints; nothing here downloads anything."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from .flow_completion import FlowCompletion
from .generator import InpaintGenerator

Network = TypeVar("Network", bound=nn.Module)


class CheckpointError(ValueError):
    """A file is not the published checkpoint that it should be."""


def load_generator(path: Path) -> InpaintGenerator:
    """The inpainting network of `ProPainter.pth`: float32, on the CPU, in evaluation mode.

    Raises:
        CheckpointError: If the file is damaged or its keys or shapes are others.
        OSError: If it cannot be opened.
    """
    return _load(path, InpaintGenerator, _read(path))


def load_flow_completion(path: Path) -> FlowCompletion:
    """The network of `recurrent_flow_completion.pth`; otherwise as `load_generator`."""
    return _load(path, FlowCompletion, _read(path))


def _read(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        raise CheckpointError(f"{path} is no readable PyTorch checkpoint; delete it and fetch it again") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path} holds no plain table of tensors; expected a published ProPainter checkpoint")
    return state


def _load(path: Path, build: Callable[[], Network], state: Mapping[str, Tensor]) -> Network:
    with torch.device("meta"):  # no time is spent on random weights
        network = build()
    wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in state.items()}
    wrong = [key for key in sorted(wanted.keys() | found.keys()) if wanted.get(key) != found.get(key)]
    if wrong:
        key = wrong[0]
        raise CheckpointError(
            f"{path} is another checkpoint: {len(wrong)} keys differ, first {key} with shape {found.get(key)} "
            f"instead of {wanted.get(key)}; expected the published file, fetch it again"
        )
    network.load_state_dict(dict(state), assign=True)
    return network.float().eval().requires_grad_(False)
