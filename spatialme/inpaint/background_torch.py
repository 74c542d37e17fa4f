"""The PyTorch twin of `background`, for other devices; no synchronisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from spatialme.device import computes_with_triton
from spatialme.flow.runs_torch import Sides, hole_sides
from spatialme.inpaint.background import SAME_SURFACE, WIDEST_PX
from spatialme.inpaint.texture import LIMIT
from spatialme.warp.surface import TEAR_PX

BAND_PIXELS = 2_100_000  # of a larger frame are filled at once: it takes 230 bytes each


def fill_background_torch(view: Tensor, hole: Tensor, disparity: Tensor) -> Tensor:
    """As `background.fill_background`."""
    height = hole.shape[1]
    bands = -(-hole.numel() // BAND_PIXELS)
    rows = -(-height // bands)
    filled = torch.empty_like(view)
    for top in range(0, height, rows):
        inner, start = slice(top, top + rows), max(top - WIDEST_PX, 0)
        outer = slice(start, top + rows + WIDEST_PX)  # what is smoothed looks no further
        fill = _fill(view[:, outer], hole[:, outer], disparity[:, outer])[:, top - start :][:, :rows]
        filled[:, inner] = torch.where(hole[:, inner], fill, view[:, inner])
    return _fill_empty_rows(filled, hole[0].all(1))


def _fill(view: Tensor, hole: Tensor, disparity: Tensor) -> Tensor:
    """The filling of whole rows, right inside holes only."""
    rows = _continue_rows(view, hole, disparity)
    fill = _smooth_both_ways(rows.filled, rows.distance, rows.distance > 0, rows.run)
    detail = rows.texture - _smooth_both_ways(rows.texture, rows.distance, rows.shown, rows.run)
    detail.div_(detail.abs().div_(LIMIT).add_(1))
    return torch.where(rows.shown, detail.add_(fill).clamp_(0, 1), fill)


class _Rows(NamedTuple):
    """What every row gives its own holes; the same shape as the view, or with one channel."""

    filled: Tensor  # the background continued; the view outside holes
    distance: Tensor  # int32 px from the background, 0 outside holes
    run: Tensor  # int32: the run's first column, -1 outside holes
    texture: Tensor  # borrowed from beside the hole, 0 elsewhere
    shown: Tensor  # bool: where there is such texture


def _continue_rows(view: Tensor, hole: Tensor, disparity: Tensor) -> _Rows:
    width = hole.shape[2]
    sides = Sides(*(each[0] for each in hole_sides(hole[None], disparity[None])))
    left, right, border, step = sides
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
    filled, distance = torch.where(inside, colour, view), torch.where(inside, closest, 0).int()
    run = torch.where(hole, left + 1, -1).int()
    return _Rows(filled, distance, run, *_borrowed_texture(view, hole, disparity, sides))


def _borrowed_texture(view: Tensor, hole: Tensor, disparity: Tensor, sides: Sides) -> tuple[Tensor, Tensor]:
    """As `texture.borrowed_texture`."""
    width = hole.shape[2]
    left, right, border, step = sides
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
