"""Bring nearness from network size to frame size with its steps on the image's edges.

A network's depth crosses an object's border in a ramp several of its pixels wide. Warped as it is, the ramp drags a rim
of the object along: a halo. Two passes of one operation remove it, the first among the network's own pixels with a
window wider than the ramp, the second from there to the frame's pixels:

- where the window holds no step, the nearness is interpolated and the image is not looked at (no texture is copied);
- at a step, every pixel takes the nearness of the samples around it that have its colour and do not lie on the ramp
  (joint bilateral upsampling: J. Kopf et al., SIGGRAPH 2007), and is pushed towards the nearer of the window's ends.

A median over the result removes what the colours of single pixels tore out: specks of a wall inside dark hair, frayed
outlines. A window of five rids the sam2 clips of them by eye; of three, only of half.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from spatialme.depth import edges_numba
from spatialme.device import computes_with_triton

RAMP_RADIUS = 4  # network px; the first pass's window spans a ramp of nine
PIXEL_RADIUS = 2  # network px; after the first pass a step is at most so wide
STEP_START, STEP_FULL = 0.03, 0.08  # second difference of nearness, half a window apart, from which on there is a step
# difference of colours (of 1) that counts little; smaller values make ragged outlines before foliage
COLOUR_NOISE = 0.08
RAMP_SLOPE = 0.03  # nearness per network px at which a sample counts half
MEDIAN_SIDE = 5  # px of the frame; the largest window that OpenCV takes for floats
STEEPNESS = 2.0  # of the push towards the ends
LIMITS = edges_numba.Limits(
    *(np.float32(limit) for limit in (STEP_START, STEP_FULL, RAMP_SLOPE, STEEPNESS, COLOUR_NOISE))
)


def upsample(nearness: Tensor, guide: Tensor, frames: Tensor) -> Tensor:
    """Nearness at frame size, its steps on the frame's edges.

    Args:
        nearness: (T, 1, h, w) in [0, 1].
        guide: (T, 3, h, w) the frames at the same small size, RGB in [0, 1].
        frames: (T, 3, H, W).

    Returns:
        (T, 1, H, W) in [0, 1], on the frames' device.
    """
    if frames.device.type == "cpu":
        sharp = joint_numba(nearness, guide, guide, RAMP_RADIUS)
        return median_opencv(joint_numba(sharp, guide, frames, PIXEL_RADIUS))
    sharp = joint_torch(nearness, guide, guide, RAMP_RADIUS)
    fine = joint_torch(sharp, guide, frames, PIXEL_RADIUS)
    if computes_with_triton(frames.device):
        from spatialme.depth.median_triton import median

        return median(fine, MEDIAN_SIDE)
    return median_torch(fine)


def median_opencv(nearness: Tensor) -> Tensor:
    """Median over `MEDIAN_SIDE` by `MEDIAN_SIDE` pixels, the border repeated: (T, 1, H, W) on the CPU."""
    frames = [cv2.medianBlur(frame.numpy(), MEDIAN_SIDE) for frame in nearness[:, 0]]
    return torch.from_numpy(np.stack(frames)[:, None])


def median_torch(nearness: Tensor) -> Tensor:
    """`median_opencv` in plain PyTorch, on any device; frame by frame, for it needs 25 times a frame's memory."""
    reach = MEDIAN_SIDE // 2
    padded = F.pad(nearness, (reach, reach, reach, reach), mode="replicate")
    frames = [F.unfold(padded[t : t + 1], MEDIAN_SIDE).median(dim=1).values for t in range(len(nearness))]
    return torch.cat(frames).view(nearness.shape)


def joint_torch(nearness: Tensor, guide: Tensor, colours: Tensor, radius: int) -> Tensor:
    """One pass in plain PyTorch, on any device; the Numba pass computes the same.

    Args:
        nearness: (T, 1, h, w) samples.
        guide: (T, 3, h, w) their colours.
        colours: (T, 3, H, W) colours of the pixels wanted.
        radius: Samples looked at each way, in sample distances.
    """
    height, width = colours.shape[-2:]
    base = F.interpolate(nearness, size=(height, width), mode="bilinear", align_corners=False)
    low, high, step, confidence = neighbourhood(nearness, radius)
    row, row_offset = _centres(height, nearness.shape[-2], nearness)
    column, column_offset = _centres(width, nearness.shape[-1], nearness)
    total, total_weight = torch.zeros_like(base), torch.zeros_like(base)
    for dy in range(-radius, radius + 1):
        rows = (row + dy).clamp(0, nearness.shape[-2] - 1)
        row_weight = _bell(dy - row_offset, radius).unsqueeze(1)
        for dx in range(-radius, radius + 1):
            columns = (column + dx).clamp(0, nearness.shape[-1] - 1)
            difference = guide[:, :, rows][..., columns] - colours
            squared = difference.square().mean(dim=1, keepdim=True) + COLOUR_NOISE**2
            weight = row_weight * _bell(dx - column_offset, radius) * confidence[:, :, rows][..., columns]
            weight = weight / (squared * squared)
            total = total + weight * nearness[:, :, rows][..., columns]
            total_weight = total_weight + weight
    low, high = low[:, :, row][..., column], high[:, :, row][..., column]
    spread = high - low
    place = ((total / total_weight - low) / spread.clamp_min(STEP_START) - 0.5) * STEEPNESS + 0.5
    stepped = low + spread * place.clamp(0, 1)
    return base + step[:, :, row][..., column] * (stepped - base)


