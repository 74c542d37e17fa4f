"""Weights that anyone can make again from a key and a shape: networks are compared without a download."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

COMPUTED_BY_THE_MODEL = ("num_batches_tracked", "valid_ind_rolled")


def seeded_tensor(key: str, shape: tuple[int, ...]) -> Tensor:
    """One float32 parameter or buffer, drawn from a generator that the key's CRC-32 seeds.

    The reference outputs in `fixtures/propainter` hold for exactly these numbers: weights have unit gain, biases are
    small, scales and variances near one.
    """
    draw = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape)
    name = key.rpartition(".")[2]
    if name == "running_var":
        values = 1.0 + 0.1 * np.abs(draw)
    elif name == "running_mean":
        values = 0.1 * draw
    elif name == "bias":
        values = 0.05 * draw
    elif len(shape) == 1:
        values = 1.0 + 0.1 * draw
    else:
        values = draw / np.sqrt(np.prod(shape[1:]))
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def seeded_state(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Seeded tensors for every key, but for the integer buffers, which a model computes itself."""
    return {key: seeded_tensor(key, shape) for key, shape in shapes.items() if not key.endswith(COMPUTED_BY_THE_MODEL)}
