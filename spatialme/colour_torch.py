"""Frames on a GPU straight from their YUV planes, and back: 1.5 bytes a pixel go over the bus instead of 3, and the CPU
converts nothing. The PyTorch twins of `video.colour_kernels`, to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from spatialme.shots import to_tensor
from spatialme.transfer import Download, to_device
from spatialme.video.convert_pixels import YuvEncoding, YuvPlanes, yuv_planes
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


class DepartingPlanes:
    """Images on their way to the host as planar YUV: `shots.Departing`, and then `convert_pixels.from_rgb`."""

    def __init__(self, view: Tensor, encoding: YuvEncoding) -> None:
        """Round, convert and send (T, 3, H, W) in [0, 1], without waiting."""
        self._dtype = encoding.dtype
        planes = rgb_to_yuv(view, encoding)
        self._shapes = [plane.shape[1:] for plane in planes]
        self._download = Download(torch.cat([plane.flatten(1) for plane in planes], 1))

    def arrays(self) -> list[tuple[np.ndarray, ...]]:
        """Each image's planes, once they are there: (H, W), (h, w), (h, w); uint8 or uint16."""
        images = self._download.wait().numpy().view(self._dtype)
        ends = np.cumsum([shape.numel() for shape in self._shapes])[:-1]
        return [
            tuple(part.reshape(shape) for part, shape in zip(np.split(samples, ends), self._shapes))
            for samples in images
        ]


def rgb_to_yuv(view: Tensor, encoding: YuvEncoding) -> tuple[Tensor, Tensor, Tensor]:
    """Luma (T, H, W) and both chroma planes (T, h, w) of RGB images.

    Args:
        view: (T, 3, H, W) in [0, 1]; first rounded to whole levels, as images are.
        encoding: What to make of them.

    Returns:
        uint8, or for deeper planes int16 with the bits of the uint16 meant: torch has few operations on those.
    """
    luma_zero, chroma_zero, red_gain, green_gain, blue_gain, *gains, grey_scale = map(float, encoding.table)
    levels = view.float().clamp(0, 1).mul_(encoding.source_maximum).add_(0.5).floor_()
    red, green, blue = levels.unbind(1)
    # one rounding a step, as in the kernel: no `add(other, alpha=)`, which a GPU computes with a fused one
    level = red_gain * red + green_gain * green + blue_gain * blue
    luma = (level + luma_zero).add_(0.5).clamp_(max=encoding.maximum)
    grey = level.mul_(grey_scale)
    chroma = [
        _gathered(colour - grey, encoding.shift, gain).add_(chroma_zero).add_(0.5).clamp_(0, encoding.maximum)
        for colour, gain in zip((blue, red), gains)
    ]
    return _whole(luma, encoding), _whole(chroma[0], encoding), _whole(chroma[1], encoding)


def _gathered(difference: Tensor, shift: tuple[int, int], gain: float) -> Tensor:
    """Colour differences (T, H, W) as chroma samples (T, h, w) around 0: a box over rows, a triangle over columns.

    Float64: the kernel's row count is an integer, next to which Numba takes float32 for float64.
    """
    group_x, group_y = 1 << shift[0], 1 << shift[1]
    height, width = difference.shape[1:]
    rows = difference[:, ::group_y].clone()
    for k in range(1, group_y):
        further = difference[:, k::group_y]
        rows[:, : further.shape[1]] += further
    centres = torch.arange(0, width, group_x, device=difference.device)
    total = torch.zeros((), device=difference.device)
    for offset in range(1 - group_x, group_x):
        column = rows.index_select(2, (centres + offset).clamp_(0, width - 1))
        total = total + column * (group_x - abs(offset))
    first_rows = torch.arange(0, height, group_y, device=difference.device)
    counts = (height - first_rows).clamp_(max=group_y).double()
    gains = torch.full_like(counts, gain) / counts  # `gain / counts` would be a rounded reciprocal, times gain
    return total.div(group_x * group_x) * gains[:, None]


def _whole(samples: Tensor, encoding: YuvEncoding) -> Tensor:
    return samples.to(torch.uint8) if encoding.maximum <= 255 else samples.to(torch.int32).to(torch.int16)
