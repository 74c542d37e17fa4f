"""Stabilise raw inverse depth over time inside a shot, with a bounded look at the neighbours.

A network answers for each frame alone: its scale and offset wander, and its picture shimmers. Two remedies, both with
finite support (frame t depends on t - LOOKBACK .. t + LOOKAHEAD of its shot and on nothing else):

1. One range per frame. Neighbouring frames are related by a gain and a shift, measured on pixels that correspond;
   through them the percentiles of all frames in the window are expressed in this frame's units and averaged.
2. A filter along the motion. Neighbours are followed by optical flow, expressed in this frame's units, and averaged
   where colour and depth agree, so that nothing leaks across a moving edge. Where the neighbour has the same colours at
   the very same place, it is read there: near what moves, flow on so small a grid is wrong by pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from spatialme.depth import motion, temporal_numba
from spatialme.types import Clip

LOOKBACK = LOOKAHEAD = 8  # frames; a third of a second at 24 fps, longer than a network's shimmer
FILTER_RADIUS = 4  # frames followed each way by the filter, at most LOOKBACK; farther ones cost the same and add little
LOW_QUANTILE, HIGH_QUANTILE = 0.01, 0.99  # of a frame's raw depth: nearness 0 and 1
COLOUR_TOLERANCE = 0.05  # mean difference of aligned colours (of 1) at which a neighbour counts a quarter
DEPTH_TOLERANCE = 0.4  # the same for aligned depths, as a share of the range
# By how much worse colours may agree at the same place than along the motion until that place counts a quarter. Reading
# still things where the flow led, 0.4 to 4.5 px away on clips with moving things, left two to four times the flicker.
STILLNESS_TOLERANCE = 0.03
AGREEMENT_RADIUS = 2  # px around a pixel that must agree too; without it noise makes the weights grainy
FLOW_SHORT_SIDE = 96  # px of the grid on which motion is measured
QUANTILE_PIXELS = 1 << 13  # a frame's percentiles come from about so many of its pixels
GAIN_LIMIT = 2.0  # a network's scale does not change by more between two frames of one shot
FLAT = 1e-5  # range, as a share of the values' size, under which depth is constant but for rounding


@dataclass(frozen=True)
class RawDepth:
    """What the network said of consecutive frames, and how each relates to the frame before it."""

    clip: Clip  # its frames at the network's output size
    inverse: Tensor  # (T, 1, h, w) inverse depth; scale and offset differ from frame to frame
    low: Tensor  # (T,) the frame's low percentile
    high: Tensor  # (T,) its high percentile
    gain: Tensor  # (T,) depth here ~ gain * depth of the same point in the frame before + shift; 1 at the shot's start
    shift: Tensor  # (T,) 0 at the shot's start
    to_previous: Tensor  # (T, 2, fh, fw) flow to the frame before, px of its own grid; 0 at the shot's start
    from_previous: Tensor  # (T, 2, fh, fw) flow from the frame before to this one

    def __len__(self) -> int:
        return len(self.clip)


class Each(Protocol):
    """Runs a function of an index for every frame, in order (`network.SingleThreaded`)."""

    def map(self, function: Callable[[int], Any], count: int) -> list[Any]: ...


def relate(guide: Clip, inverse: Tensor, *, before: RawDepth | None, each: Each | None = None) -> RawDepth:
    """Measure percentiles, and the motion, gain and shift between neighbouring frames.

    Args:
        guide: The clip with its frames at the size of `inverse`.
        inverse: (T, 1, h, w) raw inverse depth.
        before: The frame before the clip's first, None at the start of a shot.
        each: Spreads single frames over threads; None handles all frames in one batch.
    """
    frames, depth = guide.frames, inverse
    first = before is None
    if before is not None:
        frames, depth = torch.cat((before.clip.frames, frames)), torch.cat((before.inverse, depth))
    count = len(frames) - 1

    def pairs(start: int, stop: int) -> tuple[Tensor, ...]:
        here, there = slice(start + 1, stop + 1), slice(start, stop)
        return _relate_pairs(frames[here], frames[there], depth[here], depth[there])

    if count == 0:
        parts: list[tuple[Tensor, ...]] = []
    else:
        parts = [pairs(0, count)] if each is None else each.map(lambda i: pairs(i, i + 1), count)
    if first:
        parts.insert(0, _unrelated(inverse))
    gain, shift, to_previous, from_previous = (torch.cat(column) for column in zip(*parts))
    low, high = _percentiles(inverse)
    return RawDepth(guide, inverse, low, high, gain, shift, to_previous, from_previous)


def stabilise(raw: RawDepth, core: slice) -> Tensor:
    """Nearness of the frames `core` of a window of one shot.

    Args:
        raw: Consecutive frames: those of the core, and up to LOOKBACK before and LOOKAHEAD after them.
        core: Which of them to answer for.

    Returns:
        (T, 1, h, w) in [0, 1], at network size; 0.5 everywhere where a frame's depth is constant.
    """
    low, high, filtered = (average_numba if raw.inverse.device.type == "cpu" else average_torch)(raw, core)
    low, high = _per_frame(low), _per_frame(high)
    spread = high - low
    flat = spread <= FLAT * torch.maximum(high.abs(), low.abs())
    nearness = (filtered - low) / torch.where(flat, torch.ones_like(spread), spread)
    return torch.where(flat, torch.full_like(nearness, 0.5), nearness.clamp(0, 1))


def average_numba(raw: RawDepth, core: slice) -> tuple[Tensor, Tensor, Tensor]:
    """`average_torch` for float32 on the CPU, frame by frame."""
    maps = (raw.clip.frames, raw.inverse, raw.low, raw.high, raw.gain, raw.shift, raw.to_previous, raw.from_previous)
    shot = temporal_numba.Shot(*(values.contiguous().numpy() for values in maps))
    range_weights, filter_weights = (
        np.array([_falloff(distance, reach) for distance in range(1, reach + 1)], np.float32)
        for reach in (LOOKBACK, FILTER_RADIUS)
    )
    filtered = torch.empty_like(raw.inverse[core], memory_format=torch.contiguous_format)
    ends = np.empty((2, len(filtered)), np.float32)
    for i, centre in enumerate(range(core.start, core.stop)):
        tolerances = temporal_numba.Tolerances(
            np.float32(COLOUR_TOLERANCE),
            np.float32(DEPTH_TOLERANCE) * (shot.high[centre] - shot.low[centre]),
            np.float32(STILLNESS_TOLERANCE),
            AGREEMENT_RADIUS,
        )
        result = filtered[i, 0].numpy()
        ends[:, i] = temporal_numba.average(shot, centre, range_weights, filter_weights, tolerances, result)
    return torch.from_numpy(ends[0]), torch.from_numpy(ends[1]), filtered


def average_torch(raw: RawDepth, core: slice) -> tuple[Tensor, Tensor, Tensor]:
    """Ends of the range, (T,) each, and inverse depth, (T, 1, h, w), averaged over the neighbours; on any device."""
    centre = torch.arange(core.start, core.stop, device=raw.inverse.device)
    low, high, filtered = raw.low[core], raw.high[core], raw.inverse[core]
    weight_sum, filter_sum = torch.ones_like(low), torch.ones_like(filtered)
    for direction, reach in ((-1, LOOKBACK), (1, LOOKAHEAD)):
        for neighbour in _neighbours(raw, centre, direction, reach):
            weight = neighbour.present * _falloff(neighbour.distance, reach)
            low = low + weight * (neighbour.gain * raw.low[neighbour.index] + neighbour.shift)
            high = high + weight * (neighbour.gain * raw.high[neighbour.index] + neighbour.shift)
            weight_sum = weight_sum + weight
            if neighbour.distance <= FILTER_RADIUS:
                weight = _per_frame(neighbour.present * _falloff(neighbour.distance, FILTER_RADIUS))
                weighted, agreement = neighbour.read(raw, centre)
                filtered = filtered + weight * weighted
                filter_sum = filter_sum + weight * agreement
    return low / weight_sum, high / weight_sum, filtered / filter_sum


@dataclass(frozen=True)
class _Neighbour:
    """The frames `distance` away from each core frame on one side, and how to read them from there."""

    index: Tensor  # (T,) in the window; some valid frame where there is none
    distance: int
    present: Tensor  # (T,) 1 where the shot and the window have that frame
    gain: Tensor  # (T,) from the neighbour's units into the core frame's
    shift: Tensor  # (T,)
    displacement: Tensor | None  # (T, 2, h, w) from core pixels to the neighbour's; None beyond FILTER_RADIUS

    def read(self, raw: RawDepth, centre: Tensor) -> tuple[Tensor, Tensor]:
        """The neighbour's depth in the core frame's units times its agreement, and the agreement, in [0, 1]."""
        assert self.displacement is not None
        there = torch.cat((raw.inverse[self.index], raw.clip.frames[self.index]), dim=1)
        depth, colour, moves = self._compared(raw, centre, motion.sample(there, self.displacement))
        still_depth, still_colour, stays = self._compared(raw, centre, there)
        share = _agreement((still_colour - colour).clamp_min(0), STILLNESS_TOLERANCE)
        moves, stays = (1 - share) * motion.inside(self.displacement) * moves, share * stays
        return moves * depth + stays * still_depth, moves + stays

    def _compared(self, raw: RawDepth, centre: Tensor, there: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Depth in the core frame's units, difference of colours, and agreement, of a neighbour's (T, 4, h, w)."""
        depth, colours = there.split((1, 3), dim=1)
        depth = _per_frame(self.gain) * depth + _per_frame(self.shift)
        colour_difference = _mean_difference(colours, raw.clip.frames[centre])
        spread = _per_frame(raw.high[centre] - raw.low[centre])
        depth_difference = motion.box((depth - raw.inverse[centre]).abs(), AGREEMENT_RADIUS)
        agreement = _agreement(colour_difference, COLOUR_TOLERANCE)
        return depth, colour_difference, agreement * _agreement(depth_difference, DEPTH_TOLERANCE * spread)


