"""Large frames in overlapping tiles that are blended in the latent space (StereoCrafter, section 3.3)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

LATENT_PX = 8  # pixels per latent, on each side
MULTIPLE_PX = 64  # the U-Nets halve the latents three times


@dataclass(frozen=True)
class Tiling:
    """How a frame is cut: `count` tiles on each side, neighbours share `overlap_px`."""

    count: int = 1
    overlap_px: int = 128  # of 64; as in the published code

    def tile_px(self, length_px: int) -> int:
        """Length of one tile along a side: enough, and a multiple of 64."""
        if self.count == 1:
            return -(-length_px // MULTIPLE_PX) * MULTIPLE_PX
        shared = self.overlap_px * (self.count - 1)
        tile = -(-(length_px + shared) // (self.count * MULTIPLE_PX)) * MULTIPLE_PX
        return max(tile, 2 * self.overlap_px)  # no more than two tiles meet along a side

    def padded_px(self, length_px: int) -> int:
        """What a side must be padded to."""
        return self.count * self.tile_px(length_px) - self.overlap_px * (self.count - 1)

    def run(self, height_px: int, width_px: int, latents_of: Callable[[slice, slice], Tensor]) -> Tensor:
        """Latents of the whole padded frame.

        Args:
            height_px: Of the frame before it was padded.
            width_px: The same.
            latents_of: Gives the latents (..., h, w) of the pixels in rows and columns.

        Returns:
            (..., H / 8, W / 8). Where two tiles overlap the left (upper) one fades out linearly and the other in.
        """
        rows, columns = self._slices(height_px), self._slices(width_px)
        total: Tensor | None = None
        for number_y, y in enumerate(rows):
            for number_x, x in enumerate(columns):
                tile = latents_of(y, x)
                if total is None:
                    size = (self.padded_px(height_px) // LATENT_PX, self.padded_px(width_px) // LATENT_PX)
                    total = tile.new_zeros((*tile.shape[:-2], *size))
                weight = self._ramp(number_y, y)[:, None] * self._ramp(number_x, x)
                total[..., _latent(y), _latent(x)] += tile * weight.to(tile)
        assert total is not None
        return total

    def _slices(self, length_px: int) -> list[slice]:
        tile = self.tile_px(length_px)
        starts = (number * (tile - self.overlap_px) for number in range(self.count))
        return [slice(start, start + tile) for start in starts]

    def _ramp(self, number: int, where: slice) -> Tensor:
        """Weight of a tile along one side; those of all tiles add up to one."""
        overlap = self.overlap_px // LATENT_PX
        weight = torch.ones((where.stop - where.start) // LATENT_PX)
        rise = torch.arange(overlap) / overlap
        if number > 0:
            weight[:overlap] *= rise
        if number < self.count - 1:
            weight[-overlap:] *= 1 - rise
        return weight


def _latent(where: slice) -> slice:
    return slice(where.start // LATENT_PX, where.stop // LATENT_PX)
