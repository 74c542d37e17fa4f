"""Copies pixels along the flow into the holes of neighbouring frames; no parameters."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from .warping import flows_agree, warp

KNOWN_BELOW = 0.1  # a source counts as known when less than this part of the bilinear lookup is hole


def propagate_images(
    frames: Tensor,
    masks: Tensor,
    flows_forward: Tensor,
    flows_backward: Tensor,
    *,
    mode: Literal["bilinear", "nearest"] = "nearest",
) -> tuple[Tensor, Tensor]:
    """Fill holes from later frames first, then what is left from earlier ones.

    Args:
        frames: (B, T, C, H, W) with zeros in the holes.
        masks: (B, T, 1, H, W) float, 1 = hole.
        flows_forward: (B, T - 1, 2, H, W) pixels, frame t to t + 1.
        flows_backward: (B, T - 1, 2, H, W) pixels, frame t + 1 to t.
        mode: How colours are looked up.

    Returns:
        The frames and the masks of what stays unfilled, shaped as given.
    """
    agree_forward = flows_agree(flows_forward, flows_backward)
    agree_backward = flows_agree(flows_backward, flows_forward)
    # time runs backwards in the first pass: each frame draws on the one after it
    frames, masks = _one_way(frames.flip(1), masks.flip(1), flows_forward.flip(1), agree_forward.flip(1), mode=mode)
    return _one_way(frames.flip(1), masks.flip(1), flows_backward, agree_backward, mode=mode)


def _one_way(
    frames: Tensor, masks: Tensor, flows: Tensor, agree: Tensor, *, mode: Literal["bilinear", "nearest"]
) -> tuple[Tensor, Tensor]:
    """Fill frame k from the filled frame k - 1, to which ``flows[:, k - 1]`` leads."""
    filled, unfilled = [frames[:, 0]], [masks[:, 0]]
    for k in range(1, frames.shape[1]):
        flow = flows[:, k - 1]
        source = warp(filled[-1], flow, mode=mode)
        source_known = warp(unfilled[-1], flow) <= KNOWN_BELOW
        fill = (masks[:, k] > KNOWN_BELOW) & agree[:, k - 1] & source_known
        filled.append(torch.where(fill, source, frames[:, k]))
        unfilled.append(torch.where(fill, 0.0, masks[:, k]))
    return torch.stack(filled, dim=1), torch.stack(unfilled, dim=1)
