"""Cheap optical flow on small grey images, by Lucas and Kanade's method from coarse to fine, for the depth filter.

Good enough to follow a camera or a person at a hundred rows; what it gets wrong, the filter's colour check throws out.
The same bits for any batch; elementwise torch on a GPU, Numba (`motion_numba`) on a CPU, which differ by rounding.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from spatialme.depth import motion_numba

LEVELS = 5
ITERATIONS = 3  # per level
SMALLEST_SIDE = 6  # px; a coarser level would hold nothing to match
REGULARISATION = 1e-4  # grey-level gradients squared; below it a patch has no texture and keeps the coarser flow


def flow(first: Tensor, second: Tensor) -> Tensor:
    """Where each pixel of `first` went in `second` (B. Lucas and T. Kanade, IJCAI 1981; S. Baker's inverse form).

    Args:
        first: (N, 1, h, w) grey in [0, 1].
        second: (N, 1, h, w).

    Returns:
        (N, 2, h, w) displacement (u, v) in pixels: ``first[y, x] ~ second[y + v, x + u]``.
    """
    pyramid = [(first, second)]
    while len(pyramid) < LEVELS and min(pyramid[-1][0].shape[-2:]) >= 2 * SMALLEST_SIDE:
        pyramid.append(tuple(F.avg_pool2d(image, 2, ceil_mode=True) for image in pyramid[-1]))  # type: ignore[arg-type]
    found = first.new_zeros(len(first), 2, *pyramid[-1][0].shape[-2:])
    for smaller, larger in reversed(pyramid):
        found = resize_flow(found, smaller.shape[-2:])
        found = (refine_numba if found.device.type == "cpu" else refine_torch)(smaller, larger, found)
    return found


def sample(image: Tensor, displacement: Tensor) -> Tensor:
    """Read `image` at every pixel plus its displacement, bilinearly, borders repeated.

    Args:
        image: (N, C, h, w).
        displacement: (N, 2, h, w) pixels.
    """
    height, width = image.shape[-2:]
    x = torch.arange(width, device=image.device, dtype=image.dtype)
    y = torch.arange(height, device=image.device, dtype=image.dtype)
    x = (2 * (x + displacement[:, 0]) + 1) / width - 1
    y = (2 * (y.unsqueeze(1) + displacement[:, 1]) + 1) / height - 1
    return F.grid_sample(
        image, torch.stack((x, y), dim=-1), mode="bilinear", padding_mode="border", align_corners=False
    )


def inside(displacement: Tensor) -> Tensor:
    """(N, 1, h, w) float: 1 where a pixel plus its displacement lies within the image, else 0."""
    height, width = displacement.shape[-2:]
    x = torch.arange(width, device=displacement.device, dtype=displacement.dtype) + displacement[:, 0]
    y = torch.arange(height, device=displacement.device, dtype=displacement.dtype).unsqueeze(1) + displacement[:, 1]
    within = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
    return within.unsqueeze(1).to(displacement.dtype)


def resize_flow(displacement: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Resample a flow to (h, w) `size`; its unit becomes that grid's pixel."""
    height, width = displacement.shape[-2:]
    if (height, width) == tuple(size):
        return displacement
    scale = displacement.new_tensor([size[1] / width, size[0] / height]).view(1, 2, 1, 1)
    return F.interpolate(displacement, size=tuple(size), mode="bilinear", align_corners=False) * scale


def box(image: Tensor, radius: int) -> Tensor:
    """Mean over a square of side ``2 * radius + 1``; at the border over the part inside."""
    return F.avg_pool2d(image, 2 * radius + 1, stride=1, padding=radius, count_include_pad=False)


def refine_numba(first: Tensor, second: Tensor, found: Tensor) -> Tensor:
    """`refine_torch` for float32 on the CPU."""
    images = (image.contiguous().numpy() for image in (first, second))
    better = found.clone(memory_format=torch.contiguous_format)
    motion_numba.refine(*images, better.numpy(), ITERATIONS, np.float32(REGULARISATION))  # type: ignore[call-arg]
    return better


def refine_torch(first: Tensor, second: Tensor, found: Tensor) -> Tensor:
    """Gauss-Newton steps with the gradient of `first`, so that only the residual is computed anew each time.

    Args:
        first: (N, 1, h, w) grey in [0, 1].
        second: (N, 1, h, w).
        found: (N, 2, h, w) the flow so far, px.
    """
    padded = F.pad(first, (1, 1, 1, 1), mode="replicate")
    gradient_x = (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]) / 2
    gradient_y = (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]) / 2
    xx, yy, xy = box(torch.cat((gradient_x**2, gradient_y**2, gradient_x * gradient_y), dim=1), 2).split(1, dim=1)
    xx, yy = xx + REGULARISATION, yy + REGULARISATION
    determinant = xx * yy - xy * xy
    for _ in range(ITERATIONS):
        residual = first - sample(second, found)
        x, y = box(torch.cat((gradient_x * residual, gradient_y * residual), dim=1), 2).split(1, dim=1)
        step = torch.cat((yy * x - xy * y, xx * y - xy * x), dim=1) / determinant
        found = box(found + step.clamp(-1, 1), 1)
    return found
