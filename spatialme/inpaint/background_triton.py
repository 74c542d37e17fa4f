"""The smoothing of `background` as a Triton kernel; a block of pixels without a hole is only copied."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from spatialme.inpaint.background import WIDEST_PX

BLOCK = 128  # pixels per program
_WIDEST = tl.constexpr(WIDEST_PX)


def smooth(image: Tensor, distance: Tensor, counts: Tensor, run: Tensor, *, axis: int) -> Tensor:
    """As `background_torch.smooth`; tensors on a GPU."""
    channels, height, width = image.shape
    image, result = image.contiguous(), torch.empty(image.shape, dtype=image.dtype, device=image.device)
    maps = [part.contiguous() for part in (distance.int(), counts, run.int())]
    grid = (triton.cdiv(height * width, BLOCK), channels)
    _smooth[grid](image, *maps, result, height, width, DOWN=axis == 1, BLOCK=BLOCK, enable_fp_fusion=False)
    return result


@triton.jit
def _smooth(image, distance, counts, run, result, height, width, DOWN: tl.constexpr, BLOCK: tl.constexpr):
    plane = tl.program_id(1) * height * width
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < height * width
    own = tl.load(image + plane + pixel, mask=inside, other=0.0)
    wanted = inside & (tl.load(counts + pixel, mask=inside, other=0) != 0)
    if tl.max(wanted.to(tl.int32), 0) > 0:
        radius = tl.minimum(tl.load(distance + pixel, mask=wanted, other=0), _WIDEST)
        own_run = tl.load(run + pixel, mask=wanted, other=0)
        total = tl.zeros((BLOCK,), tl.float32)
        weights = tl.zeros((BLOCK,), tl.float32)
        widest = tl.max(radius, 0)
        offset = -widest
        while offset <= widest:
            if DOWN:
                place, there = pixel // width + offset, pixel + offset * width
                near = wanted & (place >= 0) & (place < height)
            else:
                place, there = pixel % width + offset, pixel + offset
                near = wanted & (place >= 0) & (place < width)
            near = near & (tl.load(counts + there, mask=near, other=0) != 0)
            near = near & (tl.load(run + there, mask=near, other=0) == own_run)
            weight = tl.maximum(radius + 1 - tl.abs(offset), 0).to(tl.float32)
            weight = tl.where(near, weight, 0.0)
            total += weight * tl.load(image + plane + there, mask=near, other=0.0)
            weights += weight
            offset += 1
        own = tl.where(weights > 0, tl.div_rn(total, tl.maximum(weights, 1.0)), own)
    tl.store(result + plane + pixel, own, mask=inside)
