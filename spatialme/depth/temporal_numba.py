"""The loops behind `temporal.stabilise` on a CPU, compiled by Numba; one thread, no GIL.

`temporal` has the same in PyTorch, where a frame of 112 x 192 px takes 32 ms of one core; here it takes 6.5.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from spatialme.depth.motion_numba import box, place, read


class Tolerances(NamedTuple):
    """What counts as agreement; see the constants of `temporal`."""

    colour: np.float32  # of 1
    depth: np.float32  # raw inverse depth, in the core frame's units
    stillness: np.float32  # of 1
    radius: int  # px around a pixel that must agree too


class Shot(NamedTuple):
    """A window of one shot: the arrays of `temporal.RawDepth`."""

    colours: np.ndarray  # (T, 3, h, w) float32, like all of them
    inverse: np.ndarray  # (T, 1, h, w)
    low: np.ndarray  # (T,)
    high: np.ndarray  # (T,)
    gain: np.ndarray  # (T,)
    shift: np.ndarray  # (T,)
    to_previous: np.ndarray  # (T, 2, fh, fw)
    from_previous: np.ndarray  # (T, 2, fh, fw)


class _Reading(NamedTuple):
    """A neighbour as read at this frame's pixels; (h, w) each."""

    depth: np.ndarray  # in this frame's units
    colour_difference: np.ndarray
    depth_difference: np.ndarray


