"""The conventions of this project, and the values that travel between its stages.

Conventions (nowhere else restated):

- Time first: clips are ``(T, C, H, W)``; RGB, float in [0, 1], gamma-encoded as in the file.
- Pixel ``x`` covers ``[x, x + 1)``, its centre is ``x + 0.5``; every resize uses ``align_corners=False``.
- *Nearness* is relative inverse depth: 1 = nearest in the shot, 0 = farthest.
- *Disparity* is signed pixels at the frame's own width: ``x_right = x_left - disparity``; positive = in front of the
  screen. The synthesised view is the *right* one; stages that make a left view mirror their input with `mirror` first
  and their result after, which turns one problem into the other exactly.
- ``hole`` is True where no source pixel landed.
- A clip never crosses a shot cut.
- Every stage maps an iterable of clips to an iterator of clips, one for one and in order: frame t of the result
  depends on frames ``t - lookback .. t + lookahead`` of its shot only, never on how the shot was cut into clips.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor


@dataclass(frozen=True)
class Clip:
    """Consecutive frames of one shot."""

    frames: Tensor  # (T, 3, H, W) float RGB in [0, 1]: the source eye; while it waits, maybe levels (`levels.py`)
    pictures: tuple[Any, ...]  # T native pictures, carried untouched from the reader to the writer
    first_index: int  # frame number of frames[0] in the source, from 0
    shot: int  # number of the shot, from 0
    starts_shot: bool  # frames[0] is the first of its shot
    ends_shot: bool  # frames[-1] is the last of its shot

    def __post_init__(self) -> None:
        if self.frames.ndim != 4 or self.frames.shape[1] != 3:
            raise ValueError(f"frames must be (T, 3, H, W), got {tuple(self.frames.shape)}")
        if len(self.pictures) != len(self.frames):
            raise ValueError(f"one picture per frame: got {len(self.pictures)} for {len(self.frames)} frames")

    def __len__(self) -> int:
        return len(self.frames)


@dataclass(frozen=True)
class DepthClip:
    """Frames with their stabilised nearness."""

    clip: Clip
    nearness: Tensor  # (T, 1, H, W) float in [0, 1] at frame size

    def __post_init__(self) -> None:
        _check_map("nearness", self.nearness, self.clip.frames)

    def __len__(self) -> int:
        return len(self.clip)


@dataclass(frozen=True)
class Motion:
    """Optical flow of the source eye, at a resolution of its own (at most the frame's).

    Pixel units are those of the flow's own grid. ``forward`` leads from frame t to t + 1, ``backward`` from t to
    t - 1; both are zero, and the validity False, where the shot has no such frame.
    """

    forward: Tensor  # (T, 2, h, w) float, (u, v)
    backward: Tensor  # (T, 2, h, w) float, (u, v)
    forward_valid: Tensor  # (T, 1, h, w) bool: survives the forward-backward check
    backward_valid: Tensor  # (T, 1, h, w) bool


@dataclass(frozen=True)
class WarpedClip:
    """A right view synthesised by forward warping."""

    clip: Clip
    source_disparity: Tensor  # (T, 1, H, W) float pixels, or steps (`levels.py`), in the source view
    view: Tensor  # (T, 3, H, W) float RGB in [0, 1], or levels (`levels.py`); zero inside holes
    disparity: Tensor  # (T, 1, H, W) float pixels, or steps (`levels.py`), in the synthesised view; zero inside holes
    hole: Tensor  # (T, 1, H, W) bool, True where no source pixel landed
    range_px: Tensor | None = None  # (T, 2) float: disparity of nearness 0 and of 1, where a depth budget was set
    motion: Motion | None = None  # present when a branch asked for it

    def __post_init__(self) -> None:
        _check_map("source_disparity", self.source_disparity, self.clip.frames)
        _check_map("disparity", self.disparity, self.clip.frames)
        _check_map("hole", self.hole, self.clip.frames)
        if self.view.shape != self.clip.frames.shape:
            raise ValueError(f"view must match the frames, got {tuple(self.view.shape)}")
        if self.hole.dtype != torch.bool:
            raise ValueError(f"hole must be bool, got {self.hole.dtype}")

    def __len__(self) -> int:
        return len(self.clip)


@dataclass(frozen=True)
class FilledView:
    """One branch's answer: a view without holes, and what it regarded as hole."""

    view: Tensor  # (T, 3, H, W) float RGB in [0, 1], no pixel left open
    hole: Tensor  # (T, 1, H, W) bool: the branch's own mask (poly: stretched pixels; expansion: its wider holes)

    def __post_init__(self) -> None:
        _check_map("hole", self.hole, self.view)

    def __len__(self) -> int:
        return len(self.view)


@dataclass(frozen=True)
class StereoClip:
    """Finished eyes; None stands for the source picture itself, which then never passes through RGB."""

    clip: Clip
    left: Tensor | None  # (T, 3, H, W) float RGB in [0, 1]
    right: Tensor | None

    def __len__(self) -> int:
        return len(self.clip)


Timed = TypeVar("Timed")  # a frozen dataclass whose tensors and tuples, and those of its parts, have time first


def cut(value: Timed, start: int, stop: int) -> Timed:
    """Frames ``start..stop`` (stop exclusive) of a value; no copy."""
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(value):  # type: ignore[arg-type]
        part = getattr(value, field.name)
        if isinstance(part, (Tensor, tuple)):
            changes[field.name] = part[start:stop]
        elif dataclasses.is_dataclass(part):
            changes[field.name] = cut(part, start, stop)
    if isinstance(value, Clip):
        changes["first_index"] = value.first_index + start
        changes["starts_shot"] = value.starts_shot and start == 0
        changes["ends_shot"] = value.ends_shot and stop == len(value)
    return dataclasses.replace(value, **changes)  # type: ignore[type-var]


def join(values: Sequence[Timed]) -> Timed:
    """Consecutive values of one shot as one; the inverse of `cut`. Copies the tensors unless there is only one."""
    first, last = values[0], values[-1]
    if len(values) == 1:
        return first
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(first):  # type: ignore[arg-type]
        parts = [getattr(value, field.name) for value in values]
        if isinstance(parts[0], Tensor):
            changes[field.name] = torch.cat(parts)
        elif isinstance(parts[0], tuple):
            changes[field.name] = tuple(item for part in parts for item in part)
        elif dataclasses.is_dataclass(parts[0]):
            changes[field.name] = join(parts)
    if isinstance(last, Clip):
        changes["ends_shot"] = last.ends_shot
    return dataclasses.replace(first, **changes)  # type: ignore[type-var]


def mirror(image: Tensor) -> Tensor:
    """Flip left and right, so that a stage for right views makes left ones: (..., H, W) -> (..., H, W)."""
    return image.flip(-1)


def _check_map(name: str, value: Tensor, frames: Tensor) -> None:
    wanted = (frames.shape[0], 1, *frames.shape[2:])
    if tuple(value.shape) != wanted:
        raise ValueError(f"{name} must be {wanted}, got {tuple(value.shape)}")
