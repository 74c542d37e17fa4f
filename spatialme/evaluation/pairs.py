"""Stereo clips: what a folder holds, and their frames as a protocol wants them, shot by shot.

`NAME_left.*` with `NAME_right.*`, or `NAME_sbs.*` with both eyes side by side; videos or images.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar
from typing import Protocol as Interface

import cv2
import numpy as np
import torch
from torch import Tensor

from spatialme.errors import InputError
from spatialme.evaluation.protocols import Protocol
from spatialme.shots import tag_shots, to_tensor
from spatialme.video.files import IMAGE_SUFFIXES, VIDEO_SUFFIXES, is_image
from spatialme.video.reader import open_source

PIECE_FRAMES = 60  # of one shot, held at a time; a piece is a shot of its own to every method

Array = np.ndarray
Item = TypeVar("Item")


class Eyes(NamedTuple):
    """One frame of a clip, as a protocol wants it."""

    left: Array  # (H, W, 3) RGB
    right: Array  # the same size and type
    disparity: Array | None = None  # (H, W) float32 px of the left view, where it is known


class ClipSource(Interface):
    """Where one clip comes from."""

    @property
    def name(self) -> str:
        """Unique among the clips; may have slashes."""

    @property
    def group(self) -> str:
        """What of its kind is averaged: ``real stills``, ``mono-made videos`` and so on."""

    def eyes(self, protocol: Protocol) -> Iterator[Eyes]:
        """Its frames in order; raises InputError for what cannot be read or does not match."""


@dataclass(frozen=True)
class PairFiles:
    """A clip of real stereo."""

    name: str
    left: Path
    right: Path | None  # None: the left file holds both eyes side by side
    single: bool = False  # the file, though a video, holds one frame

    @property
    def group(self) -> str:
        """Stills and videos apart."""
        return f"real {'stills' if self.single or is_image(self.left) else 'videos'}"

    def eyes(self, protocol: Protocol) -> Iterator[Eyes]:
        """Yield its frames.

        Raises:
            InputError: An eye cannot be read, or the two differ in size or number of frames.
        """
        for index, (left, right) in enumerate(self._unfitted(protocol)):
            if left is None or right is None:
                shorter = self.left if left is None else self.right
                raise InputError(
                    f"{self.name}: {shorter} ends after {index} frames and its other eye goes on; cut them alike"
                )
            if left.shape != right.shape or left.dtype != right.dtype:
                raise InputError(
                    f"{self.name}: the left eye is {_size(left)} and the right eye {_size(right)}; "
                    "expected two pictures of one size and bit depth"
                )
            yield Eyes(fit(left, protocol), fit(right, protocol))

    def _unfitted(self, protocol: Protocol) -> Iterator[tuple[Array | None, Array | None]]:
        if self.right is None:
            return (split_eyes(frame, self.left) for frame in read_frames(self.left, protocol))
        return itertools.zip_longest(read_frames(self.left, protocol), read_frames(self.right, protocol))


@dataclass(frozen=True)
class StereoPair:
    """Consecutive frames of one shot of one clip."""

    name: str
    first_index: int  # frame number of the first, as the protocol counts
    left: Tensor  # (T, 3, H, W) RGB in [0, 1]
    right: Tensor  # the same size
    disparity: Tensor | None = None  # (T, 1, H, W) px of the left view, where it is known

    def __len__(self) -> int:
        return len(self.left)


def find_pairs(folder: Path) -> list[PairFiles]:
    """The clips of a folder, by name.

    Raises:
        InputError: No folder, nothing in it, or an eye without its other.
    """
    if not folder.is_dir():
        raise InputError(
            f"--data {folder} is not a folder; give one with *_left.*, *_right.* pairs or *_sbs.mp4 videos"
        )
    by_role: dict[str, dict[str, Path]] = {"left": {}, "right": {}, "sbs": {}}
    for file in sorted(folder.iterdir()):
        name, _, role = file.stem.rpartition("_")
        if file.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES and role in by_role:
            by_role[role][name] = file
    for one, other in (("left", "right"), ("right", "left")):
        for name in sorted(set(by_role[one]) - set(by_role[other])):
            raise InputError(f"{by_role[one][name]} has no {name}_{other}.* beside it; add it or take this one away")
    pairs = [PairFiles(name, file, by_role["right"][name]) for name, file in by_role["left"].items()]
    pairs += [PairFiles(name, file, None) for name, file in by_role["sbs"].items() if name not in by_role["left"]]
    if not pairs:
        raise InputError(f"{folder} holds no *_left.*, *_right.* pairs and no *_sbs.* files; rename the clips so")
    return sorted(pairs, key=lambda pair: pair.name)


def read_pieces(source: ClipSource, protocol: Protocol) -> Iterator[StereoPair]:
    """Read a clip as `protocol` wants it, shot by shot, at most `PIECE_FRAMES` frames at a time.

    Cuts are looked for in the left eye, as `convert` does it. Raises what the source raises.
    """
    for clip in tag_shots(source.eyes(protocol), lambda eyes: eyes.left, clip_length=PIECE_FRAMES):
        known = [eyes.disparity for eyes in clip.pictures if eyes.disparity is not None]
        yield StereoPair(
            source.name,
            clip.first_index,
            clip.frames,
            to_tensor([eyes.right for eyes in clip.pictures], "cpu"),
            torch.from_numpy(np.stack(known))[:, None] if known else None,
        )


def read_frames(path: Path, protocol: Protocol) -> Iterator[Array]:
    """The frames of one file that a protocol picks, (H, W, 3) RGB at the file's own size."""
    with closing(open_source(path)) as source:
        timed = ((float((each.pts - source.first_pts) * source.info.time_base), each) for each in source)
        for picture in pick_frames(timed, protocol):
            yield picture.rgb()


