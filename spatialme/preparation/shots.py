"""The frames of a recording, shot by shot, as many of each as are wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from spatialme.shots import tag_shots, to_tensor
from spatialme.types import Clip
from spatialme.video.reader import open_source

Picture = NDArray[np.uint8]  # (H, W, 3) RGB
CLIP_FRAMES = 4  # that stages get at a time
Frame = TypeVar("Frame")  # a picture, or both eyes


def read_pictures(path: Path, warnings: list[str]) -> Iterator[NDArray]:
    """All frames of a file or of numbered images, (H, W, 3) RGB, uint8 or uint16; adds what the reader warns about."""
    with closing(open_source(path)) as source:
        for picture in source:
            yield picture.rgb()
        warnings += [f"{path.name}: {warning}" for warning in source.warnings]


def reduced(picture: NDArray, short_side: int | None) -> Picture:
    """8 bits, shrunk to a short side of so many px if that is larger."""
    if picture.dtype == np.uint16:
        picture = np.rint(picture / 257).astype(np.uint8)
    height, width = picture.shape[:2]
    if short_side is None or min(height, width) <= short_side:
        return np.ascontiguousarray(picture)
    size = reduced_size(width, height, short_side)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def reduced_size(width: int, height: int, short_side: int | None) -> tuple[int, int]:
    """Width and height of a picture after `reduced`."""
    scale = 1.0 if short_side is None else min(1.0, short_side / min(width, height))
    return round(width * scale), round(height * scale)


def split_shots(
    frames: Iterable[Frame], picture_of: Callable[[Frame], Picture], *, every: int, most: int
) -> Iterator[list[tuple[int, Frame]]]:
    """Every `every`-th frame of each shot, at most `most`, with its number in the recording.

    Cuts are looked for in all frames. Holds one shot's chosen frames.
    """
    chosen: list[tuple[int, Frame]] = []
    inside = 0  # frames of the shot so far
    for clip in tag_shots(frames, picture_of, clip_length=1):
        if inside % every == 0 and len(chosen) < most:
            chosen.append((clip.first_index, clip.pictures[0]))
        inside += 1
        if clip.ends_shot:
            yield chosen
            chosen, inside = [], 0


def as_clips(pictures: Sequence[Picture], device: torch.device) -> Iterator[Clip]:
    """One shot, a few frames at a time, for the stages of a conversion."""
    for start in range(0, len(pictures), CLIP_FRAMES):
        part = tuple(pictures[start : start + CLIP_FRAMES])
        last = start + len(part) == len(pictures)
        yield Clip(to_tensor(list(part), device), part, start, 0, starts_shot=start == 0, ends_shot=last)
