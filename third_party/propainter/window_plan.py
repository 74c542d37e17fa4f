"""Which windows of the token grid hold holes, and which tokens each window looks at."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .tokens import PADDING, PATCH, STRIDE

WINDOW = (5, 9)  # tokens
SHIFT = (3, 5)  # how far the four shifted windows lie off, in each diagonal direction


@dataclass(frozen=True)
class WindowPlan:
    """Index of every window, sorted into those that hold holes and those that do not, over a batch.

    The token grid is padded to whole windows; positions count its tokens row by row.
    """

    padded_grid: tuple[int, int]  # rows and columns of tokens, multiples of the window
    own: Tensor  # (windows, 45) int64 positions of the window's own tokens
    near: Tensor  # (windows, 193) int64 positions: own ones, then those of the shifted windows around
    masked_item: Tensor  # (M,) int64, batch item of each window with holes
    masked_window: Tensor  # (M,) int64, its number
    plain_item: Tensor  # (P,) int64, the same for the windows without
    plain_window: Tensor  # (P,) int64


def windows_with_holes(masks: Tensor) -> Tensor:
    """Tell for every frame which windows hold a hole.

    Args:
        masks: (B, T, 1, h, w) float at feature size, 1 = hole.

    Returns:
        (B, T, windows) bool.
    """
    token_masks = F.max_pool2d(masks.flatten(0, 1), PATCH, STRIDE, PADDING)
    rows, columns = _padded(token_masks.shape[-2], token_masks.shape[-1])
    padding = (0, columns - token_masks.shape[-1], 0, rows - token_masks.shape[-2])
    in_windows = F.max_pool2d(F.pad(token_masks, padding), WINDOW, WINDOW)
    return (in_windows > 0).flatten(1).unflatten(0, masks.shape[:2])


def plan_windows(with_holes: Tensor, grid: tuple[int, int], device: torch.device) -> WindowPlan:
    """Sort windows by whether they hold holes.

    The number of windows with holes decides shapes, so it must be known to the host: give `with_holes` on the CPU (one
    copy per shot serves all its calls) and nothing waits for the device.

    Args:
        with_holes: (B, windows) bool: `windows_with_holes`, any of the local frames.
        grid: Rows and columns of the token grid.
        device: Where tokens are.
    """
    own, near, padded_grid = _window_positions(*grid, device)
    with_holes = with_holes.cpu()
    masked_item, masked_window = with_holes.nonzero(as_tuple=True)
    plain_item, plain_window = (~with_holes).nonzero(as_tuple=True)
    sorted_out = (masked_item, masked_window, plain_item, plain_window)
    return WindowPlan(padded_grid, own, near, *(index.to(device, non_blocking=True) for index in sorted_out))


def shifted_positions() -> Tensor:
    """(148,) int64: the tokens of the four shifted windows, of 4 * 45, that are not in the window itself."""
    height, width = WINDOW
    kept = [
        (number * height + row) * width + column
        for number, (down, right) in enumerate(_shifts())
        for row in range(height)
        for column in range(width)
        if not (0 <= row + down < height and 0 <= column + right < width)
    ]
    return torch.tensor(kept)


def _shifts() -> list[tuple[int, int]]:
    return [(down, right) for down in (SHIFT[0], -SHIFT[0]) for right in (SHIFT[1], -SHIFT[1])]


def _padded(rows: int, columns: int) -> tuple[int, int]:
    return -(-rows // WINDOW[0]) * WINDOW[0], -(-columns // WINDOW[1]) * WINDOW[1]


@functools.lru_cache(maxsize=8)
def _window_positions(rows: int, columns: int, device: torch.device) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """Own and near positions of every window; shifted windows wrap around the padded grid."""
    padded_rows, padded_columns = _padded(rows, columns)
    with torch.inference_mode(False):  # kept tensors may serve a training step later
        positions = torch.arange(padded_rows * padded_columns).view(padded_rows, padded_columns)
        own = _split_windows(positions)
        shifted = [_split_windows(positions.roll((-down, -right), (0, 1))) for down, right in _shifts()]
        near = torch.cat((own, torch.cat(shifted, dim=1)[:, shifted_positions()]), dim=1)
        return own.to(device), near.to(device), (padded_rows, padded_columns)


def _split_windows(positions: Tensor) -> Tensor:
    """(rows, columns) -> (windows, 45)."""
    by_window = positions.unflatten(0, (-1, WINDOW[0])).unflatten(2, (-1, WINDOW[1]))
    return by_window.transpose(1, 2).reshape(-1, WINDOW[0] * WINDOW[1])
