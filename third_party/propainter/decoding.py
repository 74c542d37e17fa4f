"""Decodes only the parts of frames that have holes.

The decoder looks no further than a few pixels around, so that a tile can be decoded from its surroundings with the
result of the whole frame: the same convolutions, with zeros only where the whole frame has its padding, and the same
upsampling, whose aligned corners depend on the whole frame's size. Positions are worked out on the CPU and sent, and
nothing waits for the device.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .encoder import REDUCTION
from .upsampling import UpsampledConv

TILE_PX = 64
TILES_AT_ONCE = 32  # bounds the gathered surroundings: 25 MB of features in half precision


def tiles_with_holes(holes: Tensor) -> Tensor:
    """Which tiles of each frame have a hole: (N, 1, H, W) float, 1 = hole -> (N, rows, columns) bool."""
    return F.max_pool2d(holes, TILE_PX, ceil_mode=True)[:, 0] > 0


def decode_tiles(decoder: nn.Sequential, features: Tensor, tiles: Tensor, colours: Sequence[Tensor]) -> list[Tensor]:
    """Decode some tiles of each frame.

    Args:
        decoder: The generator's.
        features: (N, 128, h, w).
        tiles: (N, rows, columns) bool, on the CPU, from `tiles_with_holes`.
        colours: N of (3, 4 h, 4 w) in [-1, 1], for the other tiles.

    Returns:
        N of (3, 4 h, 4 w), new ones where something was decoded.
    """
    wanted = tiles.nonzero()
    painted = [colour.clone() if any_tile else colour for colour, any_tile in zip(colours, tiles.flatten(1).any(1))]
    for portion in wanted.split(TILES_AT_ONCE):
        item, row, column = portion.unbind(1)
        decoded = _decode(decoder, features, item, row * TILE_PX, column * TILE_PX)
        for tile, n, top, left in zip(decoded, item.tolist(), (row * TILE_PX).tolist(), (column * TILE_PX).tolist()):
            part = painted[n][:, top : top + TILE_PX, left : left + TILE_PX]
            part.copy_(tile[:, : part.shape[1], : part.shape[2]])
    return painted


def _decode(decoder: nn.Sequential, features: Tensor, item: Tensor, top: Tensor, left: Tensor) -> Tensor:
    """Decode the tiles with these corners, in frame pixels: (M, 3, TILE_PX, TILE_PX)."""
    first, middle, second, last = decoder[0], decoder[2], decoder[4], decoder[6]
    assert isinstance(first, UpsampledConv)
    assert isinstance(second, UpsampledConv)
    size = (features.shape[2], features.shape[3])
    half_size, full_size = (2 * size[0], 2 * size[1]), (REDUCTION * size[0], REDUCTION * size[1])
    # each 3x3 convolution needs a pixel more on each side, each upsampling one of the smaller map
    half_start = [start // 2 - 2 for start in (top, left)]
    half_length = TILE_PX // 2 + 4
    at_half = [_Span(start - 2, half_length + 4, whole) for start, whole in zip(half_start, half_size)]
    looked_up = _upsample(features, item, at_half, [torch.zeros_like(item)] * 2, size)
    looked_up = F.leaky_relu(_convolve(first.conv, looked_up), 0.2)
    looked_up = looked_up * _inside([span.shrunk(1) for span in at_half], looked_up)
    looked_up = F.leaky_relu(_convolve(middle, looked_up), 0.2)
    at_full = [_Span(start - 2, TILE_PX + 4, whole) for start, whole in zip((top, left), full_size)]
    looked_up = _upsample(looked_up, torch.arange(len(item)), at_full, half_start, half_size)
    looked_up = F.leaky_relu(_convolve(second.conv, looked_up), 0.2)
    looked_up = looked_up * _inside([span.shrunk(1) for span in at_full], looked_up)
    return torch.tanh(_convolve(last, looked_up))


class _Span:
    """Rows (or columns) of each tile: `length` positions from `start` on, of a map that has `whole` of them."""

    def __init__(self, start: Tensor, length: int, whole: int) -> None:
        self.start = start  # (M,) int64
        self.length = length
        self.whole = whole

    def shrunk(self, by: int) -> _Span:
        return _Span(self.start + by, self.length - 2 * by, self.whole)

    @property
    def positions(self) -> Tensor:
        """(M, length) int64, on the CPU."""
        return self.start[:, None] + torch.arange(self.length)

    @property
    def inside(self) -> Tensor:
        """(M, length) bool."""
        return (self.positions >= 0) & (self.positions < self.whole)


def _inside(spans: Sequence[_Span], like: Tensor) -> Tensor:
    """(M, 1, rows, columns): 1 within the frame, 0 outside."""
    rows, columns = (span.inside.to(like.dtype).to(like.device, non_blocking=True) for span in spans)
    return (rows[:, :, None] * columns[:, None, :])[:, None]


def _convolve(conv: nn.Module, features: Tensor) -> Tensor:
    assert isinstance(conv, nn.Conv2d)
    return F.conv2d(features, conv.weight, conv.bias)  # no padding: the surroundings are there


def _upsample(
    maps: Tensor, item: Tensor, spans: Sequence[_Span], starts: Sequence[Tensor], size: tuple[int, int]
) -> Tensor:
    """Look up parts of maps enlarged twice, bilinear with aligned corners: (M, C, rows, columns), zero outside.

    Args:
        maps: (N, C, ...): parts of maps, or whole ones.
        item: (M,) which of them.
        spans: Rows and columns of the enlarged map.
        starts: (M,) each: the row and column of the whole map at which its part begins.
        size: Of the whole maps that are enlarged.
    """
    device = maps.device
    taps = [_taps(span, start, whole, part) for span, start, whole, part in zip(spans, starts, size, maps.shape[2:])]
    (top, bottom, down), (left, right, across) = (
        [each.to(device, non_blocking=True) for each in axis] for axis in taps
    )
    number = item.to(device, non_blocking=True)[:, None, None]
    down, across = down.to(maps.dtype)[:, :, None, None], across.to(maps.dtype)[:, None, :, None]

    def row(index: Tensor) -> Tensor:  # (M, rows, columns, C)
        here, there = (maps[number, :, index[:, :, None], columns[:, None, :]] for columns in (left, right))
        return here + across * (there - here)

    upper = row(top)
    enlarged = (upper + down * (row(bottom) - upper)).permute(0, 3, 1, 2)
    return enlarged * _inside(spans, enlarged)


def _taps(span: _Span, start: Tensor, whole: int, part: int) -> tuple[Tensor, Tensor, Tensor]:
    """For one axis: both positions in the part to look up, and the share of the second; (M, length) each."""
    source = span.positions.double() * (whole - 1) / (span.whole - 1)
    before = source.floor()
    share = source - before
    local = before.long() - start[:, None]
    return local.clamp(0, part - 1), (local + 1).clamp(0, part - 1), share
