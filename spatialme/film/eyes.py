"""Pictures in, eyes out: decoding and converting, each in a thread of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from spatialme.depth.sidecar import DepthVideoWriter
from spatialme.levels import resting
from spatialme.pipeline import Converter
from spatialme.report import Tally
from spatialme.shots import CutDetector, Departing, tag_shots
from spatialme.stream import prefetch
from spatialme.types import Clip, DepthClip
from spatialme.video.convert_pixels import rgb
from spatialme.video.eyes import EyeImage, planar_encoding
from spatialme.video.picture import Picture, StreamInfo
from spatialme.video.plan import OutputPlan


@dataclass(frozen=True)
class Eyes:
    """Consecutive frames of one shot, ready for the encoder."""

    pictures: tuple[Picture, ...]
    left: Sequence[EyeImage] | None  # None: the pictures themselves
    right: Sequence[EyeImage] | None
    starts_shot: bool

    def frames(self) -> Iterator[tuple[Picture, EyeImage | None, EyeImage | None]]:
        """Frame by frame."""
        for i, picture in enumerate(self.pictures):
            yield picture, None if self.left is None else self.left[i], None if self.right is None else self.right[i]


def converted(
    converter: Converter,
    tally: Tally,
    pictures: Iterable[Picture],
    info: StreamInfo,
    plan: OutputPlan,
    *,
    first_index: int = 0,
    depth_writer: DepthVideoWriter | None = None,
) -> Generator[Eyes, None, None]:
    """Find the cuts and convert; close the generator to stop early.

    Args:
        converter: Does the work.
        tally: Counts what passes.
        pictures: In order.
        info: Of their source.
        plan: What the eyes will be packed into.
        first_index: Number of the first picture in the film.
        depth_writer: Gets the depth on its way.
    """
    length = converter.clip_length(info.width, info.height)
    timed = tally.clock.timed("decode", pictures)
    clips = map(resting, _clips(timed, info, converter.device, clip_length=length, first_index=first_index))
    decoded = prefetch(tally.clock.timed("shots", clips), depth=1, name="decode")
    depart = _departure(info, plan, converter.device)
    return prefetch(_eyes(converter, tally, decoded, depart, depth_writer), depth=1, name="convert")


def _clips(
    pictures: Iterable[Picture], info: StreamInfo, device: torch.device, *, clip_length: int, first_index: int
) -> Iterator[Clip]:
    if device.type == "cpu":
        return tag_shots(pictures, Picture.rgb, clip_length=clip_length, first_index=first_index)
    from spatialme.colour_torch import frames_of

    # a GPU gets the planes; of the RGB, only what the cuts are found in is made here
    rows = CutDetector.rows_read(info.height, info.width)
    return tag_shots(
        pictures,
        lambda picture: rgb(picture.frame, rows),
        clip_length=clip_length,
        device=device,
        first_index=first_index,
        frames_of=lambda some: frames_of(some, device),
    )


class _Download(Protocol):
    """An eye's images on their way to the host."""

    def arrays(self) -> Sequence[EyeImage]:
        """The images, once they are there."""


def _departure(info: StreamInfo, plan: OutputPlan, device: torch.device) -> Callable[[torch.Tensor], _Download]:
    """What sends (T, 3, H, W) to the host: planes from a GPU where they are what is packed, else RGB."""
    dtype = np.uint8 if info.bit_depth == 8 else np.uint16
    encoding = None if device.type == "cpu" else planar_encoding(plan, info, dtype)
    if encoding is None:
        return lambda view: Departing(view, dtype)
    from spatialme.colour_torch import DepartingPlanes

    return lambda view: DepartingPlanes(view, encoding)


def _eyes(
    converter: Converter,
    tally: Tally,
    clips: Iterable[Clip],
    depart: Callable[[torch.Tensor], _Download],
    depth_writer: DepthVideoWriter | None,
) -> Iterator[Eyes]:
    def save(depth_clip: DepthClip) -> None:
        assert depth_writer is not None
        with tally.clock.charge("save depth"):
            depth_writer.write(depth_clip.nearness, depth_clip.clip.pictures)

    # while a clip comes back from a GPU, the next one is already queued
    behind = 1 if converter.device.type == "cuda" else 0
    departing: deque[_DepartingEyes] = deque()
    for stereo in converter.stereo(clips, tally=tally, on_depth=save if depth_writer else None):
        left, right = (None if eye is None else depart(eye) for eye in (stereo.left, stereo.right))
        departing.append(_DepartingEyes(stereo.clip.pictures, left, right, stereo.clip.starts_shot))
        if len(departing) > behind:
            yield departing.popleft().arrived(tally)
    for waiting in departing:
        yield waiting.arrived(tally)


@dataclass(frozen=True)
class _DepartingEyes:
    """`Eyes` that may still be on their way from a GPU."""

    pictures: tuple[Picture, ...]
    left: _Download | None
    right: _Download | None
    starts_shot: bool

    def arrived(self, tally: Tally) -> Eyes:
        left, right = (None if eye is None else eye.arrays() for eye in (self.left, self.right))
        tally.check_disparity()
        return Eyes(self.pictures, left, right, self.starts_shot)
