"""Depth videos: nearness written beside a conversion, to be edited anywhere and given back instead of a network.

gray16le FFV1 in Matroska, 65535 x the stabilised nearness at frame size, one frame per source frame with its time.
They are matched to the source by frame number.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from spatialme import __version__
from spatialme.errors import InputError, OutputError
from spatialme.types import Clip, DepthClip

FULL = 65535  # nearness 1
SUFFIX = ".mkv"
VERSION_TAG, MODEL_TAG, FRAMES_TAG = "SPATIALME_VERSION", "SPATIALME_DEPTH_MODEL", "SPATIALME_FRAMES"
UNKNOWN_COUNT = "????????????"  # stands in the header until the number of frames is known; overwritten in place
HEADER_BYTES = 1 << 16  # the tags lie within so many bytes of the file's start
HEADER_ERROR = 0.05  # of the frames that a source's header promises
SLICES = "8"  # independent parts of a frame, so that threads can share it


class SourceFacts(Protocol):
    """What a depth video takes over from its source (`video.picture.StreamInfo` has it)."""

    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def time_base(self) -> Any: ...
    @property
    def frame_rate(self) -> Any: ...


class DepthVideoWriter:
    """Writes a depth video; it appears whole at `finish`, or not at all. A context manager."""

    def __init__(self, path: str | Path, info: SourceFacts, *, model: str, overwrite: bool = False):
        """Start a file.

        Args:
            path: Where it shall be, named `*.mkv`.
            info: The source's facts.
            model: Name of the estimator, for the tags.
            overwrite: Replace a file that is there.

        Raises:
            OutputError: The path cannot be written or is taken.
        """
        self.path = Path(path)
        self.frames = 0
        self._partial = self.path.with_name(self.path.name + ".partial")
        if self.path.suffix.lower() != SUFFIX:
            raise OutputError(
                f"depth video {path} must be named *{SUFFIX}; FFV1 in gray16 fits no other container well"
            )
        if self.path.exists() and not overwrite:
            raise OutputError(f"depth video {path} exists; choose another name or give --overwrite")
        # bitexact: no random identifiers; no checksums, because the frame count is filled in afterwards
        options = {"fflags": "bitexact", "write_crc32": "0"}
        self._container = av.open(str(self._partial), "w", format="matroska", options=options)
        self._container.metadata.update({VERSION_TAG: __version__, MODEL_TAG: model, FRAMES_TAG: UNKNOWN_COUNT})
        self._stream = self._container.add_stream("ffv1", rate=info.frame_rate)
        self._stream.width, self._stream.height = info.width, info.height
        self._stream.pix_fmt = "gray16le"
        self._stream.time_base = self._stream.codec_context.time_base = info.time_base
        self._stream.options = {"level": "3", "slices": SLICES}
        self._stream.thread_type = "SLICE"
        try:
            self._container.start_encoding()  # creates the file
        except (av.error.FFmpegError, OSError) as error:
            raise OutputError(f"depth video {path} cannot be written: {error.strerror}") from None

    def __enter__(self) -> DepthVideoWriter:
        return self

    def __exit__(self, *_: object) -> None:
        """Drop what was not finished."""
        self._container.close()
        self._partial.unlink(missing_ok=True)

    def write(self, nearness: Tensor, pictures: Sequence[Any]) -> None:
        """Append frames.

        Args:
            nearness: (T, 1, H, W) in [0, 1].
            pictures: T source pictures, whose `pts` the frames get.

        Raises:
            OutputError: The disk is full, or the like.
        """
        values = (nearness[:, 0] * FULL).round().clamp(0, FULL).to(torch.int32).cpu().numpy().astype(np.uint16)
        for plane, picture in zip(values, pictures):
            frame = av.VideoFrame.from_ndarray(plane, format="gray16le")
            frame.pts, frame.time_base = picture.pts, self._stream.codec_context.time_base
            self._mux(frame)
            self.frames += 1

    def finish(self) -> None:
        """Write what is left and put the file in its place."""
        self._mux(None)
        self._container.close()
        try:
            _fill_in_count(self._partial, self.frames)
            os.replace(self._partial, self.path)
        except OSError as error:
            raise OutputError(f"depth video {self.path} cannot be written: {error.strerror}") from None

    def _mux(self, frame: av.VideoFrame | None) -> None:
        try:
            self._container.mux(self._stream.encode(frame))
        except (av.error.FFmpegError, OSError) as error:
            raise OutputError(f"depth video {self.path} cannot be written: {error.strerror}") from None


class DepthFile:
    """Nearness from a file, matched to the source by frame number; a `DepthEstimator`."""

    lookback = 0
    lookahead = 0
    what = "depth file"  # for messages

    def __init__(self, path: Path, name: str, size: tuple[int, int], frame_count: int | None):
        """Take down what an opened file says of itself.

        Args:
            path: Where it is.
            name: For the report.
            size: (height, width) of its maps.
            frame_count: How many there are, None where the file does not tell.
        """
        self.path, self.name, self.size, self.frame_count = path, name, size, frame_count
        self.notices: list[str] = []

    def check_length(self, estimated_frames: int) -> None:
        """Compare the file's own count of frames, where it states one, with what the source's header promises.

        Headers may be a little off: only what cannot fit is refused here, before hours of work; `stream` is exact.

        Raises:
            InputError: They differ by more than `HEADER_ERROR`.
        """
        if self.frame_count is None:
            return
        if abs(self.frame_count - estimated_frames) > max(2, HEADER_ERROR * estimated_frames):
            raise InputError(
                f"{self.what} {self.path} has {self.frame_count} frames, its source about {estimated_frames}; give the "
                "one made from this source and the same --start and --end"
            )

    def stream(self, clips: Iterable[Clip]) -> Iterator[DepthClip]:
        """Yield every clip with the frames of its numbers.

        Raises:
            InputError: The file cannot be decoded, or has fewer or more frames than the clips.
        """
        planes = self._planes()
        position = 0
        try:
            for clip in clips:
                while position < clip.first_index:
                    self._next(planes, position)
                    position += 1
                chosen = [self._next(planes, position + i) for i in range(len(clip))]
                position += len(clip)
                yield DepthClip(clip, self._fitted(np.stack(chosen), clip.frames))
            if next(planes, None) is not None:
                raise InputError(
                    f"{self.what} {self.path} has more frames than its source, which has {position}; give the "
                    "one made from this source and the same --start and --end"
                )
        finally:
            planes.close()

    def _next(self, planes: Iterator[np.ndarray], position: int) -> np.ndarray:
        plane = next(planes, None)
        if plane is None:
            raise InputError(
                f"{self.what} {self.path} has {position} frames, its source has more; give the one made from "
                "this source and the same --start and --end"
            )
        return plane

    def _planes(self) -> Generator[np.ndarray, None, None]:
        """The (h, w) maps in order."""
        raise NotImplementedError

    def _fitted(self, values: np.ndarray, frames: Tensor) -> Tensor:
        """(T, h, w) maps -> (T, 1, H, W) nearness at the frames' size, on their device."""
        raise NotImplementedError

    def _say_scaled(self, frames: Tensor) -> None:
        height, width = frames.shape[-2:]
        notice = f"{self.what} {self.path} is {self.size[1]}x{self.size[0]}, scaled to {width}x{height}"
        if notice not in self.notices:
            self.notices.append(notice)


