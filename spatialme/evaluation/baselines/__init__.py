"""The compared methods: `METHODS` names them; a constructor imports its method when it is called.

`method_spec` also knows the refiner with weights of one's choice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from spatialme.errors import OptionError
from spatialme.evaluation.baselines.diffusion.checkpoints import CHECKPOINTS
from spatialme.evaluation.baselines.method import Method
from spatialme.inpaint import BRANCHES
from spatialme.settings import RefineMode

__all__ = ["DIFFUSION_METHODS", "FUSED", "METHODS", "Method", "MethodSpec", "method_spec"]


@dataclass(frozen=True)
class MethodSpec:
    """One method: how it is made, and what it is."""

    make: Callable[[torch.device], Method]
    summary: str
    keeps_warp: bool = True  # what the warp shows lies in its view where the disparity says
    checkpoints: tuple[str, ...] = ()  # names in `CHECKPOINTS`, of the user's own weights


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


def _mean(device: torch.device) -> Method:
    from spatialme.evaluation.baselines.mean import MeanOfBranches

    return MeanOfBranches("propagation", device)


FUSED: dict[str, RefineMode] = {"refined": "holes", "everywhere": "everywhere"}  # methods that may name weights


def _fused(name: str, weights: str | None = None) -> MethodSpec:
    def make(device: torch.device) -> Method:
        from spatialme.evaluation.baselines.branches import Refined

        return Refined("propagation", device, mode=FUSED[name], weights=weights)

    where = "in the holes" if FUSED[name] == "holes" else "in the whole picture"
    by = "" if weights is None else f", weights {weights}"
    return MethodSpec(make, f"poly, propagation and expansion fused by the refiner, {where}{by}")


def _stereocrafter(steps: int) -> Callable[[torch.device], Method]:
    def make(device: torch.device) -> Method:
        from spatialme.evaluation.baselines.stereocrafter import StereoCrafterSettings, load_stereocrafter

        return load_stereocrafter(device, StereoCrafterSettings(steps=steps))

    return make


def _m2svid(device: torch.device) -> Method:
    from spatialme.evaluation.baselines.m2svid import load_m2svid

    return load_m2svid(device)


def _svg(device: torch.device) -> Method:
    from spatialme.evaluation.baselines.svg import load_svg

    return load_svg(device)


def _stereodiffusion(device: torch.device) -> Method:
    from spatialme.evaluation.baselines.stereodiffusion import load_stereodiffusion

    return load_stereodiffusion(device)


def _diffusion(make: Callable[[torch.device], Method], summary: str, *checkpoints: str) -> MethodSpec:
    licences = "; ".join(f"{CHECKPOINTS[name].published}: {CHECKPOINTS[name].licence}" for name in checkpoints)
    said = f"{summary}; not run on published weights by this project ({licences})"
    return MethodSpec(make, said, checkpoints=checkpoints)


# the user's own copies of the weights, and the package diffusers
DIFFUSION_METHODS: dict[str, MethodSpec] = {
    "stereocrafter_25": _diffusion(_stereocrafter(25), "StereoCrafter, 25 steps", "stereocrafter", "svd"),
    "stereocrafter_1": _diffusion(_stereocrafter(1), "StereoCrafter, 1 step", "stereocrafter", "svd"),
    "m2svid": _diffusion(_m2svid, "M2SVid, 1 step", "m2svid", "svd"),
    "svg": _diffusion(_svg, "SVG / S2VG, 50 steps, training-free", "zeroscope", "svd"),
    "stereodiffusion": _diffusion(
        _stereodiffusion, "StereoDiffusion, 50 steps, frame by frame, training-free", "stable-diffusion"
    ),
}

METHODS: dict[str, MethodSpec] = {
    "copy_left": MethodSpec(_copy_left, "the left view, unchanged", keeps_warp=False),
    "no_fill": MethodSpec(_no_fill, "our warp, holes black"),
    "stretch": MethodSpec(_stretch, "our warp, holes blended along the row"),
    "telea": MethodSpec(_telea, "our warp, OpenCV's Telea inpainting"),
    "navier_stokes": MethodSpec(_navier_stokes, "our warp, OpenCV's Navier-Stokes inpainting"),
    "backward_warp": MethodSpec(_backward_warp, "look-up at the left view's disparity, no holes", keeps_warp=False),
    **{name: _branch(name) for name in BRANCHES},
    "mean": MethodSpec(_mean, "the mean of poly, propagation and expansion, in the holes"),
    **{name: _fused(name) for name in FUSED},
    **DIFFUSION_METHODS,
}


def method_spec(name: str) -> MethodSpec:
    """What a name stands for: an entry of `METHODS`, or one of `FUSED` with weights, as in ``refined=refiner-small``.

    Raises:
        OptionError: There is no such method.
    """
    fused, _, weights = name.partition("=")
    if fused in FUSED and weights:
        return _fused(fused, weights)
    if name not in METHODS:
        known = ", ".join(METHODS)
        raise OptionError(f"method {name!r} is not known; use {known}, or refined=WEIGHTS for a refiner of your choice")
    return METHODS[name]
