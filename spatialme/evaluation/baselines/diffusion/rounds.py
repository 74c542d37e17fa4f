"""Whole shots for methods that cannot stream, and long shots in rounds that each know the end of the one before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from spatialme.types import WarpedClip, join


class Round(NamedTuple):
    """Frames ``start..stop`` of a shot, of which the first ``made`` are there already."""

    start: int
    stop: int
    made: int


def per_shot(clips: Iterable[WarpedClip], convert: Callable[[WarpedClip], Tensor]) -> Iterator[Tensor]:
    """Convert each shot as a whole, and yield one view per clip. Holds one shot."""
    waiting: list[WarpedClip] = []
    for clip in clips:
        waiting.append(clip)
        if clip.clip.ends_shot:
            view = convert(join(waiting))
            yield from view.split([len(part) for part in waiting])
            waiting = []
    if waiting:
        raise ValueError("the last clip of a stream must have ends_shot set")


def rounds(count: int, window: int, overlap: int) -> list[Round]:
    """Cut `count` frames into rounds of `window` frames, fewer only where there are fewer in all.

    Each round but the first sees at least the last `overlap` frames of those before it as made; the last one is moved
    back, so that it is full and sees more.
    """
    found = [Round(0, min(window, count), 0)]
    while found[-1].stop < count:
        done = found[-1].stop
        stop = min(done - overlap + window, count)
        found.append(Round(stop - window, stop, done - (stop - window)))
    return found


def in_rounds(count: int, window: int, overlap: int, make: Callable[[Round, Tensor | None], Tensor]) -> Tensor:
    """All frames of a shot; what one round has made, later ones keep.

    Args:
        count: Frames of the shot.
        window: Frames that a round holds.
        overlap: Frames that a round takes over, less than the window.
        make: Gives the frames ``start..stop`` of a round, (N, ...), when shown those that are made, (made, ...).
    """
    frames: Tensor | None = None
    for one in rounds(count, window, overlap):
        made = None if frames is None else frames[one.start : one.start + one.made]
        new = make(one, made)
        frames = new if frames is None else torch.cat((frames, new[one.made :]))
    assert frames is not None
    return frames


def padded(images: Tensor, height: int, width: int) -> Tensor:
    """Continue (N, C, H, W) to the right and downwards by its last column and row, up to a size."""
    return F.pad(images, (0, width - images.shape[3], 0, height - images.shape[2]), mode="replicate")
