"""Row stretch: each hole is a straight blend between the pixels at its two ends, as simple converters do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from spatialme.types import WarpedClip


class Stretch:
    """Fills rows one by one from their own known pixels."""

    needs_motion = False

    def stream(self, clips: Iterable[WarpedClip]) -> Iterator[Tensor]:
        """Yield the stretched views."""
        return (stretch_rows(clip.view, clip.hole) for clip in clips)


def stretch_rows(view: Tensor, hole: Tensor) -> Tensor:
    """Fill holes by linear interpolation along the row; at the frame's edge by the nearest known pixel.

    Args:
        view: (T, 3, H, W).
        hole: (T, 1, H, W) bool. A row that is all hole stays as it is.
    """
    width = view.shape[3]
    column = torch.arange(width, device=view.device)
    before = torch.where(hole, -1, column).cummax(-1).values
    after = torch.where(hole, width, column).flip(-1).cummin(-1).values.flip(-1)
    first = torch.where(before < 0, after, before).clamp(max=width - 1)
    last = torch.where(after == width, before, after).clamp(min=0)
    along = (column - first) / (last - first).clamp(min=1)
    start, end = (view.gather(-1, index.expand_as(view)) for index in (first, last))
    fillable = hole & ~hole.all(-1, keepdim=True)
    return torch.where(fillable, torch.lerp(start, end, along.clamp(0, 1).to(view.dtype)), view)
