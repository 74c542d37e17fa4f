"""The poly branch: image rows drawn as polylines that the disparity morphs.

A row is a polyline in the plane (x, closeness), where closeness is the signed disparity. Source column c stands at
``x = c + 0.5 - disparity``; in the sharp form it is a flat plateau 0.9 px wide, in the soft form a single vertex.
*Joints* connect neighbouring columns. Where the disparity falls from left to right a joint is torn open: it is the
hole, and is filled by a linear blend between its two border colours. Where the disparity rises the joint folds back
on itself and is hidden. What is seen at an output position is the closest segment over it. The displacement is a shear
of that plane, so the polyline never crosses itself and the order of closeness is well defined everywhere.

Beyond its first and last column a row continues for ever at closeness minus infinity, in the colour of that column:
holes at the frame's edges repeat the outermost source colour.

Source: ALGORITHMS section 1; thygate's depth-map script, cited by SpatialMe (arXiv 2412.11512, III.B) as its
polygon interpolation. Both versions here are this project's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from spatialme.device import computes_with_triton
from spatialme.levels import to_colours, to_pixels
from spatialme.types import FilledView, WarpedClip

PLATEAU_HALF_WIDTH_PX = 0.45  # the remaining 0.1 px between two plateaus is all that stretches
STRETCH_PX = 1.5  # a segment longer than this in the output shows no source pixel of its own: it is a filled hole


class Polyline:
    """Fill holes by morphing rows as polylines; needs neither neighbouring frames nor weights."""

    name = "poly"
    lookback = 0
    lookahead = 0
    needs_motion = False

    def __init__(self, *, soft: bool = False) -> None:
        self.soft = soft

    def stream(self, clips: Iterable[WarpedClip]) -> Iterator[FilledView]:
        """Yield one view per clip, same frames; its ``hole`` marks the stretched pixels."""
        for clip in clips:
            yield self._filled(clip)

    def _filled(self, clip: WarpedClip) -> FilledView:
        frames, disparity = to_colours(clip.clip.frames), to_pixels(clip.source_disparity)
        return FilledView(*rasterise_polylines(frames, disparity, soft=self.soft))


def rasterise_polylines(
    frames: Tensor, disparity: Tensor, *, exact: bool = False, soft: bool = False, samples: int = 4
) -> tuple[Tensor, Tensor]:
    """Draw every row as a polyline displaced by its disparity.

    The fast version point-samples each output pixel ``samples`` times and averages; the exact one integrates over the
    pixel's area. They differ by at most ``variation / (2 * samples)``, where variation is the total variation of the
    visible colour across the pixel (0 in flat areas, the contrast at a single edge).

    Args:
        frames: (T, 3, H, W) float in [0, 1], any strides, on any device.
        disparity: (T, 1, H, W) float pixels, finite; positive moves left. On a GPU this is not checked, as that would
            wait for the device; what is not finite moves far outside.
        exact: Integrate in float64 instead of sampling; for tests, several times slower. Tensors on a GPU are computed
            on the CPU and sent back.
        soft: One vertex per column instead of a plateau: colours blend all the way from column to column.
        samples: Sub-samples per pixel of the fast version.

    Returns:
        The view, (T, 3, H, W) with the dtype and device of `frames`, no pixel open; and the stretch mask,
        (T, 1, H, W) bool, True where more than half of the pixel shows segments longer than 1.5 px or what lies
        beyond the row's ends.

    Raises:
        ValueError: The shapes do not match, the disparity is not finite, or `samples` is below 1.
    """
    time, channels, height, width = frames.shape
    if channels != 3 or disparity.shape != (time, 1, height, width):
        raise ValueError(
            f"frames must be (T, 3, H, W) and disparity (T, 1, H, W), got {tuple(frames.shape)} and "
            f"{tuple(disparity.shape)}"
        )
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}")
    half_width = 0.0 if soft else PLATEAU_HALF_WIDTH_PX
    if frames.device.type != "cpu" and not exact:
        moved = disparity[:, 0].float().nan_to_num()
        view_there, stretch_there = _sampler(frames.device)(frames.float(), moved, half_width, samples)
        return view_there.to(frames.dtype), stretch_there
    if not torch.isfinite(disparity).all():
        raise ValueError("disparity must be finite, got NaN or infinity; mend the depth map before rasterising")
    colours = frames.detach().to("cpu", torch.float32).numpy()
    shift_px = disparity.detach().to("cpu", torch.float32).numpy()[:, 0]
    view = np.empty(frames.shape, np.float32)
    stretch = np.empty((time, 1, height, width), np.bool_)
    if exact:
        _integrate(colours, shift_px, half_width, view, stretch)
    else:
        _sample(colours, shift_px, half_width, samples, view, stretch)
    return torch.from_numpy(view).to(frames.device, frames.dtype), torch.from_numpy(stretch).to(frames.device)


def _sampler(device: torch.device) -> Callable[[Tensor, Tensor, float, int], tuple[Tensor, Tensor]]:
    """The fast version's back end for a GPU."""
    if computes_with_triton(device):
        from spatialme.inpaint import polyline_triton

        return polyline_triton.sample_polylines
    from spatialme.inpaint import polyline_torch

    return polyline_torch.sample_polylines


