"""The compared methods: `METHODS` names them; a constructor imports its method when it is called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from spatialme.evaluation.baselines.method import Method
from spatialme.inpaint import BRANCHES

__all__ = ["METHODS", "Method", "MethodSpec"]


@dataclass(frozen=True)
class MethodSpec:
    """One method: how it is made, and what it is."""

    make: Callable[[torch.device], Method]
    summary: str


def _copy_left(device: torch.device) -> Method:
    from spatialme.evaluation.baselines.copy_left import CopyLeft

    return CopyLeft()


def _no_fill(device: torch.device) -> Method:
    from spatialme.evaluation.baselines.no_fill import NoFill

    return NoFill()


def _stretch(device: torch.device) -> Method:
    from spatialme.evaluation.baselines.stretch import Stretch

    return Stretch()


def _telea(device: torch.device) -> Method:
    import cv2

    from spatialme.evaluation.baselines.opencv_inpainting import OpenCvInpainting

    return OpenCvInpainting(cv2.INPAINT_TELEA)


def _navier_stokes(device: torch.device) -> Method:
    import cv2

    from spatialme.evaluation.baselines.opencv_inpainting import OpenCvInpainting

    return OpenCvInpainting(cv2.INPAINT_NS)


def _backward_warp(device: torch.device) -> Method:
    from spatialme.evaluation.baselines.backward_warp import BackwardWarp

    return BackwardWarp()


def _branch(name: str) -> MethodSpec:
    def make(device: torch.device) -> Method:
        from spatialme.evaluation.baselines.branches import SingleBranch

        return SingleBranch(name, device)

    return MethodSpec(make, f"our branch {name}, in the holes")


def _refined(device: torch.device) -> Method:
    from spatialme.evaluation.baselines.branches import Refined

    return Refined("propagation", device)


METHODS: dict[str, MethodSpec] = {
    "copy_left": MethodSpec(_copy_left, "the left view, unchanged"),
    "no_fill": MethodSpec(_no_fill, "our warp, holes black"),
    "stretch": MethodSpec(_stretch, "our warp, holes blended along the row"),
    "telea": MethodSpec(_telea, "our warp, OpenCV's Telea inpainting"),
    "navier_stokes": MethodSpec(_navier_stokes, "our warp, OpenCV's Navier-Stokes inpainting"),
    "backward_warp": MethodSpec(_backward_warp, "look-up at the left view's disparity, no holes"),
    **{name: _branch(name) for name in BRANCHES},
    "refined": MethodSpec(
        _refined, "poly, propagation and expansion fused by the untrained refiner's initial blend, in the holes"
    ),
}
