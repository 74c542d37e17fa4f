"""Running one method over one clip: the view, the time and the memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from spatialme.evaluation.baselines import method_spec
from spatialme.evaluation.peak import watched_memory
from spatialme.flow import FlowEstimator
from spatialme.types import Clip, DepthClip, Motion, WarpedClip, cut
from spatialme.warp import warp_clip

CLIP_FRAMES = 8  # that a method gets at a time
OUTLIERS = 0.005  # share of the disparities on either side that are taken for mistakes of the matching


@dataclass(frozen=True)
class MethodRun:
    """What a method made of one clip."""

    view: Tensor  # (T, 3, H, W) RGB in [0, 1], on the CPU
    seconds: float  # from frames and disparity to finished views: forward warp, flow if needed, and the method
    peak_memory_mb: float  # of the GPU; of the whole process where there is none


class MethodRunner:
    """Holds one method, made and warmed up."""

    def __init__(self, name: str, device: torch.device, flow: FlowEstimator):
        """Load the method and run it once, so that compiling is not timed; raises what loading raises."""
        self._device = device
        self._flow = flow
        self._method = method_spec(name).make(device)
        noise = torch.rand((3, 3, 64, 96), generator=torch.Generator().manual_seed(0))
        step = torch.zeros((3, 1, 64, 96))
        step[..., 32:64] = 4.0
        self(noise, step)

    def __call__(self, left: Tensor, disparity: Tensor) -> MethodRun:
        """Run over one clip.

        Args:
            left: (T, 3, H, W).
            disparity: (T, 1, H, W) px of it.
        """
        with torch.inference_mode(), watched_memory(self._device) as peak:
            start = time.perf_counter()
            warped = warped_clips(left.to(self._device), disparity.to(self._device))
            clips = self._flow.stream(warped) if self._method.needs_motion else warped
            view = torch.cat([part.clamp(0, 1).cpu() for part in self._method.stream(clips)])
            seconds = time.perf_counter() - start  # `cpu` has waited for the device
        return MethodRun(view, seconds, peak.megabytes)


def warped_clips(left: Tensor, disparity: Tensor) -> Iterator[WarpedClip]:
    """One shot, `CLIP_FRAMES` frames at a time; its own range of disparity stands for the depth budget."""
    shot = as_shot(left)
    range_px = disparity_range(disparity)
    for start in range(0, len(left), CLIP_FRAMES):
        part = cut(shot, start, min(start + CLIP_FRAMES, len(left)))
        nearness = torch.zeros_like(part.frames[:, :1])  # the disparity is known, so no stage looks at it
        part_disparity = disparity[start : start + len(part)]
        yield warp_clip(DepthClip(part, nearness), part_disparity, range_px=range_px.expand(len(part), 2))


def disparity_range(disparity: Tensor) -> Tensor:
    """Lowest and highest disparity but for the outermost `OUTLIERS` on either side, and 1 px apart at least: (2,)."""
    ordered = disparity.flatten().sort().values
    cut_off = int(OUTLIERS * (len(ordered) - 1))
    low, high = ordered[cut_off], ordered[len(ordered) - 1 - cut_off]
    return torch.stack((low, torch.maximum(high, low + 1)))


def as_shot(frames: Tensor) -> Clip:
    """Frames as one whole shot."""
    return Clip(frames, (None,) * len(frames), 0, 0, starts_shot=True, ends_shot=True)


@torch.inference_mode()
def motion_of(frames: Tensor, flow: FlowEstimator) -> Motion:
    """Optical flow of some frames, (T, 3, H, W), taken for one shot."""
    ((_, motion),) = flow.with_motion([frames], as_shot)
    return motion
