"""The forward warp in PyTorch, for any device: all frames at once, no waiting for the device, the same bytes each time.

Every source pixel proposes the few output pixels that its piece of surface covers; the nearest proposal wins by a
maximum over integers that hold (disparity, source column), which no order of execution can change.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from spatialme.warp.sampling import PHASES, TAPS_BEFORE, kernel_table
from spatialme.warp.surface import CHIP_PX, SEGMENT_CENTRES, TEAR_PX, ForwardWarp, check_shapes, landing_shift

NOTHING = torch.iinfo(torch.int64).min
TIE_MASK = 0xFFFFFFFF


def forward_warp_torch(frames: Tensor, disparity: Tensor) -> ForwardWarp:
    """Warp left frames to the right view; the contract is in `spatialme.warp.surface`.

    Args:
        frames: (T, 3, H, W) float in [0, 1], on any device.
        disparity: (T, 1, H, W) signed px, finite (not checked here: that would wait for the device; a pixel that is
            not finite lands nowhere).

    Raises:
        ValueError: Shapes that do not fit.
    """
    check_shapes(frames, disparity)
    shift = landing_shift(disparity[:, 0])
    width = shift.shape[-1]
    column = torch.arange(width, device=shift.device, dtype=torch.float32)
    step = F.pad(disparity[:, 0].float().diff(dim=-1), (1, 1), value=torch.inf)
    torn = ~(step.abs() <= TEAR_PX)  # (T, H, W + 1), at the left border of each pixel and at the frame's right border
    rise = torch.where(torn, 0.0, step)[..., 1:]

    first = torch.where(torn[..., :-1], column, 0.0).cummax(-1).values.long()  # of the untorn stretch of each column
    last = torch.where(torn[..., 1:], column, float(width)).flip(-1).cummin(-1).values.flip(-1).long()
    falls = torn & (step < 0)
    is_chip = (last - first < CHIP_PX) & falls.gather(-1, first) & falls.gather(-1, last + 1)

    key = _nearest(shift, rise, torn, is_chip, column)
    hole = key == NOTHING
    index = torch.where(hole, 0, width - 1 - (key & TIE_MASK))
    offset, seen = _along(column - index, shift.gather(-1, index), rise.gather(-1, index))
    offset = torch.where(hole, 0.0, offset)
    view = _sample(frames.float(), index, offset, first.gather(-1, index), last.gather(-1, index))
    view = torch.where(hole[:, None], 0.0, view).to(frames.dtype)
    return ForwardWarp(view, torch.where(hole, 0.0, seen)[:, None], hole[:, None])


def _nearest(shift: Tensor, rise: Tensor, torn: Tensor, is_chip: Tensor, column: Tensor) -> Tensor:
    """The winner of each output pixel, as `order_key`, or `NOTHING`: (T, H, W) int64."""
    width = len(column)
    begin = column - shift.floor()
    half_begin = column - (shift + 0.5).floor()
    next_shift = F.pad(shift[..., 1:], (0, 1))
    end = torch.where(torn[..., 1:], column - (shift - 0.5).floor(), column + 1 - next_shift.floor())
    nearest = torch.full_like(shift, NOTHING, dtype=torch.int64)

    def propose(target: Tensor, covers: Tensor, seen: Tensor) -> None:
        covers = covers & ~is_chip & (target >= 0) & (target < width)
        key = torch.where(covers, order_key(seen, width - 1 - column), NOTHING)
        nearest.scatter_reduce_(-1, target.clamp(0, width - 1).long(), key, "amax")

    propose(half_begin, torn[..., :-1] & (half_begin < begin), shift)
    for centre in range(SEGMENT_CENTRES):
        target = begin + centre
        _, seen = _along(target - column, shift, rise)
        propose(target, target < end, seen)
    return nearest


def order_key(disparity: Tensor, tie_break: Tensor) -> Tensor:
    """An integer that sorts by disparity, then by `tie_break` (both larger wins): int64."""
    bits = (disparity + 0.0).view(torch.int32)  # + 0.0 makes -0.0 equal to 0.0
    ascending = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # IEEE bit patterns in numerical order
    return (ascending.long() << 32) | tie_break.long()


def _along(columns: Tensor, shift: Tensor, rise: Tensor) -> tuple[Tensor, Tensor]:
    """Where a pixel centre, `columns` right of a source column, meets its surface: offset in source px, disparity."""
    distance = columns + shift
    offset = torch.where(distance < 0, distance, distance / (1 - rise))
    return offset, shift + torch.where(distance < 0, 0.0, offset) * rise


def _sample(frames: Tensor, index: Tensor, offset: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """Read each row at `index + offset` with the shared kernel, inside columns first..last: (T, 3, H, W)."""
    before = offset < 0
    start = index - before.long() - TAPS_BEFORE
    phase = (torch.where(before, offset + 1, offset) * PHASES + 0.5).long()
    kernel = kernel_on(frames.device)

    def tap(number: int) -> Tensor:
        source = torch.maximum(torch.minimum(start + number, last), first)
        weight = kernel[:, number][phase]
        return frames.gather(-1, source[:, None].expand_as(frames)) * weight[:, None]

    # the order of `scanline._weigh`, so that both agree to the bit
    near, middle, far = tap(2) + tap(3), tap(1) + tap(4), tap(0) + tap(5)
    return ((near + middle) + far).clamp(0, 1)


@lru_cache(maxsize=8)
def kernel_on(device: torch.device) -> Tensor:
    return torch.from_numpy(kernel_table()).to(device)  # once: copying from the host waits for the device
