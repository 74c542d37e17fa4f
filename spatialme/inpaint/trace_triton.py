"""The walk of `trace` as a Triton kernel over whole frames: the number of hole pixels never leaves the device.

One launch per frame of the walk. A block of pixels none of which is on its way does nothing, and holes are a few
percent of a frame. Positions are float64 and nothing is fused, as in `trace`: the same answers to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from spatialme.flow.consistency import ABSOLUTE_PX2, RELATIVE
from spatialme.inpaint.trace import CLEARANCE_PX, CUBIC, Step
from spatialme.inpaint.trace_torch import background_range
from spatialme.levels import TOP, ZERO, step_px

BLOCK = 128  # pixels per program
_RELATIVE = tl.constexpr(RELATIVE)
_ABSOLUTE = tl.constexpr(ABSOLUTE_PX2)
_CUBIC = tl.constexpr(CUBIC)
_CLEARANCE = tl.constexpr(CLEARANCE_PX)
_ZERO = tl.constexpr(float(ZERO))
_SCALE = tl.constexpr(1 / TOP)


class Recalled(NamedTuple):
    """What a walk brought home, for every pixel of the frame."""

    steps: Tensor  # (H, W) int32: frames away, 0 where nothing was found
    colour: Tensor  # (3, H, W) float32, 0 where nothing was found


def walk(disparity: Tensor, hole: Tensor, walks: Sequence[Sequence[Step]]) -> tuple[Tensor, list[Recalled]]:
    """Follow a frame's hole pixels along each walk.

    Args:
        disparity: (1, H, W) px, of the frame.
        hole: (1, H, W) bool.
        walks: The steps of each.

    Returns:
        (1, H, W) px, the disparity of the background at the hole's border; and what each walk brought home.
    """
    lowest, highest, surface = background_range(disparity, hole)
    return surface, [_walk(lowest, highest, hole, steps) for steps in walks]


def _walk(lowest: Tensor, highest: Tensor, hole: Tensor, steps: Sequence[Step]) -> Recalled:
    _, height, width = hole.shape
    options = dict(device=hole.device, dtype=torch.float64)
    x = (torch.arange(width, **options) + 0.5).repeat(height, 1)  # type: ignore[call-overload]
    y = (torch.arange(height, **options) + 0.5)[:, None].repeat(1, width)  # type: ignore[call-overload]
    found = torch.where(hole[0], 0, -1).int()
    colour = torch.zeros((3, height, width), device=hole.device)
    grid = (triton.cdiv(height * width, BLOCK),)
    lowest, highest = lowest.contiguous(), highest.contiguous()
    for number, step in enumerate(steps, 1):
        maps = [part.contiguous() for part in step]
        grid_size = step.flow.shape[1:]
        _advance[grid](
            x, y, found, colour, lowest, highest, *maps, step_px(step.disparity), number, height, width, *grid_size,
            LEVELS=step.view.dtype == torch.int16, BLOCK=BLOCK, enable_fp_fusion=False,
        )  # fmt: skip
    return Recalled(found.clamp(min=0), colour)


@triton.jit
def _advance(
    x_of, y_of, found_of, colour_of, lowest_of, highest_of, flow, trusted, back, back_trusted, view, hole, disparity,
    unit, number, height, width, grid_height, grid_width, LEVELS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < height * width
    going = tl.load(found_of + pixel, mask=inside, other=-1) == 0
    if tl.max(going.to(tl.int32), 0) > 0:
        scale_x = width.to(tl.float64) / grid_width.to(tl.float64)
        scale_y = height.to(tl.float64) / grid_height.to(tl.float64)
        x = tl.load(x_of + pixel, mask=going, other=0.0)
        y = tl.load(y_of + pixel, mask=going, other=0.0)
        cell = _cell(x, y, scale_x, scale_y, grid_height, grid_width)
        alive = going & (tl.load(trusted + cell, mask=going, other=0) != 0)
        u, v = _flow_at(flow, x / scale_x, y / scale_y, grid_height, grid_width, alive)
        x = tl.where(alive, x + u * scale_x, 0.0)
        y = tl.where(alive, y + v * scale_y, 0.0)
        alive = alive & (x >= 0) & (x < width) & (y >= 0) & (y < height)
        x = tl.where(alive, x, 0.0)
        y = tl.where(alive, y, 0.0)
        there = y.to(tl.int32) * width + x.to(tl.int32)
        known = alive & (tl.load(hole + there, mask=alive, other=1) == 0)

        cell = _cell(x, y, scale_x, scale_y, grid_height, grid_width)
        back_u, back_v = _flow_at(back, x / scale_x, y / scale_y, grid_height, grid_width, known)
        lengths = u * u + v * v + back_u * back_u + back_v * back_v
        off_u, off_v = u + back_u, v + back_v
        returns = off_u * off_u + off_v * off_v < lengths * _RELATIVE + _ABSOLUTE
        returns = returns | (tl.load(back_trusted + cell, mask=known, other=0) == 0)
        seen = tl.load(disparity + there, mask=known, other=0).to(tl.float32) * unit
        highest = tl.load(highest_of + pixel, mask=known, other=0.0)
        fits = returns & (seen >= tl.load(lowest_of + pixel, mask=known, other=0.0)) & (seen <= highest)
        here = known & fits
        if tl.max(here.to(tl.int32), 0) > 0:
            here = _clear(hole, disparity, unit, y.to(tl.int32), x.to(tl.int32), highest, here, height, width)
        lost = going & (~alive | (known & ~fits))
        tl.store(x_of + pixel, x, mask=alive)
        tl.store(y_of + pixel, y, mask=alive)
        tl.store(found_of + pixel, tl.where(here, number, -1), mask=here | lost)
        if tl.max(here.to(tl.int32), 0) > 0:
            for channel in tl.static_range(3):
                plane = channel * height * width
                colour = _cubic(view + plane, x, y, height, width, here, LEVELS)
                tl.store(colour_of + plane + pixel, colour.to(tl.float32), mask=here)


@triton.jit
def _clear(hole, disparity, unit, row, column, highest, wanted, height, width):
    """Which of the wanted have no hole, and nothing of a disparity above the highest, within `CLEARANCE_PX`."""
    clear = wanted
    for i in tl.static_range(2 * _CLEARANCE + 1):
        line = tl.minimum(tl.maximum(row + (i - _CLEARANCE), 0), height - 1) * width
        for j in tl.static_range(2 * _CLEARANCE + 1):
            near = line + tl.minimum(tl.maximum(column + (j - _CLEARANCE), 0), width - 1)
            known = tl.load(hole + near, mask=wanted, other=1) == 0
            seen = tl.load(disparity + near, mask=wanted, other=0).to(tl.float32) * unit
            clear = clear & known & (seen <= highest)
    return clear


@triton.jit
def _cell(x, y, scale_x, scale_y, grid_height, grid_width):
    row = tl.minimum((y / scale_y).to(tl.int32), grid_height - 1)
    return row * grid_width + tl.minimum((x / scale_x).to(tl.int32), grid_width - 1)


@triton.jit
def _flow_at(flow, x, y, height, width, wanted):
    """Bilinear look-up, the border repeated; any value where it is not wanted."""
    x = tl.minimum(tl.maximum(x - 0.5, 0.0), (width - 1).to(tl.float64))
    y = tl.minimum(tl.maximum(y - 0.5, 0.0), (height - 1).to(tl.float64))
    left, top = x.to(tl.int32), y.to(tl.int32)
    right, bottom = tl.minimum(left + 1, width - 1), tl.minimum(top + 1, height - 1)
    across, down = x - left.to(tl.float64), y - top.to(tl.float64)
    u = _blend(flow, left, right, top * width, bottom * width, across, down, wanted)
    v = _blend(flow + height * width, left, right, top * width, bottom * width, across, down, wanted)
    return u, v


@triton.jit
def _blend(plane, left, right, upper, lower, across, down, wanted):
    above = tl.load(plane + upper + left, mask=wanted, other=0.0).to(tl.float64) * (1.0 - across)
    above += tl.load(plane + upper + right, mask=wanted, other=0.0).to(tl.float64) * across
    below = tl.load(plane + lower + left, mask=wanted, other=0.0).to(tl.float64) * (1.0 - across)
    below += tl.load(plane + lower + right, mask=wanted, other=0.0).to(tl.float64) * across
    return above * (1.0 - down) + below * down


@triton.jit
def _cubic(plane, x, y, height, width, wanted, LEVELS: tl.constexpr):
    """Keys' cubic convolution, the border repeated, clamped to [0, 1]."""
    left, top = tl.floor(x - 0.5), tl.floor(y - 0.5)
    total = x * 0.0
    for i in tl.static_range(4):
        row = tl.minimum(tl.maximum(top.to(tl.int32) + (i - 1), 0), height - 1)
        across = x * 0.0
        for j in tl.static_range(4):
            column = tl.minimum(tl.maximum(left.to(tl.int32) + (j - 1), 0), width - 1)
            value = tl.load(plane + row * width + column, mask=wanted, other=0).to(tl.float64)
            if LEVELS:
                value += _ZERO
            across += value * _cubic_weight(tl.abs(x - 0.5 - (left + (j - 1))))
        total += across * _cubic_weight(tl.abs(y - 0.5 - (top + (i - 1))))
    if LEVELS:
        total *= _SCALE
    return tl.minimum(tl.maximum(total, 0.0), 1.0)


@triton.jit
def _cubic_weight(distance):
    near = ((_CUBIC + 2) * distance - (_CUBIC + 3)) * distance * distance + 1
    far = ((distance * _CUBIC - 5 * _CUBIC) * distance + 8 * _CUBIC) * distance - 4 * _CUBIC
    return tl.where(distance <= 1, near, tl.where(distance < 2, far, 0.0))
