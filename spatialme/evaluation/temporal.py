"""Metrics over time: does the right view change only as its own motion says?

Frames are brought together along the optical flow of the right view, the same flow for every method. All are undefined
(NaN) for frames without the neighbours they need, so for stills altogether.

A real view does not score nought, for its noise and the errors of the flow remain, and a blurred one scores lower: a
real clip (wean_wide_indoor, DIS flow) has E_warp 0.00143 and flicker 0.0456, a 3 x 3 mean of it 0.00126 and 0.0432.
Read both beside the truth's own values and `detail_ratio`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from spatialme.evaluation.sample import Sample, Scored
from spatialme.types import Motion


def warping_error(sample: Sample, frames: slice) -> Scored:
    """E_warp (Lai et al., ECCV 2018): squared difference to the next frame pulled back along the flow.

    Mean over the channels; pixels whose flow fails the forward-backward check do not count.
    """
    if sample.flow is None or len(sample) < 2:
        return Scored()
    following = _shifted(sample.prediction, frames, 1)
    error = (_pull(following, sample.flow.forward[frames]) - sample.prediction[frames]).square()
    return Scored(error.mean(1, keepdim=True), _at_size(sample.flow.forward_valid[frames], error))


def flicker(sample: Sample, frames: slice) -> Scored:
    """Absolute second temporal difference of the right view along its flow, mean over the channels, in [0, 2].

    Steady change, such as a fade, costs nothing; only what goes back and forth does.
    """
    if sample.flow is None or len(sample) < 3:
        return Scored()
    return second_difference(sample.prediction, sample.flow, frames)


def disparity_flicker(sample: Sample, frames: slice) -> Scored:
    """`second_difference` of the right view's disparity, in percent of the width; without the holes."""
    if sample.flow is None or sample.disparity is None or len(sample) < 3:
        return Scored()
    percent = sample.disparity * (100 / sample.width)
    known = None if sample.hole is None else ~sample.hole
    return second_difference(percent, sample.flow, frames, known=known)


def second_difference(values: Tensor, flow: Motion, frames: slice, *, known: Tensor | None = None) -> Scored:
    """``|values[t - 1] - 2 values[t] + values[t + 1]|`` along the flow, mean over the channels.

    Args:
        values: (T, C, H, W) of the view whose motion is given.
        flow: T frames of it; pixels count where both its directions are valid.
        frames: Which to answer for.
        known: (T, 1, H, W) bool, pixels that mean something; the neighbours' count, too.
    """
    before = _pull(_shifted(values, frames, -1), flow.backward[frames])
    after = _pull(_shifted(values, frames, 1), flow.forward[frames])
    change = (before - 2 * values[frames] + after).abs().mean(1, keepdim=True)
    counted = _at_size(flow.forward_valid[frames] & flow.backward_valid[frames], change)
    if known is not None:
        whole = known.to(values.dtype)  # a sample that touches an unknown pixel is below 1
        there = torch.minimum(
            _pull(_shifted(whole, frames, -1), flow.backward[frames]),
            _pull(_shifted(whole, frames, 1), flow.forward[frames]),
        )
        counted = counted & known[frames] & (there > 1 - 1e-3)
    return Scored(change, counted)


def _shifted(values: Tensor, frames: slice, step: int) -> Tensor:
    """The frames `step` later; the clip's end stands in for what is missing, and the flow is not valid there."""
    index = torch.arange(*frames.indices(len(values)), device=values.device) + step
    return values[index.clamp(0, len(values) - 1)]


def _pull(values: Tensor, flow: Tensor) -> Tensor:
    """Read (n, C, H, W) where the flow (n, 2, h, w), in pixels of its own grid, leads; bilinear."""
    height, width = values.shape[2:]
    scale = flow.new_tensor((width / flow.shape[3], height / flow.shape[2])).view(2, 1, 1)
    u, v = (F.interpolate(flow, size=(height, width), mode="bilinear", align_corners=False) * scale).unbind(1)
    x = torch.arange(width, device=flow.device, dtype=flow.dtype) + 0.5 + u
    y = torch.arange(height, device=flow.device, dtype=flow.dtype)[:, None] + 0.5 + v
    there = torch.stack((x / width * 2 - 1, y / height * 2 - 1), -1).to(values.dtype)
    return F.grid_sample(values, there, mode="bilinear", padding_mode="border", align_corners=False)


def _at_size(valid: Tensor, like: Tensor) -> Tensor:
    """A mask of the flow's grid at the size of a picture."""
    return F.interpolate(valid.float(), size=like.shape[2:], mode="nearest-exact") > 0.5
