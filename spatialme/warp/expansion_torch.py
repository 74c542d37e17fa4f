"""The PyTorch twin of `expansion`, for other devices: the same maps to the bit, all frames at once, without waiting.

Canny's edges follow OpenCV's integers: Sobel gradients with the border repeated, |dx| + |dy| as magnitude, its
fixed-point test of the direction. Hysteresis, which OpenCV does with a stack, is a search for connected components.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from spatialme.warp.expansion import CANNY_THRESHOLDS

_TANGENT = 13573  # tan(22.5 degrees) in 1 / 2**15
# Each round lets a component's label reach the neighbours of all that it has reached and jump along what they point
# to. A spiral that fills 1920x1080 needs 18 of them, borders of real depth fewer than half of that.
_ROUNDS = 20


def expand_disparity_torch(disparity: Tensor, low_px: Tensor, high_px: Tensor, radius: int, threshold: float) -> Tensor:
    """As `expansion.expand_disparity`.

    Args:
        disparity: (T, 1, H, W) float32 px.
        low_px: (T,) float64, the disparity that becomes 0 in 8 bits.
        high_px: (T,) float64, that becomes 255.
        radius: Px, at least 1.
        threshold: Smallest fall in px.
    """
    low, high = low_px.view(-1, 1, 1, 1), high_px.view(-1, 1, 1, 1)
    grey = ((disparity.double() - low) * (255 / (high - low))).round().clamp(0, 255)
    height, width = disparity.shape[-2:]
    before, after = disparity.roll(1, -1), disparity.roll(-1, -1)
    row = torch.arange(height, device=disparity.device)[:, None]
    column = torch.arange(width, device=disparity.device)
    inside = (row >= radius) & (row < height - radius) & (column >= radius) & (column < width - radius)
    falls = canny(grey) & (before - after > threshold) & inside
    near = torch.where(falls, before, -torch.inf)
    # an edge pixel writes from `radius` before it to radius - 1 after, so it is heard from the other way round
    side = (radius - 1, radius)
    padded = F.pad(near, (*side, *side), value=-torch.inf)
    written = F.max_pool2d(F.max_pool2d(padded, (2 * radius, 1), 1), (1, 2 * radius), 1)
    return torch.where(written > -torch.inf, written, disparity)


def canny(grey: Tensor) -> Tensor:
    """`cv2.Canny` with `CANNY_THRESHOLDS` of (T, 1, H, W) levels from 0 to 255: bool."""
    padded = F.pad(grey.float(), (1, 1, 1, 1), mode="replicate").int()
    across = padded[..., 2:] - padded[..., :-2]
    down = padded[..., 2:, :] - padded[..., :-2, :]
    dx = across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :]
    dy = down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]
    magnitude = dx.abs() + dy.abs()
    low, high = CANNY_THRESHOLDS
    weak = (magnitude > low) & _is_ridge(dx, dy, magnitude)
    return _connected(weak, weak & (magnitude > high))


def _is_ridge(dx: Tensor, dy: Tensor, magnitude: Tensor) -> Tensor:
    """Whether no neighbour along the gradient is larger."""
    padded = F.pad(magnitude, (1, 1, 1, 1))

    def beside(rows: int, columns: int) -> Tensor:
        height, width = magnitude.shape[-2:]
        return padded[..., 1 + rows : 1 + rows + height, 1 + columns : 1 + columns + width]

    steepness = dy.abs() << 15
    flat = dx.abs() * _TANGENT
    steep = flat + (dx.abs() << 16)
    horizontal = (magnitude > beside(0, -1)) & (magnitude >= beside(0, 1))
    vertical = (magnitude > beside(-1, 0)) & (magnitude >= beside(1, 0))
    falling = (magnitude > beside(-1, -1)) & (magnitude > beside(1, 1))
    rising = (magnitude > beside(-1, 1)) & (magnitude > beside(1, -1))
    diagonal = torch.where((dx ^ dy) < 0, rising, falling)
    return torch.where(steepness < flat, horizontal, torch.where(steepness > steep, vertical, diagonal))


def _connected(weak: Tensor, strong: Tensor) -> Tensor:
    """The weak pixels from which a strong one can be reached over weak ones, in eight directions."""
    count, _, height, width = weak.shape
    own = torch.arange(height * width, device=weak.device).expand(count, -1)
    mask = weak.flatten(1)
    label = own  # of each pixel: the number of another of its component, or its own; never falls
    for _ in range(_ROUNDS):
        # numbers below 2**24 are exact in float32, which pooling needs; frames have no more pixels than that
        seen = torch.where(mask, label, -1).view(weak.shape).float()
        largest = F.max_pool2d(seen, 3, 1, 1).long().flatten(1)
        largest = torch.where(mask, largest, own)
        label = label.scatter_reduce(1, label, largest, "amax")  # the component's part joins the larger one whole
        label = torch.maximum(label, largest)
        label = label.gather(1, label)
    marked = torch.zeros_like(own).scatter_reduce(1, label, strong.flatten(1).long(), "amax")
    return weak & (marked.gather(1, label) > 0).view(weak.shape)