class DepthVideo(DepthFile):
    """Reads gray of 8 to 16 bits, or any colour video, whose luma counts; white is nearest."""

    what = "depth video"

    def __init__(self, path: str | Path):
        """Open the file and read its tags.

        Raises:
            InputError: There is no readable video.
        """
        self.path = Path(path)
        with self._open() as container:
            stream = container.streams.video[0]
            tags = {name.upper(): value for name, value in container.metadata.items()}
            size = (stream.height, stream.width)
            count = tags.get(FRAMES_TAG, "")
            frame_count = int(count) if count.isdigit() else (stream.frames or None)
        name = f"{self.path.name} ({tags[MODEL_TAG]})" if MODEL_TAG in tags else self.path.name
        super().__init__(self.path, name, size, frame_count)

    def _fitted(self, values: np.ndarray, frames: Tensor) -> Tensor:
        """(T, h, w) numbers of 0..65535 -> (T, 1, H, W) nearness at the frames' size, on their device."""
        nearness = torch.from_numpy(values.astype(np.float32) / FULL).unsqueeze(1).to(frames.device)
        height, width = frames.shape[-2:]
        if tuple(nearness.shape[-2:]) == (height, width):
            return nearness
        self._say_scaled(frames)
        return F.interpolate(nearness, size=(height, width), mode="bilinear", antialias=True, align_corners=False)

    def _open(self) -> Any:
        try:
            container = av.open(str(self.path))
        except (av.error.FFmpegError, OSError) as error:
            raise InputError(f"depth video {self.path} cannot be read: {error.strerror}") from None
        if not container.streams.video:
            container.close()
            raise InputError(f"depth video {self.path} holds no video; give a file made by --save-depth")
        return container

    def _planes(self) -> Generator[np.ndarray, None, None]:
        with self._open() as container:
            container.streams.video[0].thread_type = "AUTO"
            try:
                for frame in container.decode(video=0):
                    yield frame.to_ndarray(format="gray16le")  # any gray or YUV, over the whole range
            except (av.error.FFmpegError, OSError) as error:
                raise InputError(f"depth video {self.path} cannot be decoded: {error.strerror}") from None


def _fill_in_count(path: Path, frames: int) -> None:
    """Write the number of frames over its placeholder in the header; Matroska has no tags at its end."""
    with path.open("r+b") as file:
        place = file.read(HEADER_BYTES).find(UNKNOWN_COUNT.encode())
        if place >= 0:
            file.seek(place)
            file.write(str(frames).zfill(len(UNKNOWN_COUNT)).encode())
