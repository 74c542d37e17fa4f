"""Pictures in, eyes out: decoding and converting, each in a thread of its own."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from spatialme.depth.sidecar import DepthVideoWriter
from spatialme.pipeline import Converter
from spatialme.report import Tally
from spatialme.shots import tag_shots, to_arrays
from spatialme.stream import prefetch
from spatialme.types import Clip, DepthClip
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
    clips = tag_shots(timed, Picture.rgb, clip_length=length, device=converter.device, first_index=first_index)
    decoded = prefetch(tally.clock.timed("shots", clips), depth=1, name="decode")
    return prefetch(_eyes(converter, tally, decoded, info.bit_depth, depth_writer), depth=1, name="convert")


def _eyes(
    converter: Converter, tally: Tally, clips: Iterable[Clip], bit_depth: int, depth_writer: DepthVideoWriter | None
) -> Iterator[Eyes]:
    dtype = np.uint8 if bit_depth == 8 else np.uint16

    def save(depth_clip: DepthClip) -> None:
        assert depth_writer is not None
        with tally.clock.charge("save depth"):
            depth_writer.write(depth_clip.nearness, depth_clip.clip.pictures)

    for stereo in converter.stereo(clips, tally=tally, on_depth=save if depth_writer else None):
        left, right = (None if eye is None else to_arrays(eye, dtype) for eye in (stereo.left, stereo.right))
        yield Eyes(stereo.clip.pictures, left, right, stereo.clip.starts_shot)
