"""Lossless files of cached clips: FFV1 in Matroska, every frame a key frame, so that any frame is read alone."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
import torch
from av.container import OutputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray
from torch import Tensor

from spatialme.errors import InputError, OutputError

RATE = 25  # frames per second; whole milliseconds, which is how Matroska counts
# (channels, dtype) -> pixel format of the array and of the file (FFV1's 8-bit RGB has an unused fourth byte)
FORMATS = {
    (3, "uint8"): ("rgb24", "bgr0"),
    (1, "uint8"): ("gray", "gray"),
    (1, "uint16"): ("gray16le", "gray16le"),
}


class FrameFile:
    """A clip being written frame by frame, at ``PATH.partial`` until it is whole; a context manager.

    Leaving it by an exception, or without a frame, leaves no file.
    """

    def __init__(self, path: Path):
        self._path = path
        self._partial = path.with_name(f"{path.name}.partial")
        self._container: OutputContainer | None = None
        self._count = 0

    def __enter__(self) -> FrameFile:
        return self

    def write(self, picture: NDArray[np.generic]) -> None:
        """Append a frame.

        Args:
            picture: (H, W, 3) uint8 RGB, or (H, W) uint8 or uint16 over the type's whole range; all of one kind.

        Raises:
            ValueError: Another shape or type.
            OutputError: The file cannot be written.
        """
        formats = FORMATS.get((picture.shape[-1] if picture.ndim == 3 else 1, str(picture.dtype)))
        if picture.ndim not in (2, 3) or formats is None:
            raise ValueError(
                f"frames must be (H, W, 3) uint8 or (H, W) uint8 or uint16, got {picture.shape} {picture.dtype}"
            )
        try:
            if self._container is None:
                self._container = self._open(formats[1], *picture.shape[:2])
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=formats[0])
            frame = frame.reformat(format=formats[1])
            frame.pts, frame.time_base = self._count, Fraction(1, RATE)
            self._container.mux(self._stream.encode(frame))
        except av.FFmpegError as error:
            raise self._unwritable(error) from None
        self._count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._container is None:
            return
        try:
            if kind is None:
                self._container.mux(self._stream.encode())
            self._container.close()
        except av.FFmpegError as failure:
            raise self._unwritable(failure) from None
        if kind is None:
            os.replace(self._partial, self._path)
        else:
            self._partial.unlink(missing_ok=True)

    def _open(self, pixel_format: str, height: int, width: int) -> OutputContainer:
        # bitexact: no random ids in the file, so that the same frames are the same bytes
        container = av.open(str(self._partial), "w", format="matroska", options={"fflags": "bitexact"})
        self._stream: VideoStream = container.add_stream("ffv1", rate=RATE)
        self._stream.height, self._stream.width = height, width
        self._stream.pix_fmt = pixel_format
        self._stream.codec_context.gop_size = 1
        return container

    def _unwritable(self, error: av.FFmpegError) -> OutputError:
        return OutputError(f"{self._path} cannot be written ({error.strerror}); make room or choose another place")


def write_frames(path: Path, frames: NDArray[np.generic]) -> None:
    """Write a whole clip: (T, H, W, 3) or (T, H, W); see `FrameFile`."""
    with FrameFile(path) as file:
        for picture in frames:
            file.write(picture)


def read_frame(path: Path, index: int) -> Tensor:
    """Read one frame: (3, H, W) or (1, H, W) float in [0, 1].

    Raises:
        InputError: The file cannot be read, or has no such frame.
    """
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert stream.time_base is not None
            container.seek(round(index / RATE / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                if round(frame.time * RATE) == index:
                    return _to_tensor(frame)
    except (OSError, av.FFmpegError, IndexError) as error:
        raise InputError(f"{path} cannot be read as a cached clip ({error}); prepare it again") from None
    raise InputError(f"{path} has no frame {index}; prepare it again")


def _to_tensor(frame: av.VideoFrame) -> Tensor:
    picture = frame.to_ndarray(format="rgb24" if frame.format.name == "bgr0" else frame.format.name)
    highest = 2 ** (8 * picture.dtype.itemsize) - 1
    levels = torch.from_numpy(picture.astype(np.float32) / np.float32(highest))
    return levels.permute(2, 0, 1).contiguous() if levels.ndim == 3 else levels[None]