# --- Fast: a one-dimensional z-buffer of sub-samples ------------------------------------------------------------------
# Segments are numbered in source order: 2c is the plateau of column c, 2c + 1 the joint from column c to c + 1. So -1
# and 2W - 1 are the joints to the far left and the far right. Sub-sample s lies at x = (s + 0.5) / samples; a segment
# covers those from its start (inclusive) to its end (exclusive), hence a connected polyline leaves none uncovered.


@njit(parallel=True, cache=True, nogil=True, error_model="numpy")
def _sample(colours, shift_px, half_width, samples, view, stretch):
    time, _, height, width = colours.shape
    for index in prange(time * height):
        t, y = index // height, index % height
        # columns of x: where each plateau starts and ends, in pixels, then in sub-samples
        span_px = np.empty((2, width), np.float32)
        span = np.empty((2, width), np.int32)
        _displace(shift_px[t, y], half_width, samples, span_px, span)
        winner = np.empty(width * samples, np.int32)
        _cover(shift_px[t, y], samples, span_px, span, winner)
        _resolve(colours[t, :, y], samples, span_px, winner, view[t, :, y], stretch[t, 0, y])


@njit(cache=True, error_model="numpy")
def _displace(shift_px, half_width, samples, span_px, span):
    """Where the plateau of every column starts and ends."""
    width = shift_px.size
    last = np.float32(width * samples)
    near, far = np.float32(0.5 - half_width), np.float32(0.5 + half_width)
    scale, half = np.float32(samples), np.float32(0.5)
    for c in range(width):
        x = np.float32(c) - shift_px[c]
        span_px[0, c] = x + near
        span_px[1, c] = x + far
        span[0, c] = np.int32(min(max(np.ceil(span_px[0, c] * scale - half), np.float32(0)), last))
        span[1, c] = np.int32(min(max(np.ceil(span_px[1, c] * scale - half), np.float32(0)), last))


@njit(cache=True, error_model="numpy")
def _cover(shift_px, samples, span_px, span, winner):
    """Find the closest segment over every sub-sample."""
    width = shift_px.size
    closest = np.full(winner.size, -np.inf, np.float32)
    winner[: span[0, 0]] = -1
    winner[span[0, 0] :] = 2 * width - 1
    step = np.float32(1 / samples)
    for c in range(width):
        closeness = shift_px[c]
        for s in range(span[0, c], span[1, c]):
            if closeness > closest[s]:
                closest[s] = closeness
                winner[s] = 2 * c
        if c + 1 < width and span[0, c + 1] > span[1, c]:
            slope = (shift_px[c + 1] - closeness) / (span_px[0, c + 1] - span_px[1, c])
            for s in range(span[1, c], span[0, c + 1]):
                here = closeness + slope * ((np.float32(s) + np.float32(0.5)) * step - span_px[1, c])
                if here > closest[s]:
                    closest[s] = here
                    winner[s] = 2 * c + 1


