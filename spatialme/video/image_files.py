"""Images as output: one file, or the numbered files of a sequence."""

from __future__ import annotations

import os
import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from spatialme.errors import OutputError
from spatialme.video.place import matches_pattern, partial_path
from spatialme.video.plan import OutputPlan


class ImageFile:
    """One image, in `PATH.partial` until it is finished."""

    def __init__(self, path: Path, plan: OutputPlan) -> None:
        self.path = path
        self.partial = partial_path(path)
        self._plan = plan

    def write(self, frame: av.VideoFrame) -> None:
        """Encode the frame.

        Raises:
            OutputError: it cannot be encoded or written.
        """
        _write_bytes(self.partial, encode_image(frame, self._plan), self.path)

    def finish(self) -> None:
        """Check that the image is there and force it to the disk."""
        if not self.partial.exists():
            raise OutputError(f"{self.path} got no picture; the input has none")
        with open(self.partial, "rb") as file:
            os.fsync(file.fileno())

    def publish(self) -> int:
        """Give the image its name; returns its bytes."""
        os.replace(self.partial, self.path)
        return self.path.stat().st_size

    def abandon(self) -> None:
        """Drop it."""
        self.partial.unlink(missing_ok=True)


class ImageSequence:
    """Images numbered from 1, in a folder of their own until all are there."""

    def __init__(self, pattern: Path, plan: OutputPlan) -> None:
        self.path = pattern
        self._folder = pattern.parent
        # inside an existing folder, whose parent may not be ours to write
        self.partial = (
            pattern.parent / f"{_name_of(pattern)}.partial" if pattern.parent.exists() else partial_path(pattern.parent)
        )
        self._plan = plan
        self._count = 0
        shutil.rmtree(self.partial, ignore_errors=True)
        self.partial.mkdir()

    def write(self, frame: av.VideoFrame) -> None:
        """Write the next image.

        Raises:
            OutputError: it cannot be encoded or written.
        """
        self._count += 1
        _write_bytes(self.partial / (self.path.name % self._count), encode_image(frame, self._plan), self.path)

    def finish(self) -> None:
        """Check the number of images."""
        found = len(list(self.partial.iterdir()))
        if found != self._count or not found:
            raise OutputError(f"{self.path} has {found} images after writing, expected {self._count}; try again")

    def publish(self) -> int:
        """Let the images appear: with their folder at once, or one by one in a folder that was there before."""
        size = sum(file.stat().st_size for file in self.partial.iterdir())
        if not self._folder.exists():
            os.replace(self.partial, self._folder)
            return size
        for old in list(self._folder.iterdir()):
            if matches_pattern(old.name, self.path.name):
                old.unlink()
        for file in sorted(self.partial.iterdir()):
            os.replace(file, self._folder / file.name)
        self.partial.rmdir()
        return size

    def abandon(self) -> None:
        """Drop what there is."""
        shutil.rmtree(self.partial, ignore_errors=True)


def encode_image(frame: av.VideoFrame, plan: OutputPlan) -> bytes:
    """The frame as an image file.

    Raises:
        OutputError: the encoder refuses it.
    """
    context: Any = av.VideoCodecContext.create(plan.encoder, "w")
    context.width, context.height, context.pix_fmt = frame.width, frame.height, frame.format.name
    context.time_base = Fraction(1, 1)
    context.color_range, context.colorspace = plan.colour.color_range, plan.colour.colorspace
    context.color_primaries, context.color_trc = plan.colour.color_primaries, plan.colour.color_trc
    context.options = dict(plan.encoder_options)
    context.thread_count = 1
    frame.pts, frame.time_base = 0, Fraction(1, 1)
    try:
        packets = [*context.encode(frame), *context.encode(None)]
    except (av.FFmpegError, ValueError) as error:
        raise OutputError(f"{plan.paths[0]} could not be encoded as {plan.encoder} ({error}); use .png") from error
    return b"".join(bytes(packet) for packet in packets)


def _write_bytes(partial: Path, encoded: bytes, path: Path) -> None:
    try:
        partial.write_bytes(encoded)
    except OSError as error:
        raise OutputError(
            f"{path} could not be written ({error.strerror}); free some space or choose another place"
        ) from error


def _name_of(pattern: Path) -> str:
    return "." + pattern.name.replace("%", "")