def _neighbours(raw: RawDepth, centre: Tensor, direction: int, reach: int) -> Iterator[_Neighbour]:
    """Step from the core frames to their neighbours on one side, chaining gain and shift, and motion while needed."""
    gain, shift = torch.ones_like(raw.gain[centre]), torch.zeros_like(raw.gain[centre])
    displacement: Tensor | None = None
    for distance in range(1, reach + 1):
        here = centre + direction * distance
        present = ((here >= 0) & (here < len(raw))).to(gain.dtype)
        index = here.clamp(0, len(raw) - 1)
        link = (here if direction > 0 else here + 1).clamp(0, len(raw) - 1)  # the later frame of the last step
        if direction > 0:  # depth there = gain * depth before it + shift, solved for the one before
            shift = shift - gain * raw.shift[link] / raw.gain[link]
            gain = gain / raw.gain[link]
        else:
            shift = shift + gain * raw.shift[link]
            gain = gain * raw.gain[link]
        if distance <= FILTER_RADIUS:
            step = (raw.from_previous if direction > 0 else raw.to_previous)[link]
            displacement = step if displacement is None else displacement + motion.sample(step, displacement)
            full = motion.resize_flow(displacement, raw.inverse.shape[-2:])
            yield _Neighbour(index, distance, present, gain, shift, full)
        else:
            yield _Neighbour(index, distance, present, gain, shift, None)


