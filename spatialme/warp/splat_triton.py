"""The forward warp as two Triton kernels: what `splat` computes, to the bit, in one pass over the frames each way.

The first kernel lets every source pixel propose the output pixels that its piece of surface covers, by an atomic
maximum over `splat.order_key`'s integers, which no order of execution can change. The second reads, at every output
pixel, the winner's row. Additions and products are not fused, so that they round as elsewhere.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from spatialme.warp.sampling import PHASES, TAPS_BEFORE
from spatialme.warp.splat import NOTHING, kernel_on
from spatialme.warp.surface import CHIP_PX, SEGMENT_CENTRES, TEAR_PX, ForwardWarp, check_shapes

BLOCK = 256  # pixels of a row per program
_TEAR = tl.constexpr(TEAR_PX)
_CENTRES = tl.constexpr(SEGMENT_CENTRES)
_PHASES = tl.constexpr(float(PHASES))
_TAPS_BEFORE = tl.constexpr(TAPS_BEFORE)
_NOTHING = tl.constexpr(NOTHING)

assert CHIP_PX == 2, "the kernels look two columns to each side of a chip"


def forward_warp_triton(frames: Tensor, disparity: Tensor) -> ForwardWarp:
    """Warp left frames to the right view; the contract is in `spatialme.warp.surface`.

    Args:
        frames: (T, 3, H, W) float in [0, 1], on a GPU.
        disparity: (T, 1, H, W) signed px, finite (not checked here: that would wait for the device; a pixel that is
            not finite lands nowhere).

    Raises:
        ValueError: Shapes that do not fit.
    """
    check_shapes(frames, disparity)
    count, _, height, width = frames.shape
    colours, shifts = frames.float().contiguous(), disparity.float().contiguous()
    nearest = torch.full((count, height, width), NOTHING, dtype=torch.int64, device=frames.device)
    view, seen = torch.empty_like(colours), torch.empty_like(shifts)
    hole = torch.empty(shifts.shape, dtype=torch.bool, device=frames.device)
    grid = (count * height, triton.cdiv(width, BLOCK))
    _propose[grid](shifts, nearest, width, BLOCK=BLOCK, enable_fp_fusion=False)
    kernel = kernel_on(frames.device)
    _read[grid](colours, shifts, nearest, kernel, view, seen, hole, height, width, BLOCK=BLOCK, enable_fp_fusion=False)
    return ForwardWarp(view.to(frames.dtype), seen, hole)


@triton.jit
def order_key(disparity, tie_break):
    """`splat.order_key`: int64 that sorts by disparity, then by `tie_break`."""
    bits = tl.where(disparity == 0.0, 0.0, disparity).to(tl.int32, bitcast=True)  # -0.0 equals 0.0
    ascending = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ascending.to(tl.int64) << 32) | tie_break.to(tl.int64)


@triton.jit
def _disparity(row_of, column, width):
    """Of columns of a row, 0 outside it."""
    return tl.load(row_of + column, mask=(column >= 0) & (column < width), other=0.0)


@triton.jit
def _landing(disparity, width):
    """`surface.landing_shift`."""
    return tl.where(tl.abs(disparity) < 2.0 * width, disparity, 3.0 * width)


@triton.jit
def _is_torn(row_of, border, width):
    """Whether the surface is torn at the left border of a column; and whether the disparity falls there."""
    step = _disparity(row_of, border, width) - _disparity(row_of, border - 1, width)
    inside = (border > 0) & (border < width)
    torn = ~(inside & (tl.abs(step) <= _TEAR))
    return torn, inside & torn & (step < 0)


@triton.jit
def _propose(shifts, nearest, width, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    row_of, nearest_of = shifts + row * width, nearest + row * width
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    disparity = _disparity(row_of, column, width)
    shift = _landing(disparity, width)
    next_disparity = _disparity(row_of, column + 1, width)
    torn_left, falls_left = _is_torn(row_of, column, width)
    torn_right, falls_right = _is_torn(row_of, column + 1, width)
    torn_left2, falls_left2 = _is_torn(row_of, column - 1, width)
    torn_right2, falls_right2 = _is_torn(row_of, column + 2, width)
    is_chip = torn_left & torn_right & falls_left & falls_right
    is_chip |= torn_left & falls_left & ~torn_right & torn_right2 & falls_right2
    is_chip |= ~torn_left & torn_left2 & falls_left2 & torn_right & falls_right
    inside = inside & ~is_chip

    place = column.to(tl.float32)
    rise = tl.where(torn_right, 0.0, next_disparity - disparity)
    begin = place - tl.floor(shift)
    half_begin = place - tl.floor(shift + 0.5)
    end = tl.where(torn_right, place - tl.floor(shift - 0.5), place + 1.0 - tl.floor(_landing(next_disparity, width)))
    covers = inside & torn_left & (half_begin < begin) & (half_begin >= 0) & (half_begin < width)
    tie_break = width - 1 - column
    tl.atomic_max(nearest_of + half_begin.to(tl.int32), order_key(shift, tie_break), mask=covers, sem="relaxed")
    for centre in tl.static_range(_CENTRES):
        target = begin + centre
        _, seen = _along(target - place, shift, rise)
        covers = inside & (target < end) & (target >= 0) & (target < width)
        tl.atomic_max(nearest_of + target.to(tl.int32), order_key(seen, tie_break), mask=covers, sem="relaxed")


@triton.jit
def _along(columns, shift, rise):
    """`splat._along`."""
    distance = columns + shift
    offset = tl.where(distance < 0, distance, tl.div_rn(distance, 1.0 - rise))
    return offset, shift + tl.where(distance < 0, 0.0, offset) * rise


@triton.jit
def _read(colours, shifts, nearest, kernel, view, seen, hole, height, width, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    row_of = shifts + row * width
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    key = tl.load(nearest + row * width + column, mask=inside, other=_NOTHING)
    known = inside & (key != _NOTHING)
    index = tl.where(known, width - 1 - (key & 0xFFFFFFFF).to(tl.int32), 0)

    disparity = _disparity(row_of, index, width)
    torn_right, _ = _is_torn(row_of, index + 1, width)
    rise = tl.where(torn_right, 0.0, _disparity(row_of, index + 1, width) - disparity)
    offset, surface = _along((column - index).to(tl.float32), _landing(disparity, width), rise)
    tl.store(seen + row * width + column, tl.where(known, surface, 0.0), mask=inside)
    tl.store(hole + row * width + column, ~known, mask=inside)

    first, last = _untorn(row_of, index, width)
    before = known & (offset < 0)
    start = index - before.to(tl.int32) - _TAPS_BEFORE
    phase = (tl.where(known, tl.where(before, offset + 1.0, offset), 0.0) * _PHASES + 0.5).to(tl.int32)
    frame = row // height
    for channel in tl.static_range(3):
        line = ((frame * 3 + channel) * height + row % height) * width
        near = _tap(colours + line, kernel, start, phase, first, last, known, 2)
        near += _tap(colours + line, kernel, start, phase, first, last, known, 3)
        middle = _tap(colours + line, kernel, start, phase, first, last, known, 1)
        middle += _tap(colours + line, kernel, start, phase, first, last, known, 4)
        far = _tap(colours + line, kernel, start, phase, first, last, known, 0)
        far += _tap(colours + line, kernel, start, phase, first, last, known, 5)
        value = tl.minimum(tl.maximum((near + middle) + far, 0.0), 1.0)
        tl.store(view + line + column, tl.where(known, value, 0.0), mask=inside)


@triton.jit
def _untorn(row_of, index, width):
    """First and last column, of those that taps reach, of the untorn stretch around a column."""
    first, last = index, index
    left_open, right_open = index >= 0, index >= 0
    for step in tl.static_range(3):
        torn_left, _ = _is_torn(row_of, index - step, width)
        torn_right, _ = _is_torn(row_of, index + step + 1, width)
        left_open, right_open = left_open & ~torn_left, right_open & ~torn_right
        first -= left_open.to(tl.int32)
        last += right_open.to(tl.int32)
    return first, last


@triton.jit
def _tap(line, kernel, start, phase, first, last, known, number: tl.constexpr):
    source = tl.maximum(tl.minimum(start + number, last), first)
    return tl.load(line + source, mask=known, other=0.0) * tl.load(kernel + phase * 6 + number, mask=known, other=0.0)
