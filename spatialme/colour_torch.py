"""Frames on a GPU straight from their YUV planes: 1.5 bytes a pixel go over the bus instead of 3, and no RGB is made on
the CPU. The PyTorch twin of `video.colour_kernels.yuv_to_rgb`, to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from spatialme.shots import to_tensor
from spatialme.transfer import to_device
from spatialme.video.convert_pixels import YuvPlanes, yuv_planes
from spatialme.video.picture import Picture


def frames_of(pictures: Sequence[Picture], device: torch.device) -> Tensor:
    """What `shots.to_tensor` makes of the pictures' RGB: (T, 3, H, W) float in [0, 1] on the device."""
    planes = [yuv_planes(picture.frame) for picture in pictures]
    if any(each is None for each in planes):
        return to_tensor([picture.rgb() for picture in pictures], device)
    return torch.stack([_frame_of(each, device) for each in planes if each is not None])


def _frame_of(planes: YuvPlanes, device: torch.device) -> Tensor:
    parts = [np.ascontiguousarray(part) for part in (planes.luma, planes.chroma_u, planes.chroma_v)]
    luma, chroma_u, chroma_v = (to_device(torch.from_numpy(part), device).float() for part in parts)
    return yuv_to_rgb(luma, chroma_u, chroma_v, planes.shift, [float(gain) for gain in planes.table], planes.maximum)


def yuv_to_rgb(
    luma: Tensor, chroma_u: Tensor, chroma_v: Tensor, shift: tuple[int, int], table: Sequence[float], maximum: int
) -> Tensor:
    """RGB of one frame, (3, H, W) in [0, 1], in steps of 1 / maximum.

    Args:
        luma: (H, W) float32 samples.
        chroma_u: (h, w), likewise.
        chroma_v: (h, w).
        shift: log2 of how many luma columns and rows share a chroma sample.
        table: As for `colour_kernels.yuv_to_rgb`; float32 values.
        maximum: 255 or 65535.
    """
    luma_zero, chroma_zero, luma_gain, red_v, green_u, green_v, blue_u = table
    u, v = (_at_luma(plane, luma.shape, shift, chroma_zero) for plane in (chroma_u, chroma_v))
    level = (luma - luma_zero) * luma_gain + 0.5
    rgb = torch.stack([level + red_v * v, level + green_u * u + green_v * v, level + blue_u * u])
    return rgb.clamp_(0, maximum).floor_().div_(maximum)


def _at_luma(plane: Tensor, size: Sequence[int], shift: tuple[int, int], zero: float) -> Tensor:
    """Interpolate chroma, less `zero`, at every luma sample: level with every group's first, between a group's rows."""
    height, width = size
    shift_x, shift_y = shift
    position = (torch.arange(height, device=plane.device) + 0.5) / (1 << shift_y) - 0.5
    above = position.floor()
    part = (position - above)[:, None]
    upper = plane.index_select(0, above.long().clamp(min=0))
    lower = plane.index_select(0, (above.long() + 1).clamp(max=(height - 1) >> shift_y))
    row = upper + (lower - upper) * part - zero
    columns = -(-width // (1 << shift_x))
    row = row[:, :columns]
    following = torch.cat([row[:, 1:], row[:, -1:]], 1)
    groups = [row + (following - row) * (k / (1 << shift_x)) for k in range(1 << shift_x)]
    return torch.stack(groups, -1).flatten(1)[:, :width]
