"""This project's own results: one branch alone, or all of them refined, as `spatialme convert` writes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from spatialme.inpaint import BRANCHES
from spatialme.refine import Refiner, compose
from spatialme.settings import ENGINES, RefineMode
from spatialme.stream import fan_out
from spatialme.types import WarpedClip
from spatialme.weights import Licence

LICENCE: Licence = "any"  # a table is research: weights that forbid commercial use may be judged


class SingleBranch:
    """A branch's answer in the holes of the base warp."""

    def __init__(self, name: str, device: torch.device):
        self._branch = BRANCHES[name](device, LICENCE)
        self.needs_motion = self._branch.needs_motion

    def stream(self, clips: Iterable[WarpedClip]) -> Iterator[Tensor]:
        """Yield the composed views."""
        base, copy = fan_out(clips, 2)
        for warped, filled in zip(base, self._branch.stream(copy)):
            yield compose(warped.view, warped.hole, filled.view)


class Refined:
    """Poly, DL and DE fused by the refiner; `weights` as in `Refiner.load`."""

    def __init__(self, engine: str, device: torch.device, *, mode: RefineMode = "holes", weights: str | None = None):
        names = ("poly", *ENGINES[engine])
        self._branches = [BRANCHES[name](device, LICENCE) for name in names]
        self._refiner = Refiner.load(weights, device=device, licence=LICENCE)
        self._mode = mode
        self.needs_motion = any(branch.needs_motion for branch in self._branches)

    def stream(self, clips: Iterable[WarpedClip]) -> Iterator[Tensor]:
        """Yield the refined views."""
        base, *copies = fan_out(clips, 1 + len(self._branches))
        filled = [branch.stream(copy) for branch, copy in zip(self._branches, copies)]
        for warped, poly, dl, de in zip(base, *filled):
            yield self._refiner(warped, poly=poly.view, expansion=de.view, dl=dl.view, mode=self._mode)