def _relate_pairs(frames: Tensor, frames_before: Tensor, depth: Tensor, depth_before: Tensor) -> tuple[Tensor, ...]:
    """Gain (N,), shift (N,), flow to the frame before and from it (N, 2, fh, fw), of N pairs of frames."""
    size = _flow_size(frames.shape[-2:])
    grey, grey_before = (_resize(images.mean(dim=1, keepdim=True), size) for images in (frames, frames_before))
    # both directions in one batch: on grids this small a call costs more than its pixels
    to_previous, from_previous = motion.flow(torch.cat((grey, grey_before)), torch.cat((grey_before, grey))).chunk(2)
    full = motion.resize_flow(to_previous, frames.shape[-2:])
    depth_there, colours = motion.sample(torch.cat((depth_before, frames_before), dim=1), full).split((1, 3), dim=1)
    trust = _agreement(_mean_difference(colours, frames), COLOUR_TOLERANCE) * motion.inside(full)
    gain, shift = _fit(depth_there, depth, trust + 1e-3)
    return gain, shift, to_previous, from_previous


def _fit(source: Tensor, target: Tensor, trust: Tensor) -> tuple[Tensor, Tensor]:
    """Gain and shift (N,) with ``target ~ gain * source + shift``: the ratio of spreads, refitted without outliers.

    A ratio of spreads, unlike least squares, does not shrink when the source is noisy, and chains without drift.
    """
    weight = trust
    for _ in range(2):
        total = _sum(weight)
        source_mean, target_mean = _sum(weight * source) / total, _sum(weight * target) / total
        source_spread = _sum(weight * (source - source_mean).abs()) / total
        target_spread = _sum(weight * (target - target_mean).abs()) / total
        usable = (source_spread > FLAT * source_mean.abs()) & (target_spread > FLAT * target_mean.abs())
        ratio = torch.where(usable, target_spread, torch.ones_like(usable, dtype=target.dtype)) / torch.where(
            usable, source_spread, torch.ones_like(usable, dtype=target.dtype)
        )
        gain = ratio.clamp(1 / GAIN_LIMIT, GAIN_LIMIT)
        shift = target_mean - gain * source_mean
        residual = (gain * source + shift - target).abs()
        weight = trust * _agreement(residual, target_spread + torch.finfo(target.dtype).tiny)
    return gain.flatten(), shift.flatten()


