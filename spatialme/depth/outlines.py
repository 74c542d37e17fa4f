"""Give an object's outline, with the columns in which it mixes with what is behind it, to the object.

A step of aligned nearness (`depth/edges.py`) lies in the middle of the two to four columns in which a camera and a
codec mix the colours of both sides, or a little inside the object. What is mixed beyond it would stay behind when the
object is shifted: a ghost line beside the hole, whose filling would take the object's colours from it. Therefore

- every surface grows by one column over what is farther;
- from there it goes on for up to `REACH - 1` columns while the colours hold more than `SHARE` of its own: each column
  is projected onto the line from the far side's colour, some columns out, to the near side's, some columns in. Where
  they are no different, where no column among the first `REACH` is the far side's, or where either side is narrower
  than the columns looked at, nothing more is added.

Rows only: the eyes lie side by side. Measured in `docs/depth.md`; growing alone does most of it on aligned depth, the
colours what is left where the step lies deeper inside.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from spatialme.depth import outlines_numba
from spatialme.depth.outlines_numba import BEFORE, BEGIN, BEYOND, CONTRAST, GAP, RAMP, REACH, SAMPLES, SHARE, STEP


def extend(nearness: Tensor, frames: Tensor) -> Tensor:
    """Nearness whose near surfaces hold their outlines.

    Args:
        nearness: (T, 1, H, W) in [0, 1], float32.
        frames: (T, 3, H, W) RGB in [0, 1], float32, on the same device.

    Returns:
        (T, 1, H, W), nowhere less than `nearness`; the same to the bit on every device.
    """
    return (extend_numba if frames.device.type == "cpu" else extend_torch)(nearness, frames)


def extend_numba(nearness: Tensor, frames: Tensor) -> Tensor:
    """`extend_torch` on the CPU, which looks at colours only beside steps."""
    result = torch.empty_like(nearness, memory_format=torch.contiguous_format)
    outlines_numba.extend(nearness.contiguous().numpy(), frames.contiguous().numpy(), result.numpy())
    return result


def extend_torch(nearness: Tensor, frames: Tensor) -> Tensor:
    """`extend` in plain PyTorch, on any device."""
    grown = F.max_pool2d(nearness, (1, 3), 1, (0, 1))
    if nearness.shape[-1] <= BEFORE + BEYOND:
        return grown
    colours = frames.split(1, dim=1)
    rightwards = _extended_rightwards(grown, colours)
    leftwards = _extended_rightwards(grown.flip(-1), (colour.flip(-1) for colour in colours)).flip(-1)
    return torch.maximum(rightwards, leftwards)


def _extended_rightwards(nearness: Tensor, colours: Iterable[Tensor]) -> Tensor:
    """Surfaces that end at a falling step, extended to the right."""
    here = _at(nearness, 0)
    contrast = torch.zeros_like(here)
    own = [torch.zeros_like(here) for _ in range(REACH)]  # each column's colour along the line, times `contrast`
    for colour in colours:
        inside, outside = torch.zeros_like(here), torch.zeros_like(here)
        for k in range(SAMPLES):
            inside += _at(colour, -GAP - k)
            outside += _at(colour, REACH + 1 + k)
        inside, outside = inside * (1 / SAMPLES), outside * (1 / SAMPLES)
        axis = inside - outside
        contrast += axis * axis
        for k, total in enumerate(own):
            total += (_at(colour, k + 1) - outside) * axis
    near_coloured = [part > float(SHARE) * contrast for part in own]
    extends = _ends_surface(nearness) & (contrast >= float(CONTRAST)) & ~torch.stack(near_coloured).all(0)
    result = nearness.clone()
    for k, still_near in enumerate(near_coloured[:-1]):
        extends = extends & still_near
        target = _at(result, k + 1)
        target.copy_(torch.where(extends, torch.maximum(target, here), target))
    return result


def _ends_surface(nearness: Tensor) -> Tensor:
    """bool, one for each `_at`: a surface of some width ends with this column, and another follows its falling step."""
    here, far = _at(nearness, 0), _at(nearness, RAMP)
    ends = (here - _at(nearness, 1) >= float(BEGIN)) & (_at(nearness, -1) - here < float(BEGIN))
    ends = ends & (here - far >= float(STEP))
    middle = (here + far) * 0.5
    for k in range(SAMPLES):
        ends = ends & (_at(nearness, -GAP - k) >= middle) & (_at(nearness, REACH + 1 + k) <= middle)
    return ends


def _at(values: Tensor, columns: int) -> Tensor:
    """The values so many columns right of each column that has `BEFORE` to its left and `BEYOND` to its right."""
    return values[..., BEFORE + columns : values.shape[-1] - BEYOND + columns]