def joint_numba(nearness: Tensor, guide: Tensor, colours: Tensor, radius: int) -> Tensor:
    """`joint_torch` on the CPU, which looks at colours only where there is a step."""
    maps = [torch.empty_like(nearness, memory_format=torch.contiguous_format) for _ in range(4)]
    near, low, high, step, confidence = (values.squeeze(1).contiguous().numpy() for values in (nearness, *maps))
    edges_numba.neighbourhood(near, radius, LIMITS, low, high, step, confidence)
    samples = F.pad(torch.cat((nearness, maps[3], guide), dim=1), (radius,) * 4, mode="replicate")
    rows, columns = (_grid(colours.shape[side], nearness.shape[side], radius) for side in (-2, -1))
    result = torch.empty_like(colours[:, :1], memory_format=torch.contiguous_format)
    edges_numba.joint(
        near,
        edges_numba.Window(low, high, step),
        samples.numpy(),
        colours.numpy(),
        rows,
        columns._replace(bell=np.tile(columns.bell, 2 * radius + 1)),
        LIMITS,
        result.numpy(),
    )
    return result


def neighbourhood(nearness: Tensor, radius: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four maps (T, 1, h, w): the window's lowest and highest nearness, how surely it holds a step, and confidence.

    A sample on a ramp has little confidence. A slope, however steep, is no step: it does not bend.
    """
    high, low = _window_maximum(nearness, radius), -_window_maximum(-nearness, radius)
    reach = radius // 2
    padded = F.pad(nearness, (reach, reach, reach, reach), mode="replicate")
    middle = 2 * nearness
    bend = torch.maximum(
        (padded[:, :, reach:-reach, 2 * reach :] + padded[:, :, reach:-reach, : -2 * reach] - middle).abs(),
        (padded[:, :, 2 * reach :, reach:-reach] + padded[:, :, : -2 * reach, reach:-reach] - middle).abs(),
    )
    step = ((_window_maximum(bend, radius) - STEP_START) / (STEP_FULL - STEP_START)).clamp(0, 1)
    slope = (_window_maximum(nearness, 1) + _window_maximum(-nearness, 1)) / 2
    return low, high, step, 1 / (1 + (slope / RAMP_SLOPE) ** 2)


def _window_maximum(values: Tensor, radius: int) -> Tensor:
    side = 2 * radius + 1
    return F.max_pool2d(F.max_pool2d(values, (side, 1), 1, (radius, 0)), (1, side), 1, (0, radius))


def _centres(count: int, samples: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """For each of `count` pixels along a side: the sample nearest to it, and its distance from that in samples."""
    place = (torch.arange(count, device=like.device, dtype=torch.float32) + 0.5) * (samples / count) - 0.5
    nearest = (place + 0.5).floor().clamp(0, samples - 1)
    return nearest.long(), place - nearest


def _grid(count: int, samples: int, radius: int) -> edges_numba.Grid:
    """How `count` pixels lie among the samples of a side, with windows of that radius."""
    nearest, offset = _centres(count, samples, torch.empty(0))
    bell = _bell(torch.arange(-radius, radius + 1) - offset.unsqueeze(1), radius)
    other = (nearest + torch.where(offset > 0, 1, -1)).clamp(0, samples - 1)
    begin = torch.searchsorted(nearest, torch.arange(samples + 1))
    return edges_numba.Grid(
        nearest.numpy().astype(np.uintp),
        other.numpy().astype(np.uintp),
        offset.abs().numpy(),
        bell.numpy(),
        begin.numpy(),
    )


def _bell(distance: Tensor, radius: int) -> Tensor:
    """Weight by distance along one side: 1 at 0, 0 one sample past the window."""
    ratio = distance / (radius + 1)
    return (1 - ratio * ratio).clamp_min(0) ** 2
