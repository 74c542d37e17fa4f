"""Warping the source eye to the other one: disparity, the forward warp and its stage, disparity expansion."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor

from spatialme.device import computes_with_triton
from spatialme.types import DepthClip, WarpedClip
from spatialme.warp.disparity import AutoConvergence, DisparityParams, to_disparity
from spatialme.warp.expansion import expand_disparity
from spatialme.warp.scanline import forward_warp_numba
from spatialme.warp.soft import forward_warp_soft
from spatialme.warp.splat import forward_warp_torch
from spatialme.warp.surface import ForwardWarp, check_finite

__all__ = [
    "AutoConvergence",
    "DisparityParams",
    "ForwardWarp",
    "Warper",
    "expand_disparity",
    "forward_warp",
    "to_disparity",
    "warp_clip",
]


def forward_warp(frames: Tensor, disparity: Tensor, *, soft: bool = False) -> ForwardWarp:
    """Warp left frames to the right view; the contract is in `spatialme.warp.surface`.

    Runs on the frames' device, with the same result to the bit on each: Numba on the CPU, Triton on a GPU, PyTorch
    where there is neither.

    Args:
        frames: (T, 3, H, W) float in [0, 1].
        disparity: (T, 1, H, W) signed px, on the same device.
        soft: Blend surfaces by StereoCrafter's weights instead of letting the nearest win (`spatialme.warp.soft`).

    Raises:
        ValueError: Shapes that do not fit; on the CPU also a disparity that is not finite. To look for one would wait
            for a GPU; there such a pixel lands nowhere, and a conversion looks when it has to wait (`report.Tally`).
    """
    if frames.device.type == "cpu" and not soft:
        return forward_warp_numba(frames, disparity)
    if frames.device.type == "cpu":
        check_finite(disparity)
    if soft:
        return forward_warp_soft(frames, disparity)
    if computes_with_triton(frames.device):
        from spatialme.warp.splat_triton import forward_warp_triton

        return forward_warp_triton(frames, disparity)
    return forward_warp_torch(frames, disparity)


def warp_clip(
    depth_clip: DepthClip, disparity: Tensor, *, range_px: Tensor | None = None, soft: bool = False
) -> WarpedClip:
    """Warp a clip by its disparity of (T, 1, H, W) px; `range_px` travels along, see `WarpedClip`."""
    warped = forward_warp(depth_clip.clip.frames, disparity, soft=soft)
    return WarpedClip(depth_clip.clip, disparity, warped.view, warped.disparity, warped.hole, range_px)


class Warper:
    """The stage from nearness to warped view. Temporal only in where it puts the screen plane, if that is automatic."""

    def __init__(
        self,
        params: DisparityParams,
        *,
        auto_convergence: AutoConvergence | None = None,
        soft: bool = False,
    ) -> None:
        """Set the depth budget.

        Args:
            params: Depth budget and screen plane.
            auto_convergence: Chooses the screen plane per frame in place of ``params.convergence``.
            soft: See `forward_warp`.
        """
        self.params = params
        self.soft = soft
        self.auto_convergence = auto_convergence
        self.lookback = auto_convergence.lookback if auto_convergence else 0
        self.lookahead = auto_convergence.lookahead if auto_convergence else 0

    def stream(self, depth_clips: Iterable[DepthClip], *, share: float = 1.0) -> Iterator[WarpedClip]:
        """Warp clip by clip; `share` is the part of the disparity that this eye takes, see `to_disparity`."""
        for depth_clip, convergence in self._with_convergence(depth_clips):
            disparity = to_disparity(depth_clip.nearness, self.params, share, convergence=convergence)
            planes = depth_clip.nearness.new_full((len(depth_clip),), self.params.convergence)
            range_px = self.params.range_px(disparity.shape[-1], planes if convergence is None else convergence, share)
            yield warp_clip(depth_clip, disparity, range_px=range_px, soft=self.soft)
            del depth_clip, disparity  # not to be held while the next one is made

    def _with_convergence(self, depth_clips: Iterable[DepthClip]) -> Iterator[tuple[DepthClip, Tensor | None]]:
        if self.auto_convergence:
            yield from self.auto_convergence.stream(depth_clips)
        else:
            for depth_clip in depth_clips:
                yield depth_clip, None
                del depth_clip
