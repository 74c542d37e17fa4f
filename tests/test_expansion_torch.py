"""Disparity expansion on a GPU: the CPU's maps to the bit, and OpenCV's edges."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from spatialme.report import Tally
from spatialme.warp.expansion import expand_disparity
from spatialme.warp.expansion_torch import canny, expand_disparity_torch


def spiral(height: int, width: int) -> np.ndarray:
    """A line too weak for an edge of its own, wound inwards, with one strong spot at its outer end."""
    left, top, right, bottom = 6, 6, width - 6, height - 6
    corners = [(left, top)]
    while right - left > 16 and bottom - top > 16:
        corners += [(right, top), (right, bottom), (left, bottom), (left, top + 8), (left + 8, top + 8)]
        left, top, right, bottom = left + 8, top + 8, right - 8, bottom - 8
    image = np.zeros((height, width), np.uint8)
    cv2.polylines(image, [np.array(corners, np.int32)], False, 20, 2)
    image[4:10, 4:10] = 120
    return image


def pictures() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (120, 160), np.uint8)
    coarse = random.integers(0, 256, (8, 12), np.uint8)
    return {
        "noise": noise,
        "blurred": cv2.GaussianBlur(noise, (7, 7), 0) * 2,
        "smooth": cv2.resize(coarse, (160, 120), interpolation=cv2.INTER_CUBIC),
        "blocks": cv2.resize(coarse, (160, 120), interpolation=cv2.INTER_NEAREST),
        "spiral": spiral(240, 320),
    }


@pytest.mark.parametrize("name", pictures())
def test_edges_are_opencvs(name):
    picture = pictures()[name]
    wanted = cv2.Canny(picture, 50, 150) != 0
    assert wanted.any()
    levels = torch.from_numpy(picture).double()[None, None]
    np.testing.assert_array_equal(canny(torch.cat([levels, levels.flip(-1)]))[0, 0], wanted)


@pytest.mark.parametrize("width", [160, 480])
def test_maps_are_those_of_the_cpu(width):
    random = torch.Generator().manual_seed(width)
    height = width // 2
    relief = F.interpolate(torch.rand(3, 1, 9, 16, generator=random), (height, width), mode="bicubic")
    blobs = F.interpolate(torch.rand(3, 1, 6, 9, generator=random), (height, width), mode="bilinear")
    disparity = (0.4 * relief + 0.6 * (4 * blobs).floor() / 4 - 0.5) * 0.05 * width
    low = torch.tensor([-0.024, -0.025, -0.026]) * width
    wanted = expand_disparity(disparity, low_px=low, high_px=-low, radius_px=3, threshold_px=1.2)
    assert 0.001 < (wanted != disparity).float().mean() < 0.5
    assert torch.equal(expand_disparity_torch(disparity, low.double(), -low.double(), 3, 1.2), wanted)


def test_disparity_that_was_not_finite_on_a_gpu_is_told_where_one_waits_anyway():
    tally = Tally()
    tally.watch_disparity(torch.full((1, 1, 2, 2), torch.nan))  # on a CPU the warp has looked
    tally.check_disparity()
    tally._unfinite = torch.tensor(True)  # as `watch_disparity` leaves it there
    with pytest.raises(ValueError, match="disparity holds NaN or infinite values"):
        tally.check_disparity()
