"""The planes of a video frame as arrays, and frames made of such arrays, in the native pixel format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import av
import numpy as np

from spatialme.video.formats import delivered_format


@dataclass(frozen=True)
class PlaneLayout:
    """How one plane of a pixel format lies in memory."""

    width: int  # groups of samples in a row
    height: int
    channels: int  # interleaved components: 3 for rgb24, else 1
    dtype: np.dtype


def plane_layouts(pixel_format: str, width: int, height: int) -> list[PlaneLayout]:
    """Describe the planes of a frame of `width` x `height` in a format that `delivered_format` names.

    Raises:
        ValueError: for any other format.
    """
    if delivered_format(pixel_format) != pixel_format:
        raise ValueError(
            f"{pixel_format} has no plain planes, expected {delivered_format(pixel_format)}; convert first"
        )
    components = av.VideoFormat(pixel_format, width, height).components
    layouts = []
    for plane in range(1 + max(component.plane for component in components)):
        members = [component for component in components if component.plane == plane]
        dtype = np.dtype(np.uint8 if members[0].bits <= 8 else np.uint16)
        layouts.append(PlaneLayout(members[0].width, members[0].height, len(members), dtype))
    return layouts


def read_planes(frame: av.VideoFrame) -> list[np.ndarray]:
    """Show the planes without copying: each (H, W) or (H, W, 3), uint8 or uint16, writable.

    Planar RGB comes in FFmpeg's order: green, blue, red.
    """
    return view_planes(frame, plane_layouts(frame.format.name, frame.width, frame.height))


def view_planes(frame: av.VideoFrame, layouts: Sequence[PlaneLayout]) -> list[np.ndarray]:
    """`read_planes` for a frame whose memory lies as `layouts` say, whatever its format is called."""
    views = []
    for rows, layout in zip(_padded(frame, layouts), layouts):
        samples = rows[:, : layout.width * layout.channels]
        views.append(samples.reshape(layout.height, layout.width, -1) if layout.channels > 1 else samples)
    return views


def padded_planes(frame: av.VideoFrame) -> list[np.ndarray]:
    """The planes with the unused samples at the end of each row: (H, at least W x channels), contiguous, writable."""
    return _padded(frame, plane_layouts(frame.format.name, frame.width, frame.height))


def _padded(frame: av.VideoFrame, layouts: Sequence[PlaneLayout]) -> list[np.ndarray]:
    return [
        np.frombuffer(memoryview(plane), np.uint8)[: plane.line_size * layout.height]
        .reshape(layout.height, -1)
        .view(layout.dtype)
        for plane, layout in zip(frame.planes, layouts)
    ]


def make_frame(planes: Sequence[np.ndarray], pixel_format: str, *, like: av.VideoFrame | None = None) -> av.VideoFrame:
    """Copy planes, shaped as `read_planes` gives them, into a new frame.

    Args:
        planes: One array per plane of `pixel_format`; the first sets the frame's size.
        pixel_format: FFmpeg name.
        like: Frame whose time and colour tags the new one takes.
    """
    height, width = planes[0].shape[:2]
    frame = av.VideoFrame(width, height, pixel_format)
    for view, samples in zip(read_planes(frame), planes):
        view[:] = samples
    if like is not None:
        copy_tags(like, frame)
    return frame


def copy_tags(source: av.VideoFrame, target: av.VideoFrame) -> None:
    """Give `target` the time stamp, duration and colour tags of `source`."""
    target.pts = source.pts
    target.duration = source.duration
    if source.time_base is not None:
        target.time_base = source.time_base
    target.colorspace = source.colorspace
    target.color_range = source.color_range
    target.color_primaries = source.color_primaries
    target.color_trc = source.color_trc
