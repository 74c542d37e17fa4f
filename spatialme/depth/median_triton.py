"""The median filter of `edges` as a Triton kernel: each of a pixel's neighbours is ranked among them."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 256  # pixels of a row per program


def median(values: Tensor, side: int) -> Tensor:
    """Median over `side` by `side` pixels, the border repeated: (T, 1, H, W) float32 on a GPU, `side` odd."""
    count, _, height, width = values.shape
    values = values.contiguous()
    result = torch.empty_like(values)
    grid = (count * height, triton.cdiv(width, BLOCK))
    _median[grid](values, result, height, width, SIDE=side, BLOCK=BLOCK)
    return result


@triton.jit
def _median(values, result, height, width, SIDE: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    frame = values + (row // height).to(tl.int64) * height * width
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    middle = tl.zeros((BLOCK,), tl.float32)
    for one in range(SIDE * SIDE):
        value = _neighbour(frame, row % height, column, inside, one, height, width, SIDE)
        smaller = tl.zeros((BLOCK,), tl.int32)
        for other in tl.static_range(SIDE * SIDE):
            rival = _neighbour(frame, row % height, column, inside, other, height, width, SIDE)
            smaller += ((rival < value) | ((rival == value) & (other < one))).to(tl.int32)
        middle = tl.where(smaller == SIDE * SIDE // 2, value, middle)
    tl.store(result + row.to(tl.int64) * width + column, middle, mask=inside)


@triton.jit
def _neighbour(frame, row, column, inside, number, height, width, SIDE: tl.constexpr):
    y = tl.minimum(tl.maximum(row + number // SIDE - SIDE // 2, 0), height - 1)
    x = tl.minimum(tl.maximum(column + number % SIDE - SIDE // 2, 0), width - 1)
    return tl.load(frame + y * width + x, mask=inside, other=0.0)
