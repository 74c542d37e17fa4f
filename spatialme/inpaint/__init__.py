"""The inpainting branches: each turns warped clips into views without holes.

`BRANCHES` names them; a constructor imports its branch when it is called, so that only what runs is compiled.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from spatialme.inpaint.branch import Branch

__all__ = ["BRANCHES", "Branch"]


def _poly(device: torch.device) -> Branch:
    from spatialme.inpaint.polyline import Polyline

    return Polyline()


def _propagation(device: torch.device) -> Branch:
    from spatialme.inpaint.propagation import Propagation

    return Propagation()


def _expansion(device: torch.device) -> Branch:
    from spatialme.inpaint.expansion_branch import Expansion

    return Expansion(_propagation(device))


# name -> constructor, given the device that computes
BRANCHES: dict[str, Callable[[torch.device], Branch]] = {
    "poly": _poly,
    "propagation": _propagation,
    "expansion": _expansion,
}
