"""The PyTorch twin of `trace`: the same functions for other devices.

Sparse, like its twin: holes are a few percent of a frame. Their number is read from the device once per frame, which
`trace_triton` avoids.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from spatialme.flow.consistency import ABSOLUTE_PX2, RELATIVE
from spatialme.flow.runs_torch import hole_sides
from spatialme.inpaint.trace import (
    CLEARANCE_PX,
    CUBIC,
    FOREGROUND_SHARE,
    SURFACE_REACH,
    TOLERANCE,
    Found,
    Points,
    Step,
)
from spatialme.levels import code, step_px


def background_points(disparity: Tensor, hole: Tensor) -> Points:
    """As `trace.background_points`; waits for the device, to learn how many there are."""
    maps = background_range(disparity, hole)
    row, column = hole[0].nonzero(as_tuple=True)
    return Points(row, column, *(each[0, row, column] for each in maps))


def background_range(disparity: Tensor, hole: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`Points.lowest`, `highest` and `surface` as maps like the arguments, (1, H, W), meaningless outside holes."""
    width = hole.shape[2]
    sides = hole_sides(hole[None], disparity[None])
    border, step = sides.border[0], sides.step[0]
    surface = disparity.gather(2, border.clamp(min=0))
    low = surface
    still = step != 0
    for k in range(1, max(int(SURFACE_REACH * width), 1)):
        column = border + k * step
        still = still & (column >= 0) & (column < width)
        column = column.clamp(0, width - 1)
        still = still & ~hole.gather(2, column)
        low = torch.where(still, torch.minimum(low, disparity.gather(2, column)), low)
    other = torch.where(step > 0, sides.left[0], sides.right[0])
    rise = disparity.gather(2, other.clamp(0, width - 1)) - surface
    has_other = (other >= 0) & (other < width)
    margin = torch.where(has_other, FOREGROUND_SHARE * rise, 0).clamp(min=max(TOLERANCE * width, 0.5))
    none = step == 0
    lowest = torch.where(none, torch.inf, low - margin)
    highest = torch.where(none, -torch.inf, surface + margin)
    return lowest, highest, torch.where(none, 0.0, surface)


def walk(points: Points, steps: Sequence[Step]) -> Found:
    """As `trace.walk`."""
    x, y = points.column.double() + 0.5, points.row.double() + 0.5
    found = torch.zeros_like(points.row)
    colour = torch.zeros((len(x), 3), device=x.device)
    for number, step in enumerate(steps, 1):
        x, y, u, v, alive = _move(x, y, step, found == 0)
        row, column = y.long().clamp(0, step.hole.shape[1] - 1), x.long().clamp(0, step.hole.shape[2] - 1)
        in_hole = step.hole[0, row, column]
        disparity = step.disparity[0, row, column].float() * step_px(step.disparity)
        fits = (disparity >= points.lowest) & (disparity <= points.highest) & _returns(x, y, u, v, step)
        clear = _is_clear(row, column, points.highest, step)
        here = alive & ~in_hole & fits & clear
        lost = (found == 0) & (~alive | (~in_hole & ~fits))
        found = torch.where(here, number, torch.where(lost, -1, found))
        colour = torch.where(here[:, None], _cubic(step.view, x, y), colour)
    return Found(found.clamp(min=0), colour)


def _move(x: Tensor, y: Tensor, step: Step, going: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """New positions, the flow in px of its grid, and which points are still on their way inside the frame."""
    height, width = step.hole.shape[1:]
    grid_y, grid_x = _on_grid(x, y, step)
    alive = going & step.trusted[0, _cell(grid_y, step.flow.shape[1]), _cell(grid_x, step.flow.shape[2])]
    u, v = _flow_at(step.flow, grid_x, grid_y)
    x = torch.where(alive, x + u * (width / step.flow.shape[2]), x)
    y = torch.where(alive, y + v * (height / step.flow.shape[1]), y)
    return x, y, u, v, alive & (x >= 0) & (x < width) & (y >= 0) & (y < height)


def _returns(x: Tensor, y: Tensor, u: Tensor, v: Tensor, step: Step) -> Tensor:
    grid_y, grid_x = _on_grid(x, y, step)
    back_u, back_v = _flow_at(step.way_back, grid_x, grid_y)
    lengths = u**2 + v**2 + back_u**2 + back_v**2
    cancels = (u + back_u) ** 2 + (v + back_v) ** 2 < RELATIVE * lengths + ABSOLUTE_PX2
    return cancels | ~step.way_back_trusted[0, _cell(grid_y, step.flow.shape[1]), _cell(grid_x, step.flow.shape[2])]


def _is_clear(row: Tensor, column: Tensor, highest: Tensor, step: Step) -> Tensor:
    height, width = step.hole.shape[1:]
    clear, unit = torch.ones_like(highest, dtype=torch.bool), step_px(step.disparity)
    for down, right in itertools.product(range(-CLEARANCE_PX, CLEARANCE_PX + 1), repeat=2):
        near = 0, (row + down).clamp(0, height - 1), (column + right).clamp(0, width - 1)
        clear = clear & ~step.hole[near] & (step.disparity[near].float() * unit <= highest)
    return clear


def _on_grid(x: Tensor, y: Tensor, step: Step) -> tuple[Tensor, Tensor]:
    height, width = step.hole.shape[1:]
    return y / (height / step.flow.shape[1]), x / (width / step.flow.shape[2])


def _cell(position: Tensor, size: int) -> Tensor:
    return position.long().clamp(0, size - 1)


def _flow_at(flow: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Bilinear look-up at (N,) positions, the border repeated."""
    _, height, width = flow.shape
    x, y = (x - 0.5).clamp(0, width - 1), (y - 0.5).clamp(0, height - 1)
    left, top = x.long(), y.long()
    right, bottom = (left + 1).clamp(max=width - 1), (top + 1).clamp(max=height - 1)
    across, down = x - left, y - top
    upper = flow[:, top, left] * (1 - across) + flow[:, top, right] * across
    lower = flow[:, bottom, left] * (1 - across) + flow[:, bottom, right] * across
    u, v = upper * (1 - down) + lower * down
    return u, v


def _cubic(view: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Keys' cubic convolution at (N,) positions, the border repeated, clamped to [0, 1]: (N, 3)."""
    _, height, width = view.shape
    zero, scale = code(view)
    left, top = (x - 0.5).floor(), (y - 0.5).floor()
    total = torch.zeros((3, len(x)), dtype=x.dtype, device=x.device)
    for i in range(-1, 3):
        row = (top + i).long().clamp(0, height - 1)
        across = torch.zeros_like(total)
        for j in range(-1, 3):
            column = (left + j).long().clamp(0, width - 1)
            across += (view[:, row, column].double() + zero) * _cubic_weight((x - 0.5 - left - j).abs())
        total += across * _cubic_weight((y - 0.5 - top - i).abs())
    return (total * scale).clamp(0, 1).T.float()


def _cubic_weight(distance: Tensor) -> Tensor:
    near = ((CUBIC + 2) * distance - (CUBIC + 3)) * distance**2 + 1
    far = ((CUBIC * distance - 5 * CUBIC) * distance + 8 * CUBIC) * distance - 4 * CUBIC
    return torch.where(distance <= 1, near, torch.where(distance < 2, far, 0.0))
