"""Changes that a picture may suffer without its depth being another: cuts, flips, turns, colours, noise."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from spatialme.training.depth_set import DepthPicture

SMALLEST_CUT = 0.55  # share of the largest cut that fits
LARGEST_STRETCH = 1.2  # of the aspect ratio, either way
LARGEST_TURN_DEGREES = 5.0
GREY_SHARE = 0.1  # of the samples, that lose their colour
BLUR_SHARE, NOISE_SHARE, JPEG_SHARE = 0.2, 0.25, 0.2
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Augmented:
    """One picture at the size of the samples."""

    rgb: Array  # (H, W, 3) in [0, 1]
    label: Array  # (H, W), NaN where unknown
    teacher: Array | None = None  # (H, W)
    following: Array | None = None  # (H, W, 3) the next frame, changed alike


def augment(picture: DepthPicture, size: tuple[int, int], random: np.random.Generator) -> Augmented:
    """Cut a random piece out of a picture, turned a little and perhaps mirrored, in other colours.

    Args:
        picture: With its label and perhaps a teacher's answer.
        size: (height, width) of the result, in px.
        random: What decides.
    """
    matrix = _placement(picture.rgb.shape[:2], size, random)

    def moved(values: NDArray, interpolation: int, **border: float) -> NDArray:
        # the matrix leads from the result to the picture, which OpenCV calls inverse
        flags = interpolation | cv2.WARP_INVERSE_MAP
        return np.asarray(cv2.warpAffine(values, matrix, size[::-1], flags=flags, **border))  # type: ignore[call-overload]

    views = [picture.rgb] if picture.following is None else [picture.rgb, picture.following]
    # both frames in one picture, so that they are recoloured alike
    stacked = np.concatenate([moved(view, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT) for view in views])
    coloured = _recoloured(stacked, random)
    label = moved(picture.label, cv2.INTER_NEAREST, borderValue=float("nan"))
    teacher = None
    if picture.teacher is not None:
        full = cv2.resize(picture.teacher, picture.rgb.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        teacher = moved(np.asarray(full), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    following = coloured[size[0] :] if picture.following is not None else None
    return Augmented(coloured[: size[0]], label, teacher, following)


def _placement(available: tuple[int, ...], size: tuple[int, int], random: np.random.Generator) -> NDArray[np.float64]:
    """(2, 3) matrix from the result's pixels to the picture's: a cut, a stretch, a turn, half the time mirrored."""
    stretch = LARGEST_STRETCH ** random.uniform(-0.5, 0.5)
    wanted = np.array([size[0] / stretch, size[1] * stretch])
    largest = min(available[0] / wanted[0], available[1] / wanted[1])
    scale = wanted / size * largest * random.uniform(SMALLEST_CUT, 1)  # picture px per result px, down and across
    taken = scale * size
    centre = [random.uniform(part / 2, side - part / 2) for part, side in zip(taken, available)]
    angle = np.deg2rad(random.uniform(-LARGEST_TURN_DEGREES, LARGEST_TURN_DEGREES))
    mirrored = -1 if random.random() < 0.5 else 1
    across = np.array([np.cos(angle), np.sin(angle)]) * scale[1] * mirrored
    down = np.array([-np.sin(angle), np.cos(angle)]) * scale[0]
    middle = (size[1] - 1) / 2, (size[0] - 1) / 2  # OpenCV counts pixel centres from 0
    origin = np.array([centre[1] - 0.5, centre[0] - 0.5]) - across * middle[0] - down * middle[1]
    return np.stack((across, down, origin), 1)


def _recoloured(rgb: NDArray[np.uint8], random: np.random.Generator) -> Array:
    """(H, W, 3) uint8 -> [0, 1], as another camera on another day would have seen it."""
    if random.random() < JPEG_SHARE:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(30, 90))]
        rgb = np.asarray(cv2.imdecode(cv2.imencode(".jpg", rgb, quality)[1], cv2.IMREAD_COLOR), np.uint8)
    image = rgb.astype(np.float32) / 255
    if random.random() < BLUR_SHARE:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), random.uniform(0.3, 1.5)))
    grey = image.mean(2, keepdims=True)
    saturation = 0.0 if random.random() < GREY_SHARE else random.uniform(0.5, 1.5)
    image = grey + saturation * (image - grey)
    image = image * random.uniform(0.8, 1.2, 3).astype(np.float32)  # white balance
    image = (image - 0.5) * random.uniform(0.7, 1.3) + 0.5 + random.uniform(-0.15, 0.15)
    image = image.clip(0, 1) ** random.uniform(0.7, 1.4)
    if random.random() < NOISE_SHARE:
        image = image + random.normal(0, random.uniform(0.01, 0.05), image.shape)
    return image.clip(0, 1).astype(np.float32)
