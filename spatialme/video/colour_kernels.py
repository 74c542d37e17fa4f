"""Row loops of the conversion between planar YUV and interleaved RGB, compiled by Numba; one thread, no GIL.

Chroma lies as MPEG-2 and H.264 assume by default: level with the first luma sample of its group in a row, in the
middle of its group of rows. It is interpolated linearly, and gathered with the matching triangle (rows: box) filter,
so that neither way shifts colour.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def yuv_to_rgb(luma, chroma_u, chroma_v, shift_x, shift_y, table, maximum, rows, rgb):
    """Fill rows of `rgb` (H, W, 3), an integer array with values up to `maximum`; `colour_torch` is the twin.

    Args:
        luma: (H, W) 8 or 16 bit integers; chroma_u, chroma_v: (ceil(H / 2**shift_y), ceil(W / 2**shift_x)); rows may
            be longer than that.
        table: float32 of 7: luma zero, chroma zero, luma gain, then the gains of V in red, U and V in green, U in
            blue; all for results in units of `maximum`.
        maximum: 255 or 65535, as float32.
        rows: Which.
    """
    height, width = rgb.shape[:2]
    group = 1 << shift_x
    columns = (width + group - 1) // group
    last_row = (height - 1) >> shift_y
    row_u = np.empty(columns + 1, np.float32)
    row_v = np.empty(columns + 1, np.float32)
    wide_u = np.empty(columns * group, np.float32)
    wide_v = np.empty(columns * group, np.float32)
    luma_zero, chroma_zero, luma_gain = table[0], table[1], table[2]
    red_v, green_u, green_v, blue_u = table[3], table[4], table[5], table[6]
    half = np.float32(0.5)
    nought = np.float32(0)
    for y in rows:
        _chroma_row(chroma_u, y, shift_y, last_row, chroma_zero, row_u)
        _chroma_row(chroma_v, y, shift_y, last_row, chroma_zero, row_v)
        for k in range(group):
            part = np.float32(k / group)
            for i in range(columns):
                wide_u[i * group + k] = row_u[i] + (row_u[i + 1] - row_u[i]) * part
                wide_v[i * group + k] = row_v[i] + (row_v[i + 1] - row_v[i]) * part
        for x in range(width):
            level = (np.float32(luma[y, x]) - luma_zero) * luma_gain + half
            u, v = wide_u[x], wide_v[x]
            rgb[y, x, 0] = min(max(level + red_v * v, nought), maximum)
            rgb[y, x, 1] = min(max(level + green_u * u + green_v * v, nought), maximum)
            rgb[y, x, 2] = min(max(level + blue_u * u, nought), maximum)


@njit(cache=True, nogil=True)
def _chroma_row(plane, y, shift_y, last_row, zero, row):
    """Interpolate the chroma of luma row `y` into `row`, less `zero`; the last sample is repeated once."""
    position = (y + 0.5) / (1 << shift_y) - 0.5
    above = int(np.floor(position))
    part = np.float32(position - above)
    below = min(above + 1, last_row)
    above = max(above, 0)
    for i in range(len(row) - 1):
        upper, lower = np.float32(plane[above, i]), np.float32(plane[below, i])
        row[i] = upper + (lower - upper) * part - zero
    row[-1] = row[-2]


@njit(cache=True, nogil=True)
def rgb_to_yuv(rgb, shift_x, shift_y, table, maximum, luma, chroma_u, chroma_v):
    """Fill the three planes from `rgb`; shapes as in `yuv_to_rgb`, of which the longer rows' ends stay as they are.

    `colour_torch.rgb_to_yuv` is the twin.

    Args:
        table: float32 of 8: luma zero, chroma zero, the gains of red, green and blue in luma, and three numbers for
            chroma: the gain of (blue - grey) in U, that of (red - grey) in V, and one over the sum of the luma gains
            (grey = luma above zero, back in units of RGB).
        maximum: The largest sample of the planes, as float32.
    """
    height, width = rgb.shape[:2]
    group_x, group_y = 1 << shift_x, 1 << shift_y
    columns = (width + group_x - 1) // group_x
    luma_zero, chroma_zero = table[0], table[1]
    red_gain, green_gain, blue_gain = table[2], table[3], table[4]
    u_gain, v_gain, grey_scale = table[5], table[6], table[7]
    row_u = np.empty(width, np.float32)
    row_v = np.empty(width, np.float32)
    half = np.float32(0.5)
    nought = np.float32(0)
    for j in range((height + group_y - 1) // group_y):
        row_u[:] = nought
        row_v[:] = nought
        rows = min(group_y, height - j * group_y)
        for y in range(j * group_y, j * group_y + rows):
            for x in range(width):
                red, green, blue = np.float32(rgb[y, x, 0]), np.float32(rgb[y, x, 1]), np.float32(rgb[y, x, 2])
                level = red_gain * red + green_gain * green + blue_gain * blue
                luma[y, x] = min(level + luma_zero + half, maximum)
                row_u[x] += blue - level * grey_scale
                row_v[x] += red - level * grey_scale
        for i in range(columns):
            u, v = _triangle(row_u, i * group_x, group_x), _triangle(row_v, i * group_x, group_x)
            chroma_u[j, i] = min(max(u * (u_gain / rows) + chroma_zero + half, nought), maximum)
            chroma_v[j, i] = min(max(v * (v_gain / rows) + chroma_zero + half, nought), maximum)


@njit(cache=True, nogil=True, inline="always")
def _triangle(row, centre, reach):
    """Weighted mean of `row` around `centre`, weights falling to 0 at distance `reach`; the ends are repeated."""
    total = np.float32(0)
    for offset in range(1 - reach, reach):
        x = min(max(centre + offset, 0), len(row) - 1)
        total += row[x] * np.float32(reach - abs(offset))
    return total / np.float32(reach * reach)
