"""The PyTorch twin of `background`, for other devices; no synchronisation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from spatialme.device import computes_with_triton
from spatialme.flow.runs_torch import hole_sides
from spatialme.inpaint.background import SAME_SURFACE, WIDEST_PX
from spatialme.inpaint.texture import LIMIT
from spatialme.warp.surface import TEAR_PX


def fill_background_torch(view: Tensor, hole: Tensor, disparity: Tensor) -> Tensor:
    """As `background.fill_background`."""
    filled, distance = _continue_rows(view, hole, disparity)
    sides = hole_sides(hole[None], disparity[None])
    run = torch.where(hole, sides.left[0] + 1, -1)  # the run's first column, -1 outside holes
    texture, shown = _borrowed_texture(view, hole, disparity)
    fill = _smooth_both_ways(filled, distance, distance > 0, run)
    detail = texture - _smooth_both_ways(texture, distance, shown, run)
    detail = detail / (1 + detail.abs() / LIMIT)
    fill = torch.where(shown, (fill + detail).clamp(0, 1), fill)
    return _fill_empty_rows(torch.where(hole, fill, view), hole[0].all(1))


def _continue_rows(view: Tensor, hole: Tensor, disparity: Tensor) -> tuple[Tensor, Tensor]:
    width = hole.shape[2]
    sides = hole_sides(hole[None], disparity[None])
    left, right, border, step = (each[0] for each in sides)
    column = torch.arange(width, device=hole.device).expand(hole.shape)
    k = (column - border).abs()
    other = torch.where(step > 0, left, right)
    within = (other >= 0) & (other < width)
    both = within & (_step_between(disparity, other, border) <= SAME_SURFACE * width)
    beyond = border + step
    known = (beyond >= 0) & (beyond < width) & ~hole.gather(2, beyond.clamp(0, width - 1))
    further = within & ~both & known & (_step_between(disparity, beyond, border) <= TEAR_PX)
    near, far = _take(view, torch.where(further, beyond, border)), _take(view, other)
    share = (k.double() / (right - left)).to(view.dtype)
    colour = torch.where(both, near + share * (far - near), near)
    closest = torch.where(both, k.minimum(right - left - k), k)
    inside = hole & (step != 0)
    return torch.where(inside, colour, view), torch.where(inside, closest, 0)


def _borrowed_texture(view: Tensor, hole: Tensor, disparity: Tensor) -> tuple[Tensor, Tensor]:
    """As `texture.borrowed_texture`."""
    width = hole.shape[2]
    left, right, border, step = (each[0] for each in hole_sides(hole[None], disparity[None]))
    column = torch.arange(width, device=hole.device).expand(hole.shape)
    length = right - left - 1
    other, end = torch.where(step > 0, left, right), border + step * length
    between = (other >= 0) & (other < width)
    one_surface = between & (_step_between(disparity, other, border) <= SAME_SURFACE * width)

    # of every known column: the first and the last one of its surface
    torn = F.pad((disparity.diff(dim=2).abs() > TEAR_PX) | hole[..., 1:] | hole[..., :-1], (1, 1), value=True)
    first = torch.where(torn[..., :-1], column, 0).cummax(2).values
    last = torch.where(torn[..., 1:], column, width).flip(2).cummin(2).values.flip(2)
    known = border.clamp(0, width - 1)
    reaches = (end >= first.gather(2, known)) & (end <= last.gather(2, known))

    shown = hole & (step != 0) & ~one_surface & reaches
    source = torch.where(between, column + step * (length + 1), 2 * border - column)
    return torch.where(shown, _take(view, source), 0.0), shown


def _step_between(disparity: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Of two columns of each pixel's row; meaningless where one lies outside the frame."""
    last = disparity.shape[2] - 1
    return (disparity.gather(2, first.clamp(0, last)) - disparity.gather(2, second.clamp(0, last))).abs()


def _take(view: Tensor, column: Tensor) -> Tensor:
    return view.gather(2, column.clamp(0, view.shape[2] - 1).expand_as(view))


def _smooth_both_ways(image: Tensor, distance: Tensor, counts: Tensor, run: Tensor) -> Tensor:
    smoother = _smoother(image.device)
    return smoother(smoother(image, distance, counts, torch.zeros_like(run), axis=1), distance, counts, run, axis=2)


def _smoother(device: torch.device) -> Callable[..., Tensor]:
    if computes_with_triton(device):
        from spatialme.inpaint import background_triton

        return background_triton.smooth
    return smooth


def smooth(image: Tensor, distance: Tensor, counts: Tensor, run: Tensor, *, axis: int) -> Tensor:
    """Average the pixels that count over those of the same run along an axis, with triangular weights.

    Args:
        image: (C, H, W) float32.
        distance: (1, H, W) integers: how far each pixel looks, `WIDEST_PX` at most.
        counts: (1, H, W) bool; what does not count stays as it is.
        run: (1, H, W) integers.
        axis: 1 = down, 2 = across.
    """
    length = image.shape[axis]
    radius = distance.clamp(max=WIDEST_PX)
    total, weights = torch.zeros_like(image), torch.zeros_like(image[:1])
    index = torch.arange(length, device=image.device)
    shape = (1, -1, 1) if axis == 1 else (1, 1, -1)
    for offset in range(-WIDEST_PX, WIDEST_PX + 1):
        other = (index + offset).clamp(0, length - 1)
        inside = (index + offset == other).view(shape) & counts.index_select(axis, other)
        inside = inside & (run.index_select(axis, other) == run)
        weight = (radius + 1 - abs(offset)).clamp(min=0) * inside
        total += weight * image.index_select(axis, other)
        weights += weight
    return torch.where(counts & (weights > 0), total / weights.clamp(min=1), image)


def _fill_empty_rows(view: Tensor, empty: Tensor) -> Tensor:
    row = torch.arange(len(empty), device=view.device)
    distance = (row[:, None] - row).abs() + len(empty) * empty
    return view[:, torch.where(empty.all(), row, distance.argmin(1))]
