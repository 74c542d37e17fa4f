"""Row loops behind `motion` on a CPU, compiled by Numba; one thread, no GIL. `motion` has the same in PyTorch.

On grids of a hundred rows a PyTorch operation costs more than its pixels, and a frame's flow takes hundreds of them:
15 ms of processor time for both directions at 96 x 165 px, 3 here.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def refine(first, second, found, iterations, regularisation):
    """Improve a flow in place, as `motion.refine` does.

    Args:
        first: (N, 1, h, w) float32 grey.
        second: (N, 1, h, w).
        found: (N, 2, h, w) float32 px.
        iterations: Gauss-Newton steps.
        regularisation: float32, added to the squared gradients.
    """
    height, width = first.shape[2:]
    gradient_x, gradient_y = np.empty((height, width), np.float32), np.empty((height, width), np.float32)
    # the inverse of the gradients' 2 x 2 matrix at every pixel
    inverse = np.empty((3, height, width), np.float32)
    moments = np.empty((2, height, width), np.float32)
    across, product = np.empty((height, width), np.float32), np.empty((height, width), np.float32)
    for n in range(len(first)):
        _gradients(first[n, 0], gradient_x, gradient_y)
        _invert(gradient_x, gradient_y, regularisation, product, across, inverse)
        for _ in range(iterations):
            _residual(first[n, 0], second[n, 0], found[n], product)
            _multiply(product, gradient_x, moments[0])
            _multiply(product, gradient_y, moments[1])
            for part in range(2):
                box(moments[part], 2, across, moments[part])
            _step(inverse, moments, found[n])
            for part in range(2):
                box(found[n, part], 1, across, found[n, part])


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def box(image, radius, across, result):
    """Mean over a square, at the border over the part inside; `across` is room to work in, `result` may be `image`."""
    height, width = image.shape
    reach = min(radius, width - 1)
    for y in range(height):
        row = across[y]
        row[:] = _ZERO
        for k in range(-reach, reach + 1):
            _add(row[max(0, -k) : width - max(0, k)], image[y, max(0, k) : width - max(0, -k)])
        for x in range(width):
            row[x] /= np.float32(min(x + radius, width - 1) - max(x - radius, 0) + 1)
    for y in range(height):
        top, bottom = max(y - radius, 0), min(y + radius, height - 1)
        row = result[y]
        row[:] = _ZERO
        for line in range(top, bottom + 1):
            _add(row, across[line])
        share = _ONE / np.float32(bottom - top + 1)
        for x in range(width):
            row[x] *= share


@njit(cache=True, nogil=True, inline="always", error_model="numpy")
def place(position, last):
    """Where to read a row (or column) of samples 0 .. last: the sample before, the one after, and the share of it."""
    inside = position if position > _ZERO else _ZERO  # NaN becomes 0, too
    inside = min(inside, np.float32(last))
    before = int(inside)
    return before, min(before + 1, last), inside - np.float32(before)


@njit(cache=True, nogil=True, inline="always", error_model="numpy")
def read(image, top, bottom, down, left, right, along):
    """Bilinear value between four samples."""
    upper = image[top, left] + (image[top, right] - image[top, left]) * along
    lower = image[bottom, left] + (image[bottom, right] - image[bottom, left]) * along
    return upper + (lower - upper) * down


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _add(total, values):
    for i in range(len(total)):
        total[i] += values[i]


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _multiply(first, second, result):
    for y in range(len(result)):
        one, other, row = first[y], second[y], result[y]
        for x in range(len(row)):
            row[x] = one[x] * other[x]


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _gradients(image, gradient_x, gradient_y):
    height, width = image.shape
    for y in range(height):
        above, below = image[max(y - 1, 0)], image[min(y + 1, height - 1)]
        for x in range(width):
            gradient_x[y, x] = (image[y, min(x + 1, width - 1)] - image[y, max(x - 1, 0)]) * _HALF
            gradient_y[y, x] = (below[x] - above[x]) * _HALF


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _invert(gradient_x, gradient_y, regularisation, product, across, inverse):
    _multiply(gradient_y, gradient_y, product)
    box(product, 2, across, inverse[0])
    _multiply(gradient_x, gradient_y, product)
    box(product, 2, across, inverse[1])
    _multiply(gradient_x, gradient_x, product)
    box(product, 2, across, inverse[2])
    for y in range(len(product)):
        yy, xy, xx = inverse[0, y], inverse[1, y], inverse[2, y]
        for x in range(len(yy)):
            yy[x] += regularisation
            xx[x] += regularisation
            scale = _ONE / (xx[x] * yy[x] - xy[x] * xy[x])
            yy[x] *= scale
            xy[x] *= scale
            xx[x] *= scale


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _residual(first, second, found, residual):
    height, width = first.shape
    for y in range(height):
        for x in range(width):
            left, right, along = place(np.float32(x) + found[0, y, x], width - 1)
            top, bottom, down = place(np.float32(y) + found[1, y, x], height - 1)
            residual[y, x] = first[y, x] - read(second, top, bottom, down, left, right, along)


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _step(inverse, moments, found):
    for y in range(inverse.shape[1]):
        yy, xy, xx = inverse[0, y], inverse[1, y], inverse[2, y]
        along_x, along_y = moments[0, y], moments[1, y]
        u, v = found[0, y], found[1, y]
        for x in range(len(u)):
            u[x] += min(max(yy[x] * along_x[x] - xy[x] * along_y[x], -_ONE), _ONE)
            v[x] += min(max(xx[x] * along_y[x] - xy[x] * along_x[x], -_ONE), _ONE)
