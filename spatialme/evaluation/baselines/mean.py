"""The mean of the three branches: what any refiner of them must beat, for an average alone lowers squared errors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from spatialme.evaluation.baselines.branches import LICENCE
from spatialme.inpaint import BRANCHES
from spatialme.refine import compose
from spatialme.settings import ENGINES
from spatialme.stream import fan_out
from spatialme.types import WarpedClip


class MeanOfBranches:
    """Poly, DL and DE with equal shares, in the holes of the base warp."""

    def __init__(self, engine: str, device: torch.device):
        self._branches = [BRANCHES[name](device, LICENCE) for name in ("poly", *ENGINES[engine])]
        self.needs_motion = any(branch.needs_motion for branch in self._branches)

    def stream(self, clips: Iterable[WarpedClip]) -> Iterator[Tensor]:
        """Yield the composed views."""
        base, *copies = fan_out(clips, 1 + len(self._branches))
        filled = [branch.stream(copy) for branch, copy in zip(self._branches, copies)]
        for warped, *answers in zip(base, *filled):
            mean = torch.stack([answer.view for answer in answers]).mean(0)
            yield compose(warped.view, warped.hole, mean)
