"""The PyTorch twin of `background`, for other devices; no synchronisation."""

from __future__ import annotations

import torch
from torch import Tensor

from spatialme.flow.runs_torch import hole_sides
from spatialme.inpaint.background import SAME_SURFACE, TEAR_PX, WIDEST_PX


def fill_background_torch(view: Tensor, hole: Tensor, disparity: Tensor) -> Tensor:
    """As `background.fill_background`."""
    filled, distance = _reflect(view, hole, disparity)
    sides = hole_sides(hole[None], disparity[None])
    run = torch.where(hole, sides.left[0] + 1, -1)  # the run's first column, -1 outside holes
    down = _smooth(filled, distance, distance > 0, None, axis=1)
    smooth = torch.where(hole, _smooth(down, distance, hole, run, axis=2), view)
    return _fill_empty_rows(smooth, hole[0].all(1))


def _reflect(view: Tensor, hole: Tensor, disparity: Tensor) -> tuple[Tensor, Tensor]:
    width = hole.shape[2]
    sides = hole_sides(hole[None], disparity[None])
    left, right, border, step = (each[0] for each in sides)
    size = right - left - 1
    column = torch.arange(width, device=hole.device).expand(hole.shape)
    k = (column - border).abs() - 1
    lengths = _surface_lengths(hole, disparity)
    length = _length_at(lengths, border, step).minimum(size).clamp(min=1)
    other = torch.where(step > 0, left, right)
    rise = disparity.gather(2, other.clamp(0, width - 1)) - disparity.gather(2, border.clamp(min=0))
    both = (other >= 0) & (other < width) & (rise.abs() <= SAME_SURFACE * width)
    other_length = _length_at(lengths, other, -step).minimum(size).clamp(min=1)
    near = _take(view, _mirrored(k, border, step, length))
    far = _take(view, _mirrored(size - 1 - k, other, -step, other_length))
    share = ((k + 1).double() / (size + 1)).to(view.dtype)
    colour = torch.where(both, near + share * (far - near), near)
    closest = torch.where(both, k.minimum(size - 1 - k), k) + 1
    inside = hole & (step != 0)
    return torch.where(inside, colour, view), torch.where(inside, closest, 0)


def _surface_lengths(hole: Tensor, disparity: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels from each column on until its surface ends, going left and going right: (1, H, W) each."""
    width = hole.shape[2]
    column = torch.arange(width, device=hole.device).expand(hole.shape)
    torn = torch.ones_like(hole)  # between a column and the one to its left
    torn[..., 1:] = hole[..., 1:] | hole[..., :-1] | ((disparity[..., 1:] - disparity[..., :-1]).abs() > TEAR_PX)
    first = torch.where(torn, column, 0).cummax(2).values
    ends = torch.ones_like(hole)
    ends[..., :-1] = torn[..., 1:]
    last = torch.where(ends, column, width).flip(2).cummin(2).values.flip(2)
    return column - first + 1, last - column + 1


def _length_at(lengths: tuple[Tensor, Tensor], border: Tensor, step: Tensor) -> Tensor:
    border = border.clamp(0, border.shape[2] - 1)
    return torch.where(step > 0, lengths[1].gather(2, border), lengths[0].gather(2, border))


def _mirrored(k: Tensor, border: Tensor, step: Tensor, length: Tensor) -> Tensor:
    k = k % (2 * length)
    return border + step * torch.where(k < length, k, 2 * length - 1 - k)


def _take(view: Tensor, column: Tensor) -> Tensor:
    return view.gather(2, column.clamp(0, view.shape[2] - 1).expand_as(view))


def _smooth(image: Tensor, distance: Tensor, counts: Tensor, run: Tensor | None, *, axis: int) -> Tensor:
    """Average the pixels that count along an axis (inside the same run, if given), with triangular weights."""
    length = image.shape[axis]
    radius = distance.clamp(max=WIDEST_PX)
    total, weights = torch.zeros_like(image), torch.zeros_like(image[:1])
    index = torch.arange(length, device=image.device)
    shape = (1, -1, 1) if axis == 1 else (1, 1, -1)
    for offset in range(-WIDEST_PX, WIDEST_PX + 1):
        other = (index + offset).clamp(0, length - 1)
        inside = (index + offset == other).view(shape) & counts.index_select(axis, other)
        if run is not None:
            inside = inside & (run.index_select(axis, other) == run)
        weight = (radius + 1 - abs(offset)).clamp(min=0) * inside
        total += weight * image.index_select(axis, other)
        weights += weight
    return torch.where(counts & (weights > 0), total / weights.clamp(min=1), image)


def _fill_empty_rows(view: Tensor, empty: Tensor) -> Tensor:
    row = torch.arange(len(empty), device=view.device)
    distance = (row[:, None] - row).abs() + len(empty) * empty
    return view[:, torch.where(empty.all(), row, distance.argmin(1))]
