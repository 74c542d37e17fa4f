"""What waits on a GPU takes 16 bits: between stages, clips wait for the frames around them, and fill its memory.

Colours: level k stands for k / 65535, so that those of 8- and 16-bit pictures come back to the bit, and is kept as
k - 32768, for torch has few operations on uint16. Disparity: in steps of the width / 131072, at 3840 px wide a 34th of
a pixel; a frame's disparities lie within a fifth of its width.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from spatialme.types import Clip, WarpedClip

TOP = 65535
ZERO = 32768  # what is subtracted
STEPS = 131072  # of disparity in the width; an int16 spans half of them


def to_levels(colours: Tensor) -> Tensor:
    """Floats in [0, 1] as levels, rounded; levels as they are."""
    if colours.dtype == torch.int16:
        return colours
    return colours.float().mul(TOP).sub_(ZERO).round_().to(torch.int16)


def to_colours(levels: Tensor) -> Tensor:
    """Levels as float32 in [0, 1]; floats as they are."""
    if levels.dtype != torch.int16:
        return levels
    return levels.float().add_(ZERO).div_(TOP)


def code(view: Tensor) -> tuple[float, float]:
    """(zero, scale): its colours are (value + zero) * scale, which a look-up may do after its sum."""
    return (ZERO, 1 / TOP) if view.dtype == torch.int16 else (0.0, 1.0)


def to_steps(disparity: Tensor) -> Tensor:
    """Disparity (..., W) in px as int16 steps, rounded; steps as they are."""
    if disparity.dtype == torch.int16:
        return disparity
    return disparity.mul(STEPS / disparity.shape[-1]).round_().clamp_(-ZERO, ZERO - 1).to(torch.int16)


def to_pixels(steps: Tensor) -> Tensor:
    """Steps as float32 px; floats as they are."""
    return steps.float().mul_(step_px(steps)) if steps.dtype == torch.int16 else steps


def step_px(disparity: Tensor) -> float:
    """Pixels that a value of (..., W) stands for, exact in float32 for widths below 2**24."""
    return disparity.shape[-1] / STEPS if disparity.dtype == torch.int16 else 1.0


def resting(clip: Clip) -> Clip:
    """A clip as it shall wait: on a GPU, where memory is short, its frames are levels."""
    return clip if clip.frames.device.type == "cpu" else replace(clip, frames=to_levels(clip.frames))


def awake(clip: Clip) -> Clip:
    """The inverse of `resting`."""
    return replace(clip, frames=to_colours(clip.frames))


def resting_warp(warped: WarpedClip) -> WarpedClip:
    """`resting` for all of it."""
    if warped.view.device.type == "cpu":
        return warped
    return replace(
        warped,
        clip=resting(warped.clip),
        source_disparity=to_steps(warped.source_disparity),
        view=to_levels(warped.view),
        disparity=to_steps(warped.disparity),
    )


def awake_warp(warped: WarpedClip) -> WarpedClip:
    """A warped clip whose view is floats again; the rest stays as it is."""
    return replace(warped, view=to_colours(warped.view))
