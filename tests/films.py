"""Short films of several shots, for what happens between segments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np

from spatialme.video.planes import make_frame
from tests import media

WIDTH, HEIGHT = 64, 48
LEVELS = (50, 150, 80, 200, 110, 180)  # of luma, so that every change of shot is a cut


def shot_frames(shots: Sequence[int], *, width: int = WIDTH, height: int = HEIGHT) -> list[av.VideoFrame]:
    """Frames of shots of the given lengths: a square that moves before a slope, each shot at its own brightness."""
    frames = []
    y, x = np.mgrid[0:height, 0:width]
    for number, length in enumerate(shots):
        level = LEVELS[number % len(LEVELS)]
        for t in range(length):
            luma = level + (y * 20) // height + (x * 7 + y * 3) % 5
            left = (5 * number + t) % (width - 16)
            luma[height // 3 : height // 3 + 16, left : left + 16] += 30
            chroma = np.full((height // 2, width // 2), 100 + 10 * (number % 5), np.uint8)
            frames.append(make_frame([luma.astype(np.uint8), chroma, chroma], "yuv420p"))
    return frames


def write_film(path: Path, shots: Sequence[int], *, width: int = WIDTH, height: int = HEIGHT, **options: Any) -> Path:
    """Write such frames with `media.write_video`."""
    return media.write_video(path, pictures=shot_frames(shots, width=width, height=height), **options)
