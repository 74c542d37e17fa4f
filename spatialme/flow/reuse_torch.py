"""The PyTorch twin of `reuse`: batched over T, any device, no synchronisation."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from spatialme.flow.reuse import DEAD_ZONE_PX, LARGEST_CHANGE, REACH, ROWS, SAME_SURFACE
from spatialme.flow.runs_torch import Sides, hole_sides


def carry_flow_torch(
    flow: Tensor, valid: Tensor, source: Tensor, following: Tensor, right: Tensor, hole: Tensor
) -> tuple[Tensor, Tensor]:
    """As `carry_flow`, with the flow (T, 2, h, w) and its validity (T, 1, h, w) already chosen."""
    carried, trusted, disparity = _look_up(flow, valid, source, following, right)
    touched = F.max_pool2d(F.adaptive_max_pool2d(hole.float(), flow.shape[2:]), 3, 1, 1) > 0
    same = SAME_SURFACE * right.shape[3]
    sides = hole_sides(touched, disparity)
    mean, weight, depth = _average_background(carried, trusted, disparity, touched, sides, same)
    filled, total = _smooth_rows(mean, weight, depth, same)
    return torch.where(touched, filled, carried), torch.where(touched, total > 0, trusted)


def _look_up(
    flow: Tensor, valid: Tensor, source: Tensor, following: Tensor, right: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    count, _, height, width = flow.shape
    scale_y, scale_x = right.shape[2] / height, right.shape[3] / width
    y = (torch.arange(height, device=flow.device, dtype=torch.float64) + 0.5) * scale_y
    x = (torch.arange(width, device=flow.device, dtype=torch.float64) + 0.5) * scale_x
    disparity = right[:, :, y.long()][..., x.long()]
    source_x = x + disparity[:, 0]  # float64, as in the twin: one flow pixel further is another flow
    column = (source_x / scale_x).floor().long().clamp(0, width - 1)[:, None]
    u, v = flow.gather(3, column.expand(count, 2, height, width)).unbind(1)
    y = y[:, None].expand(height, width)
    now = _bilinear(source, source_x, y.expand_as(source_x))
    change = _bilinear(following, source_x + u * scale_x, y + v * scale_y) - now
    trusted = valid.gather(3, column) & (change.abs() <= LARGEST_CHANGE * right.shape[3])[:, None]
    change = torch.where(change.abs() < DEAD_ZONE_PX, 0.0, change)
    return torch.stack(((u - change / scale_x).to(flow.dtype), v), 1), trusted, disparity


def _bilinear(image: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Values of (T, 1, H, W) at positions (T, h, w), the border repeated outside: (T, h, w)."""
    where = torch.stack((x / image.shape[3] * 2 - 1, y / image.shape[2] * 2 - 1), -1)
    values = F.grid_sample(image.to(where.dtype), where, "bilinear", "border", align_corners=False)
    return values[:, 0]


def _average_background(
    carried: Tensor, trusted: Tensor, disparity: Tensor, hole: Tensor, sides: Sides, same: float
) -> tuple[Tensor, Tensor, Tensor]:
    width = hole.shape[3]
    depth = disparity.gather(3, sides.border.clamp(min=0))
    total, weight = torch.zeros_like(carried), torch.zeros_like(disparity)
    still, before = sides.step != 0, depth
    for k in range(max(int(REACH * width), 1)):
        column = sides.border + k * sides.step
        still = still & (column >= 0) & (column < width)
        column = column.clamp(0, width - 1)
        here = disparity.gather(3, column)
        still = still & ~hole.gather(3, column) & ((here - before).abs() <= same)
        share = (still & trusted.gather(3, column)) * float((k + 1) ** 2)
        total += carried.gather(3, column.expand_as(carried)) * share
        weight += share
        before = here
    return total / weight.clamp(min=1), weight * hole, depth


def _smooth_rows(mean: Tensor, weight: Tensor, depth: Tensor, same: float) -> tuple[Tensor, Tensor]:
    height = mean.shape[2]
    total = torch.zeros_like(mean)
    weights = torch.zeros_like(weight)
    rows = torch.arange(height, device=mean.device)
    for offset in range(-ROWS, ROWS + 1):
        row = rows + offset
        inside = ((row >= 0) & (row < height))[:, None]
        row = row.clamp(0, height - 1)
        share = weight[:, :, row] * inside * ((depth[:, :, row] - depth).abs() <= same)
        total += mean[:, :, row] * share
        weights += share
    return total / weights.clamp(min=1), weights
