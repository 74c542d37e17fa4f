"""The PyTorch twin of `polyline`'s fast version, for other devices where Triton is not at hand.

The list of (segment, sub-sample) pairs has a length of its own in every frame, so it is read from the device once per
frame; `polyline_triton` needs no such list.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from spatialme.inpaint.polyline import STRETCH_PX
from spatialme.warp.splat import NOTHING, TIE_MASK, order_key


def sample_polylines(colours: Tensor, shift_px: Tensor, half_width: float, samples: int) -> tuple[Tensor, Tensor]:
    """Draw every row by point samples; what `polyline._sample` computes, to the bit.

    Args:
        colours: (T, 3, H, W) float32.
        shift_px: (T, H, W) float32, finite.
        half_width: Of the plateaus, in px.
        samples: Sub-samples per pixel.

    Returns:
        The view (T, 3, H, W) float32, and the stretch mask (T, 1, H, W).
    """
    frames = [_sample_frame(*frame, half_width, samples) for frame in zip(colours, shift_px)]
    views, stretches = zip(*frames)
    return torch.stack(views), torch.stack(stretches)[:, None]


def _sample_frame(colours: Tensor, shift_px: Tensor, half_width: float, samples: int) -> tuple[Tensor, Tensor]:
    """One frame, (3, H, W) and (H, W); the names are those of `polyline`."""
    width = shift_px.shape[1]
    x = torch.arange(width, device=shift_px.device, dtype=torch.float32) - shift_px
    span_px = torch.stack([x + (0.5 - half_width), x + (0.5 + half_width)])
    span = (span_px * samples - 0.5).ceil().clamp(0, width * samples).long()
    return _resolve(colours, samples, span_px, _cover(shift_px, samples, span_px, span))


def _cover(shift_px: Tensor, samples: int, span_px: Tensor, span: Tensor) -> Tensor:
    """The number of the closest segment over every sub-sample: (H, W * samples) int64."""
    height, width = shift_px.shape
    following = F.pad(span[0, :, 1:], (0, 1))  # after the last column, a joint of no length
    lengths = torch.stack([span[1] - span[0], following - span[1]], -1).clamp(min=0).flatten()
    rise = F.pad(shift_px.diff(dim=1), (0, 1)) / (F.pad(span_px[0, :, 1:], (0, 1)) - span_px[1])
    slopes = torch.stack([torch.zeros_like(rise), rise], -1).flatten()
    starts = span.permute(1, 2, 0).flatten()

    segment = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
    place = torch.arange(len(segment), device=segment.device) - (lengths.cumsum(0) - lengths)[segment]
    sub_sample = starts[segment] + place
    row, number = segment // (2 * width), segment % (2 * width)
    column = number // 2
    along = (sub_sample + 0.5) * (1 / samples) - span_px[1, row, column]
    closeness = shift_px[row, column] + slopes[segment] * along

    nearest = torch.full((height, width * samples), NOTHING, dtype=torch.int64, device=shift_px.device)
    key = order_key(closeness, 2 * width - number)  # ties go to the first segment
    nearest.view(-1).scatter_reduce_(0, row * (width * samples) + sub_sample, key, "amax")
    place = torch.arange(width * samples, device=shift_px.device)
    beyond = torch.where(place < span[0, :, :1], -1, 2 * width - 1)
    return torch.where(nearest == NOTHING, beyond, 2 * width - (nearest & TIE_MASK))


def _resolve(colours: Tensor, samples: int, span_px: Tensor, winner: Tensor) -> tuple[Tensor, Tensor]:
    """Average the colours that the sub-samples of each pixel show: (3, H, W), and the stretch mask (H, W)."""
    _, height, width = colours.shape
    total, stretched = torch.zeros_like(colours), torch.zeros((height, width), dtype=torch.int64, device=winner.device)
    for k in range(samples):
        number = winner[:, k::samples]
        column = number >> 1
        first, second = column.clamp(min=0), (column + 1).clamp(max=width - 1)
        joint, beyond = (number & 1) == 1, first == second
        sub_sample = torch.arange(k, width * samples, samples, device=winner.device, dtype=torch.float32)
        start = span_px[1].gather(1, first)
        length = span_px[0].gather(1, second) - start
        blend = torch.where(joint & ~beyond, ((sub_sample + 0.5) * (1 / samples) - start) / length, 0.0)
        stretched += joint & (beyond | (length > STRETCH_PX))
        left = colours.gather(2, first.expand_as(colours))
        total += left + blend * (colours.gather(2, second.expand_as(colours)) - left)
    return total * (1 / samples), 2 * stretched > samples