@njit(cache=True, error_model="numpy")
def _resolve(colours, samples, span_px, winner, view, stretch):
    """Average the colours that the sub-samples of each pixel show."""
    width = colours.shape[1]
    share = np.float32(1 / samples)
    for x in range(width):
        red = green = blue = np.float32(0)
        stretched = 0
        for s in range(x * samples, (x + 1) * samples):
            segment = winner[s]
            c = segment >> 1
            if segment & 1 == 0:
                red += colours[0, c]
                green += colours[1, c]
                blue += colours[2, c]
                continue
            a, b = max(c, 0), min(c + 1, width - 1)
            blend = np.float32(0)
            if a == b:  # beyond the first or the last column
                stretched += 1
            else:
                length = span_px[0, b] - span_px[1, a]
                blend = ((np.float32(s) + np.float32(0.5)) * share - span_px[1, a]) / length
                stretched += length > STRETCH_PX
            red += colours[0, a] + blend * (colours[0, b] - colours[0, a])
            green += colours[1, a] + blend * (colours[1, b] - colours[1, a])
            blue += colours[2, a] + blend * (colours[2, b] - colours[2, a])
        view[0, x] = red * share
        view[1, x] = green * share
        view[2, x] = blue * share
        stretch[x] = 2 * stretched > samples


# --- Exact: a sweep over the sorted vertices --------------------------------------------------------------------------
# Between two neighbouring breakpoints (vertices and pixel borders) the visible segment cannot change and its colour is
# linear, so the colour at the middle times the length is the integral.


@njit(parallel=True, cache=True, nogil=True, error_model="numpy")
def _integrate(colours, shift_px, half_width, view, stretch):
    time, _, height, _ = colours.shape
    for index in prange(time * height):
        t, y = index // height, index % height
        _integrate_row(colours[t, :, y], shift_px[t, y], half_width, view[t, :, y], stretch[t, 0, y])


@njit(cache=True, error_model="numpy")
def _integrate_row(colours, shift_px, half_width, view, stretch):
    width = shift_px.size
    x = np.empty(2 * width)  # vertices; segment i leads from vertex i to i + 1, vertex i belongs to column i // 2
    for c in range(width):
        x[2 * c] = c + 0.5 - np.float64(shift_px[c]) - half_width
        x[2 * c + 1] = c + 0.5 - np.float64(shift_px[c]) + half_width
    by_start = np.argsort(x[:-1])
    breaks = np.sort(np.concatenate((x, np.arange(width + 1).astype(np.float64))))
    area = np.zeros((4, width))  # red, green, blue, stretched
    active = np.empty(2 * width, np.int64)
    active_count = started = 0
    for i in range(breaks.size - 1):
        left, right = breaks[i], breaks[i + 1]
        if left < 0 or right > width or left == right:
            continue
        middle = 0.5 * (left + right)
        while started < by_start.size and x[by_start[started]] < middle:
            active[active_count] = by_start[started]
            active_count += 1
            started += 1
        segment, active_count = _closest(x, shift_px, active, active_count, middle)
        _add_interval(colours, x, segment, left, right, area)
    for c in range(width):
        view[:, c] = area[:3, c]
        stretch[c] = area[3, c] > 0.5


@njit(cache=True, error_model="numpy")
def _closest(x, shift_px, active, active_count, middle):
    """Drop the active segments that have ended; return the closest of the others (-1: none) and how many are left."""
    kept, best, best_closeness = 0, -1, -np.inf
    for k in range(active_count):
        segment = active[k]
        if x[segment + 1] <= middle:  # also a segment that folds back, from the start
            continue
        active[kept] = segment
        kept += 1
        along = (middle - x[segment]) / (x[segment + 1] - x[segment])
        first, last = shift_px[segment // 2], shift_px[(segment + 1) // 2]
        closeness = first + along * (last - first)
        if closeness > best_closeness:
            best, best_closeness = segment, closeness
    return best, kept


@njit(cache=True, error_model="numpy")
def _add_interval(colours, x, segment, left, right, area):
    """Add what one segment (-1: none, so beyond the row's ends) shows between two breakpoints inside one pixel."""
    pixel = int(left)
    middle, length = 0.5 * (left + right), right - left
    if segment < 0:
        a = b = 0 if middle < x[0] else colours.shape[1] - 1
        along, stretched = 0.0, True
    else:
        a, b = segment // 2, (segment + 1) // 2
        span = x[segment + 1] - x[segment]
        along, stretched = (middle - x[segment]) / span, span > STRETCH_PX
    for channel in range(3):
        area[channel, pixel] += length * (colours[channel, a] + along * (colours[channel, b] - colours[channel, a]))
    area[3, pixel] += length * stretched
