"""Real stereo clips: what a folder holds, and their frames as a protocol wants them, piece by piece.

`NAME_left.*` with `NAME_right.*`, or `NAME_sbs.*` with both eyes side by side; videos or images.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from spatialme.errors import InputError
from spatialme.evaluation.protocols import Protocol
from spatialme.shots import to_tensor
from spatialme.video.files import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from spatialme.video.reader import Source, open_source

PIECE_FRAMES = 60  # held at a time; a piece is a shot of its own to every method

Array = np.ndarray


@dataclass(frozen=True)
class PairFiles:
    """Where one clip lies."""

    name: str
    left: Path
    right: Path | None  # None: the left file holds both eyes side by side


@dataclass(frozen=True)
class StereoPair:
    """Consecutive frames of one clip."""

    name: str
    first_index: int  # frame number of the first, as the protocol counts
    left: Tensor  # (T, 3, H, W) RGB in [0, 1]
    right: Tensor  # the same size

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


def read_pieces(files: PairFiles, protocol: Protocol) -> Iterator[StereoPair]:
    """Read a clip as `protocol` wants it, at most `PIECE_FRAMES` frames at a time.

    Raises:
        InputError: An eye cannot be read, or the two differ in size or number of frames.
    """
    frames = _both_eyes(files, protocol)
    for index in itertools.count(step=PIECE_FRAMES):
        chunk = list(itertools.islice(frames, PIECE_FRAMES))
        if not chunk:
            return
        left, right = zip(*chunk)
        yield StereoPair(files.name, index, to_tensor(list(left), "cpu"), to_tensor(list(right), "cpu"))


def read_frames(path: Path, protocol: Protocol) -> Iterator[Array]:
    """The frames of one file that a protocol picks, (H, W, 3) RGB at the file's own size."""
    with closing(open_source(path)) as source:
        yield from itertools.islice(_picked(source, protocol.frame_rate), protocol.frames)


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


def _both_eyes(files: PairFiles, protocol: Protocol) -> Iterator[tuple[Array, Array]]:
    for index, (left, right) in enumerate(_unfitted(files, protocol)):
        if left is None or right is None:
            shorter = files.left if left is None else files.right
            raise InputError(
                f"{files.name}: {shorter} ends after {index} frames and its other eye goes on; cut them alike"
            )
        if left.shape != right.shape or left.dtype != right.dtype:
            raise InputError(
                f"{files.name}: the left eye is {_size(left)} and the right eye {_size(right)}; "
                "expected two pictures of one size and bit depth"
            )
        yield fit(left, protocol), fit(right, protocol)


def _unfitted(files: PairFiles, protocol: Protocol) -> Iterator[tuple[Array | None, Array | None]]:
    if files.right is None:
        return (split_eyes(frame, files.left) for frame in read_frames(files.left, protocol))
    return itertools.zip_longest(read_frames(files.left, protocol), read_frames(files.right, protocol))


def _picked(source: Source, frame_rate: float | None) -> Iterator[Array]:
    """Each frame whose time is the first at or after a multiple of the frame rate's step, a hundredth of it early."""
    due = 0.0
    for picture in source:
        if frame_rate is not None:
            seconds = float((picture.pts - source.first_pts) * source.info.time_base)
            if seconds < (due - 0.01) / frame_rate:
                continue
            due = np.floor(seconds * frame_rate + 0.01) + 1
        yield picture.rgb()


def _size(frame: Array) -> str:
    return f"{frame.shape[1]} x {frame.shape[0]} at {8 * frame.dtype.itemsize} bits"