def _unrelated(inverse: Tensor) -> tuple[Tensor, ...]:
    """The relation of a shot's first frame to the frame before it: none."""
    ones = inverse.new_ones(1)
    still = inverse.new_zeros(1, 2, *_flow_size(inverse.shape[-2:]))
    return ones, torch.zeros_like(ones), still, still


def _percentiles(inverse: Tensor) -> tuple[Tensor, Tensor]:
    """Low and high percentile (T,) of each frame, from a regular subset of its pixels."""
    pixels = inverse.flatten(1)
    pixels = pixels[:, :: max(1, pixels.shape[1] // QUANTILE_PIXELS)].sort(dim=1).values
    last = pixels.shape[1] - 1
    return pixels[:, round(LOW_QUANTILE * last)], pixels[:, round(HIGH_QUANTILE * last)]


def _flow_size(size: torch.Size) -> tuple[int, int]:
    scale = min(1.0, FLOW_SHORT_SIDE / min(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(images, size=size, mode="bilinear", antialias=True, align_corners=False)


def _mean_difference(first: Tensor, second: Tensor) -> Tensor:
    """(N, 1, h, w) mean absolute difference over colours and a small square."""
    return motion.box((first - second).abs().mean(dim=1, keepdim=True), AGREEMENT_RADIUS)


def _agreement(difference: Tensor, tolerance: Tensor | float) -> Tensor:
    """1 at no difference, 1/4 at the tolerance, then with its fourth power; rational, so the same bits everywhere."""
    ratio = difference / tolerance
    return 1 / (1 + ratio * ratio) ** 2


def _falloff(distance: int, reach: int) -> float:
    """Weight of a frame so far away: a smooth bell that ends one frame past the reach."""
    return (1 - (distance / (reach + 1)) ** 2) ** 2


def _per_frame(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


def _sum(values: Tensor) -> Tensor:
    return values.sum(dim=(1, 2, 3), keepdim=True)
