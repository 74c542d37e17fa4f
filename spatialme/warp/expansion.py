"""Disparity expansion (SpatialMe, Algorithm 1): carry a rim of background along with the foreground's right border.

Warping with the expanded map moves the background next to a foreground's right border as if it belonged to it, so that
the hole opens inside the background and an inpainter sees background on both of its sides.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CANNY_THRESHOLDS = (50, 150)
REFERENCE_WIDTH = 1920  # at which the two below hold
RADIUS_PX = 5.0
THRESHOLD_PX = 1.0

_UNWRITTEN = np.finfo(np.float32).min  # also what OpenCV takes for pixels outside the frame


def expand_disparity(
    disparity: Tensor,
    *,
    low_px: float | Tensor,
    high_px: float | Tensor,
    radius_px: int | None = None,
    threshold_px: float | None = None,
) -> Tensor:
    """Write the foreground's disparity around every border where disparity falls from left to right.

    Edges are Canny's on the map scaled to 8 bits. All values are read from `disparity`; where several edges write one
    pixel the largest wins. Edges closer than the radius to the frame's border are left alone.

    Args:
        disparity: (T, 1, H, W) signed px, on any device.
        low_px: The disparity that becomes 0 in 8 bits: the least that the shot's depth budget allows, the same for all
            frames of a shot so that edges do not flicker; or (T,) values when the screen plane moves.
        high_px: The disparity that becomes 255, likewise.
        radius_px: Half the side of the square written around an edge pixel; by default 5 at 1920 px width, at least 1.
        threshold_px: Smallest fall across an edge; by default 1 at 1920 px width, at least 1.

    Returns:
        (T, 1, H, W) signed px, a new tensor on the same device, of the same dtype.

    Raises:
        ValueError: Wrong shape, a radius under 1, or, on the CPU (to look would wait for a GPU), `low_px` not below
            `high_px`.
    """
    if disparity.ndim != 4 or disparity.shape[1] != 1:
        raise ValueError(f"disparity must be (T, 1, H, W), got {tuple(disparity.shape)}")
    scale = disparity.shape[-1] / REFERENCE_WIDTH
    radius = max(1, round(RADIUS_PX * scale)) if radius_px is None else radius_px
    threshold = max(1.0, THRESHOLD_PX * scale) if threshold_px is None else threshold_px
    if radius < 1:
        raise ValueError(f"radius is {radius} px, expected at least 1")
    low, high = _per_frame(low_px, disparity), _per_frame(high_px, disparity)
    if disparity.device.type != "cpu":
        from spatialme.warp.expansion_torch import expand_disparity_torch

        return expand_disparity_torch(disparity.float(), low, high, radius, threshold).to(disparity.dtype)
    if not bool((low < high).all()):
        raise ValueError(f"low_px must be below high_px, got {low_px} and {high_px}")
    maps = disparity[:, 0].float().numpy()
    expanded = [_expand(maps[t], float(low[t]), float(high[t]), radius, threshold) for t in range(len(maps))]
    return torch.from_numpy(np.stack(expanded))[:, None].to(disparity)


def _per_frame(value: float | Tensor, like: Tensor) -> Tensor:
    """(T,) float64 on the device of `like`."""
    if isinstance(value, Tensor):
        return value.to(like.device, torch.float64).expand(len(like))
    return like.new_full((len(like),), value, dtype=torch.float64)


def _expand(
    disparity: NDArray[np.float32], low_px: float, high_px: float, radius: int, threshold_px: float
) -> NDArray[np.float32]:
    """One frame, (H, W)."""
    height, width = disparity.shape
    grey = np.clip(np.rint((disparity - low_px) * (255 / (high_px - low_px))), 0, 255).astype(np.uint8)
    edges = cv2.Canny(grey, *CANNY_THRESHOLDS)
    near = np.full_like(disparity, _UNWRITTEN)
    rows, columns = slice(radius, height - radius), slice(radius, width - radius)
    before = disparity[rows, radius - 1 : width - radius - 1]
    after = disparity[rows, radius + 1 : width - radius + 1]
    falls = (edges[rows, columns] != 0) & (before - after > threshold_px)
    near[rows, columns][falls] = before[falls]
    # an edge pixel writes from `radius` before it to radius - 1 after, so it is heard from the other way round
    written = cv2.dilate(near, np.ones((2 * radius, 2 * radius), np.uint8), anchor=(radius - 1, radius - 1))
    return np.where(written != _UNWRITTEN, written, disparity)
