"""Pictures in, eyes out: decoding and converting, each in a thread of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from spatialme.depth.sidecar import DepthVideoWriter
from spatialme.pipeline import Converter
from spatialme.report import Tally
from spatialme.shots import CutDetector, Departing, tag_shots
from spatialme.stream import prefetch
from spatialme.types import Clip, DepthClip
from spatialme.video.convert_pixels import rgb
from spatialme.video.picture import Picture, StreamInfo


@dataclass(frozen=True)
class Eyes:
    """Consecutive frames of one shot, ready for the encoder."""

    pictures: tuple[Picture, ...]
    left: list[np.ndarray] | None  # (H, W, 3) RGB each, uint8 or uint16; None: the pictures themselves
    right: list[np.ndarray] | None
    starts_shot: bool

    def frames(self) -> Iterator[tuple[Picture, np.ndarray | None, np.ndarray | None]]:
        """Frame by frame."""
        for i, picture in enumerate(self.pictures):
            yield picture, None if self.left is None else self.left[i], None if self.right is None else self.right[i]


def converted(
    converter: Converter,
    tally: Tally,
    pictures: Iterable[Picture],
    info: StreamInfo,
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
        first_index: Number of the first picture in the film.
        depth_writer: Gets the depth on its way.
    """
    length = converter.clip_length(info.width, info.height)
    timed = tally.clock.timed("decode", pictures)
    clips = _clips(timed, info, converter.device, clip_length=length, first_index=first_index)
    decoded = prefetch(tally.clock.timed("shots", clips), depth=1, name="decode")
    return prefetch(_eyes(converter, tally, decoded, info.bit_depth, depth_writer), depth=1, name="convert")


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


def _eyes(
    converter: Converter, tally: Tally, clips: Iterable[Clip], bit_depth: int, depth_writer: DepthVideoWriter | None
) -> Iterator[Eyes]:
    dtype = np.uint8 if bit_depth == 8 else np.uint16

    def save(depth_clip: DepthClip) -> None:
        assert depth_writer is not None
        with tally.clock.charge("save depth"):
            depth_writer.write(depth_clip.nearness, depth_clip.clip.pictures)

    # while a clip comes back from a GPU, the next one is already queued
    behind = 1 if converter.device.type == "cuda" else 0
    departing: deque[_DepartingEyes] = deque()
    for stereo in converter.stereo(clips, tally=tally, on_depth=save if depth_writer else None):
        left, right = (None if eye is None else Departing(eye, dtype) for eye in (stereo.left, stereo.right))
        departing.append(_DepartingEyes(stereo.clip.pictures, left, right, stereo.clip.starts_shot))
        if len(departing) > behind:
            yield departing.popleft().arrived(tally)
    for waiting in departing:
        yield waiting.arrived(tally)


@dataclass(frozen=True)
class _DepartingEyes:
    """`Eyes` that may still be on their way from a GPU."""

    pictures: tuple[Picture, ...]
    left: Departing | None
    right: Departing | None
    starts_shot: bool

    def arrived(self, tally: Tally) -> Eyes:
        left, right = (None if eye is None else eye.arrays() for eye in (self.left, self.right))
        tally.check_disparity()
        return Eyes(self.pictures, left, right, self.starts_shot)
