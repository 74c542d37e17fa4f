"""The inpainting branches: each turns warped clips into views without holes.

`BRANCHES` names them; a constructor imports its branch when it is called, so that only what runs is compiled.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from spatialme.inpaint.branch import Branch
from spatialme.weights import Licence

__all__ = ["BRANCHES", "Branch", "propainter_ready"]


def _poly(device: torch.device, licence: Licence) -> Branch:
    from spatialme.inpaint.polyline import Polyline

    return Polyline()


def _propagation(device: torch.device, licence: Licence) -> Branch:
    from spatialme.inpaint.propagation import Propagation

    return Propagation()


def _expansion(device: torch.device, licence: Licence) -> Branch:
    from spatialme.inpaint.expansion_branch import Expansion

    return Expansion(_propagation(device, licence))


def _propainter(device: torch.device, licence: Licence) -> Branch:
    from spatialme.inpaint.propainter import open_propainter

    return open_propainter(device, licence=licence)


def _propainter_expansion(device: torch.device, licence: Licence) -> Branch:
    from spatialme.inpaint.propainter import open_propainter_expansion

    return open_propainter_expansion(device, licence=licence)


# name -> constructor, given the device that computes and the licence that its weights must have
BRANCHES: dict[str, Callable[[torch.device, Licence], Branch]] = {
    "poly": _poly,
    "propagation": _propagation,
    "expansion": _expansion,
    "propainter": _propainter,
    "propainter_expansion": _propainter_expansion,
}


def propainter_ready(licence: Licence) -> bool:
    """Whether ProPainter's weights are on this machine and may be used."""
    from spatialme.inpaint.propainter import ready

    return ready(licence)
