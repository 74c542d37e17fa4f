"""Many views as one picture, to look at."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

COLUMNS = 5


def draw_panels(views: Sequence[Tensor]) -> Tensor:
    """Lay views out in rows of `COLUMNS`, one block of rows per sample.

    Args:
        views: (B, 3, H, W) or (B, 1, H, W) each, of one size, in [0, 1].

    Returns:
        (3, B * rows * H, COLUMNS * W) in [0, 1]; what is left of the last row is black.
    """
    height, width = views[0].shape[-2:]
    coloured = [view.float().expand(-1, 3, height, width) for view in views]
    coloured += [torch.zeros_like(coloured[0])] * (-len(views) % COLUMNS)
    rows = torch.stack(coloured, 1).unflatten(1, (-1, COLUMNS))  # (B, rows, columns, 3, H, W)
    return rows.permute(3, 0, 1, 4, 2, 5).reshape(3, -1, COLUMNS * width).clamp(0, 1)
