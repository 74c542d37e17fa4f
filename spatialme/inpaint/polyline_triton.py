"""The fast version of `polyline` as two Triton kernels: the same pictures to the bit, without waiting for the device.

The first kernel walks every segment over its sub-samples and keeps the closest by an atomic maximum over integers
(closeness, then the smaller segment number), which no order of execution can change; the second averages colours.
Additions and products are not fused, so that they round as elsewhere.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from spatialme.inpaint.polyline import STRETCH_PX
from spatialme.warp.splat import NOTHING
from spatialme.warp.splat_triton import order_key

BLOCK = 128  # columns of a row per program
KEYS_AT_ONCE = 1 << 25  # sub-samples of some frames together, at 8 bytes each; one frame at least
_STRETCH = tl.constexpr(STRETCH_PX)
_NOTHING = tl.constexpr(NOTHING)


def sample_polylines(colours: Tensor, shift_px: Tensor, half_width: float, samples: int) -> tuple[Tensor, Tensor]:
    """As `polyline_torch.sample_polylines`; tensors on a GPU."""
    count, _, height, width = colours.shape
    colours, shift_px = colours.contiguous(), shift_px.contiguous()
    view = torch.empty_like(colours)
    stretch = torch.empty((count, 1, height, width), dtype=torch.bool, device=colours.device)
    frames = max(1, KEYS_AT_ONCE // (height * width * samples))
    near, far = 0.5 - half_width, 0.5 + half_width
    for start in range(0, count, frames):
        part = slice(start, min(start + frames, count))
        rows = (part.stop - start) * height
        nearest = torch.full((rows, width * samples), NOTHING, dtype=torch.int64, device=colours.device)
        grid = (rows, triton.cdiv(width, BLOCK))
        fixed = dict(SAMPLES=samples, BLOCK=BLOCK, enable_fp_fusion=False)
        _cover[grid](shift_px[part], nearest, width, near, far, 1 / samples, **fixed)
        _resolve[grid](
            colours[part], shift_px[part], nearest, view[part], stretch[part], height, width, near, far, 1 / samples,
            **fixed,
        )  # fmt: skip
    return view, stretch


@triton.jit
def _first_sub_sample(x, width, SAMPLES: tl.constexpr):
    """The first sub-sample not left of x, within the row."""
    place = tl.ceil(x * SAMPLES - 0.5)
    return tl.minimum(tl.maximum(place, 0.0), (width * SAMPLES).to(tl.float32)).to(tl.int32)


@triton.jit
def _cover(shift_px, nearest, width, near, far, step, SAMPLES: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    has_joint = column + 1 < width
    closeness = tl.load(shift_px + row * width + column, mask=inside, other=0.0)
    following = tl.load(shift_px + row * width + column + 1, mask=has_joint, other=0.0)
    x = column.to(tl.float32) - closeness
    begin, end, next_begin = x + near, x + far, ((column + 1).to(tl.float32) - following) + near
    first = _first_sub_sample(begin, width, SAMPLES)
    middle = _first_sub_sample(end, width, SAMPLES)
    last = _first_sub_sample(next_begin, width, SAMPLES)
    row_of = nearest + row * width * SAMPLES

    length = tl.where(inside, middle - first, 0)
    key = order_key(closeness, 2 * (width - column))  # ties go to the first segment
    longest = tl.max(length, 0)
    k = longest * 0
    while k < longest:  # Triton 3.6 cannot interpret such a range with NumPy 2.4
        tl.atomic_max(row_of + first + k, key, mask=k < length, sem="relaxed")
        k += 1

    length = tl.where(has_joint, last - middle, 0)
    slope = tl.div_rn(following - closeness, tl.where(length > 0, next_begin - end, 1.0))
    longest = tl.max(length, 0)
    k = longest * 0
    while k < longest:
        place = middle + k
        here = closeness + slope * ((place.to(tl.float32) + 0.5) * step - end)
        key = order_key(here, 2 * (width - column) - 1)
        tl.atomic_max(row_of + place, key, mask=k < length, sem="relaxed")
        k += 1


@triton.jit
def _resolve(
    colours, shift_px, nearest, view, stretch, height, width, near, far, share, SAMPLES: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    shift_of = shift_px + row * width
    start_of_row = _first_sub_sample(0.0 - tl.load(shift_of) + near, width, SAMPLES)
    line = (row // height * 3 * height + row % height) * width
    plane = height.to(tl.int64) * width
    red = tl.zeros((BLOCK,), tl.float32)
    green = tl.zeros((BLOCK,), tl.float32)
    blue = tl.zeros((BLOCK,), tl.float32)
    stretched = tl.zeros((BLOCK,), tl.int32)
    for k in tl.static_range(SAMPLES):
        place = column * SAMPLES + k
        key = tl.load(nearest + row * width * SAMPLES + place, mask=inside, other=_NOTHING)
        number = 2 * width - (key & 0xFFFFFFFF).to(tl.int32)
        number = tl.where(key == _NOTHING, tl.where(place < start_of_row, -1, 2 * width - 1), number)
        first = tl.maximum(number >> 1, 0)
        second = tl.minimum((number >> 1) + 1, width - 1)
        joint = (number & 1) == 1
        beyond = first == second
        start = (first.to(tl.float32) - tl.load(shift_of + first, mask=inside, other=0.0)) + far
        length = ((second.to(tl.float32) - tl.load(shift_of + second, mask=inside, other=0.0)) + near) - start
        blends = joint & ~beyond
        blend = tl.div_rn((place.to(tl.float32) + 0.5) * share - start, tl.where(blends, length, 1.0))
        blend = tl.where(blends, blend, 0.0)
        stretched += (joint & (beyond | (length > _STRETCH))).to(tl.int32)
        red += _between(colours + line, first, second, blend, inside)
        green += _between(colours + line + plane, first, second, blend, inside)
        blue += _between(colours + line + 2 * plane, first, second, blend, inside)
    tl.store(view + line + column, red * share, mask=inside)
    tl.store(view + line + plane + column, green * share, mask=inside)
    tl.store(view + line + 2 * plane + column, blue * share, mask=inside)
    tl.store(stretch + row * width + column, 2 * stretched > SAMPLES, mask=inside)


@triton.jit
def _between(line, first, second, blend, inside):
    left = tl.load(line + first, mask=inside, other=0.0)
    return left + blend * (tl.load(line + second, mask=inside, other=0.0) - left)
