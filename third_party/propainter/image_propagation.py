"""Copies pixels along the flow into the holes of neighbouring frames; no parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    filled, unfilled = propagate_frames(
        frames.unbind(1), masks.unbind(1), lambda t: (flows_forward[:, t], flows_backward[:, t]), mode=mode
    )
    return torch.stack(filled, dim=1), torch.stack(unfilled, dim=1)


def propagate_frames(
    frames: Sequence[Tensor],
    masks: Sequence[Tensor],
    flows_between: Callable[[int], tuple[Tensor, Tensor]],
    *,
    mode: Literal["bilinear", "nearest"] = "nearest",
) -> tuple[list[Tensor], list[Tensor]]:
    """`propagate_images` frame by frame: beside its results it holds the flow between two frames at a time.

    Args:
        frames: T of (B, C, H, W).
        masks: T of (B, 1, H, W).
        flows_between: Gives the flow from frame t to t + 1 and the one back, (B, 2, H, W) each; asked twice.
        mode: How colours are looked up.
    """
    filled, unfilled = list(frames), list(masks)
    # time runs backwards in the first pass: each frame draws on the one after it
    for t in reversed(range(len(frames) - 1)):
        forward, backward = flows_between(t)
        _fill(filled, unfilled, t, t + 1, forward, backward, mode)
    for t in range(len(frames) - 1):
        forward, backward = flows_between(t)
        _fill(filled, unfilled, t + 1, t, backward, forward, mode)
    return filled, unfilled


def _fill(
    frames: list[Tensor],
    masks: list[Tensor],
    target: int,
    source: int,
    flow: Tensor,
    opposite: Tensor,
    mode: Literal["bilinear", "nearest"],
) -> None:
    """Replace one frame by itself filled from another, to which its flow leads."""
    colour = warp(frames[source], flow, mode=mode)
    known = warp(masks[source], flow) <= KNOWN_BELOW
    agree = flows_agree(flow[:, None], opposite[:, None])[:, 0]
    fill = (masks[target] > KNOWN_BELOW) & agree & known
    frames[target] = torch.where(fill, colour, frames[target])
    masks[target] = torch.where(fill, 0.0, masks[target])
