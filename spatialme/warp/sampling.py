"""The kernel that reads a source row between its pixels, as a table that both back ends of the warp share.

Lanczos with three lobes keeps detail that cubic kernels lose, but no short kernel keeps the finest detail half-way
between two pixels. The kernel is therefore convolved with a slight sharpener, which grows from nothing on a pixel to
`SHARPENING` half-way. Laplacian variance of the view over that of the source outside holes, first frames of five real
clips at 2.5 % disparity: Keys' cubic (-0.5) 0.88 to 0.94, Lanczos-3 0.95 to 0.99, this 0.97 to 1.00. PSNR against the
true right view of motorcycle_cc0, 4 px and more from holes: 31.02, 31.02, 31.01 dB (linear 30.97).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TAPS = 6  # source pixels, from `TAPS_BEFORE` before the last pixel whose centre is not right of the position
TAPS_BEFORE = 2
LOBES = 3
PHASES = 128  # positions between two pixel centres are rounded to this fraction, which moves them by 0.004 px at most
SHARPENING = 0.01


def kernel_table() -> NDArray[np.float32]:
    """Weights by phase: (PHASES + 1, TAPS) float32. Rows sum to 1; the first and the last copy one pixel exactly."""
    phase = np.arange(PHASES + 1)[:, None] / PHASES
    distance = phase - (np.arange(TAPS) - TAPS_BEFORE)
    lanczos = np.sinc(distance) * np.sinc(distance / LOBES)
    amount = SHARPENING * 4 * phase * (1 - phase)
    neighbours = np.pad(lanczos, ((0, 0), (1, 1)))
    weights = lanczos * (1 + 2 * amount) - amount * (neighbours[:, :-2] + neighbours[:, 2:])
    weights /= weights.sum(1, keepdims=True)
    weights[0] = np.arange(TAPS) == TAPS_BEFORE
    weights[-1] = np.arange(TAPS) == TAPS_BEFORE + 1
    return weights.astype(np.float32)