class _Sums(NamedTuple):
    """Sums over the neighbours at every pixel, and room to work in; (h, w) each."""

    values: np.ndarray
    weights: np.ndarray
    followed: _Reading  # where the motion leads
    still: _Reading  # at the same place
    inside: np.ndarray  # 1 where the motion leads to a place inside the frame
    across: np.ndarray


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def average(shot, centre, range_weights, filter_weights, tolerances, result):
    """Average a frame and its range over its neighbours.

    Args:
        shot: A `Shot`.
        centre: Number of the frame in it.
        range_weights: (reach,) of the neighbours on either side, in the range.
        filter_weights: (at most reach,) in the filter.
        tolerances: A `Tolerances`.
        result: (h, w) gets the filtered inverse depth.

    Returns:
        Low and high end of the range.
    """
    room = np.empty((8, *shot.inverse.shape[2:]), np.float32)
    sums = _Sums(
        shot.inverse[centre, 0].copy(),
        np.ones(shot.inverse.shape[2:], np.float32),
        _Reading(room[0], room[1], room[2]),
        _Reading(room[3], room[4], room[5]),
        room[6],
        room[7],
    )
    low, high, total = shot.low[centre], shot.high[centre], np.float32(1)
    displacement = np.empty(shot.to_previous.shape[1:], np.float32)
    for direction in (-1, 1):
        gain, shift = np.float32(1), np.float32(0)
        displacement[:] = np.float32(0)
        for distance in range(1, len(range_weights) + 1):
            here = centre + direction * distance
            if not 0 <= here < len(shot.gain):
                break
            if direction > 0:  # depth there = gain * depth before it + shift, solved for the one before
                shift -= gain * shot.shift[here] / shot.gain[here]
                gain /= shot.gain[here]
            else:
                shift += gain * shot.shift[here + 1]
                gain *= shot.gain[here + 1]
            weight = range_weights[distance - 1]
            low += weight * (gain * shot.low[here] + shift)
            high += weight * (gain * shot.high[here] + shift)
            total += weight
            if distance <= len(filter_weights):
                _follow(shot.from_previous[here] if direction > 0 else shot.to_previous[here + 1], displacement)
                _align(shot, centre, here, displacement, gain, shift, sums)
                _compare(shot, centre, here, gain, shift, sums.still)
                _accumulate(sums, tolerances, filter_weights[distance - 1])
    for y in range(len(result)):
        result[y] = sums.values[y] / sums.weights[y]
    return low / total, high / total


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _follow(step, displacement):
    """Lead a displacement one frame farther."""
    _, height, width = step.shape
    for y in range(height):
        for x in range(width):
            u, v = displacement[0, y, x], displacement[1, y, x]
            left, right, along = place(np.float32(x) + u, width - 1)
            top, bottom, down = place(np.float32(y) + v, height - 1)
            displacement[0, y, x] = u + read(step[0], top, bottom, down, left, right, along)
            displacement[1, y, x] = v + read(step[1], top, bottom, down, left, right, along)


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _align(shot, centre, there, displacement, gain, shift, sums):
    """Read the frame `there` where the motion leads, in the central frame's units, and how it differs from that."""
    height, width = sums.inside.shape
    rows, columns = displacement.shape[1:]
    row_scale, column_scale = np.float32(rows / height), np.float32(columns / width)
    half, third = np.float32(0.5), np.float32(1 / 3)
    depth, own_depth = shot.inverse[there, 0], shot.inverse[centre, 0]
    red, green, blue = shot.colours[there, 0], shot.colours[there, 1], shot.colours[there, 2]
    own = shot.colours[centre]
    for y in range(height):
        above, below, part_y = place((np.float32(y) + half) * row_scale - half, rows - 1)
        for x in range(width):
            before, after, part_x = place((np.float32(x) + half) * column_scale - half, columns - 1)
            place_x = np.float32(x) + read(displacement[0], above, below, part_y, before, after, part_x) / column_scale
            place_y = np.float32(y) + read(displacement[1], above, below, part_y, before, after, part_x) / row_scale
            left, right, along = place(place_x, width - 1)
            top, bottom, down = place(place_y, height - 1)
            value = gain * read(depth, top, bottom, down, left, right, along) + shift
            difference = abs(read(red, top, bottom, down, left, right, along) - own[0, y, x])
            difference += abs(read(green, top, bottom, down, left, right, along) - own[1, y, x])
            difference += abs(read(blue, top, bottom, down, left, right, along) - own[2, y, x])
            sums.followed.depth[y, x] = value
            sums.followed.colour_difference[y, x] = difference * third
            sums.followed.depth_difference[y, x] = abs(value - own_depth[y, x])
            sums.inside[y, x] = (-half <= place_x <= width - half) and (-half <= place_y <= height - half)


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _compare(shot, centre, there, gain, shift, still):
    """Read the frame `there` at the same place."""
    depth, own_depth = shot.inverse[there, 0], shot.inverse[centre, 0]
    colours, own = shot.colours[there], shot.colours[centre]
    third = np.float32(1 / 3)
    for y in range(len(depth)):
        for x in range(depth.shape[1]):
            still.depth[y, x] = gain * depth[y, x] + shift
            difference = abs(colours[0, y, x] - own[0, y, x]) + abs(colours[1, y, x] - own[1, y, x])
            still.colour_difference[y, x] = (difference + abs(colours[2, y, x] - own[2, y, x])) * third
            still.depth_difference[y, x] = abs(still.depth[y, x] - own_depth[y, x])


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _accumulate(sums, tolerances, weight):
    """Add the neighbour where it and what lies around agree."""
    followed, still, radius = sums.followed, sums.still, tolerances.radius
    box(followed.colour_difference, radius, sums.across, followed.colour_difference)
    box(followed.depth_difference, radius, sums.across, followed.depth_difference)
    box(still.colour_difference, radius, sums.across, still.colour_difference)
    box(still.depth_difference, radius, sums.across, still.depth_difference)
    one, nought = np.float32(1), np.float32(0)
    height, width = sums.inside.shape
    for y in range(height):
        for x in range(width):
            colour, still_colour = followed.colour_difference[y, x], still.colour_difference[y, x]
            off = max(still_colour - colour, nought) / tolerances.stillness
            share = one / ((one + off * off) * (one + off * off))
            moves = (one - share) * sums.inside[y, x] * _agreement(colour, followed.depth_difference[y, x], tolerances)
            stays = share * _agreement(still_colour, still.depth_difference[y, x], tolerances)
            sums.values[y, x] += weight * (moves * followed.depth[y, x] + stays * still.depth[y, x])
            sums.weights[y, x] += weight * (moves + stays)


@njit(cache=True, nogil=True, inline="always", error_model="numpy", fastmath={"contract"})
def _agreement(colour_difference, depth_difference, tolerances):
    colour, depth = colour_difference / tolerances.colour, depth_difference / tolerances.depth
    both = (np.float32(1) + colour * colour) * (np.float32(1) + depth * depth)
    return np.float32(1) / (both * both)
