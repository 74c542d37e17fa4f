"""Lossless files of cached clips: FFV1 in Matroska, every frame a key frame, so that any frame is read alone."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spatialme.errors import InputError

RATE = 25  # frames per second; whole milliseconds, which is how Matroska counts
# (channels, dtype) -> pixel format of the array and of the file (FFV1's 8-bit RGB has an unused fourth byte)
FORMATS = {
    (3, "uint8"): ("rgb24", "bgr0"),
    (1, "uint8"): ("gray", "gray"),
    (1, "uint16"): ("gray16le", "gray16le"),
}


def write_frames(path: Path, frames: NDArray[np.generic]) -> None:
    """Write a clip.

    Args:
        path: A ``.mkv``; it appears only when whole.
        frames: (T, H, W, 3) uint8 RGB, or (T, H, W) uint8 or uint16 over the type's whole range.

    Raises:
        ValueError: Another shape or type.
    """
    formats = FORMATS.get((frames.shape[-1] if frames.ndim == 4 else 1, str(frames.dtype)))
    if frames.ndim not in (3, 4) or formats is None:
        raise ValueError(f"frames must be (T, H, W, 3) uint8 or (T, H, W) uint8 or uint16, got {frames.shape}")
    partial = path.with_name(f"{path.name}.partial")
    with av.open(str(partial), "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=RATE)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = formats[1]
        stream.codec_context.gop_size = 1
        for index, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=formats[0])
            frame = frame.reformat(format=formats[1])
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    os.replace(partial, path)


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