def pick_frames(timed: Iterable[tuple[float, Item]], protocol: Protocol) -> Iterator[Item]:
    """What a protocol takes of (seconds, frame) in order.

    With a frame rate: each whose time is the first at or after a multiple of its step, a hundredth of it early.
    """
    return itertools.islice(_at_rate(timed, protocol.frame_rate), protocol.frames)


def fit(frame: Array, protocol: Protocol) -> Array:
    """Resize and cut one picture, (H, W, 3)."""
    height, width = frame.shape[:2]
    wanted = protocol.resized(width, height)
    if wanted != (width, height):
        shrinks = wanted[0] <= width
        frame = np.asarray(cv2.resize(frame, wanted, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC))
    return np.ascontiguousarray(frame[protocol.cut_out(*wanted)])


def fit_disparity(disparity: Array, protocol: Protocol) -> Array:
    """Resize and cut one map of px, (H, W): the nearest value, for a mean of two surfaces lies on neither."""
    height, width = disparity.shape
    wanted = protocol.resized(width, height)
    scaled = np.asarray(cv2.resize(disparity, wanted, interpolation=cv2.INTER_NEAREST)) * np.float32(wanted[0] / width)
    return np.ascontiguousarray(scaled[protocol.cut_out(*wanted)])


def split_eyes(packed: Array, path: Path) -> tuple[Array, Array]:
    """Both eyes of a side-by-side picture.

    Raises:
        InputError: An odd width.
    """
    width = packed.shape[1]
    if width % 2:
        raise InputError(f"{path} is {width} px wide, expected two eyes of one width side by side")
    return packed[:, : width // 2], packed[:, width // 2 :]


def file_stem(name: str) -> str:
    """A clip's name as a part of a file's name: no folder, nothing hidden."""
    return re.sub(r"[^\w+-]+", "_", name)


def _at_rate(timed: Iterable[tuple[float, Item]], frame_rate: float | None) -> Iterator[Item]:
    due = 0.0
    for seconds, frame in timed:
        if frame_rate is not None:
            if seconds < (due - 0.01) / frame_rate:
                continue
            due = np.floor(seconds * frame_rate + 0.01) + 1
        yield frame


def _size(frame: Array) -> str:
    return f"{frame.shape[1]} x {frame.shape[0]} at {8 * frame.dtype.itemsize} bits"
