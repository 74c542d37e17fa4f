"""Decoding on an NVIDIA GPU (NVDEC): only of what it decodes to the very pictures that come from the CPU.

So it matters neither to finished segments nor to a film's key which of the two has decoded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import av
import numpy as np
from av.codec.context import ThreadType
from av.codec.hwaccel import HWAccel
from av.video.stream import VideoStream

from spatialme.errors import InputError, OptionError
from spatialme.video.opening import choose_video, open_container
from spatialme.video.orientation import Orientation
from spatialme.video.planes import read_planes
from spatialme.video.upright import Upright

DecoderName = Literal["cpu", "cuda"]

# Their standards leave a decoder no choice; inverse transforms of MPEG-2, MPEG-4 and JPEG may differ in the last bit
_EXACT_CODECS = ("h264", "hevc", "vp8", "vp9")
_TAKEN_FORMATS = ("yuv420p", "yuvj420p", "yuv420p10le")
_DELIVERED_FORMATS = ("nv12", "p010le")


def find_accelerator(decoder: DecoderName, device: str) -> HWAccel | None:
    """What opens a file for decoding there; None for the CPU.

    Args:
        decoder: Where to decode.
        device: Where stages compute, as of `--device`: the N of ``cuda:N`` decodes, else the first GPU.

    Raises:
        OptionError: An unknown name, no such GPU, or no driver.
    """
    if decoder == "cpu":
        return None
    if decoder != "cuda":
        raise OptionError(f"--decoder {decoder!r} is not known; use cpu or cuda")
    accelerator = HWAccel("cuda", device=device.partition(":")[2] or None)
    try:
        accelerator.create(av.Codec("h264", "r"))
    except (av.FFmpegError, NotImplementedError) as error:
        reason = error.strerror if isinstance(error, av.FFmpegError) else error
        raise OptionError(
            f"--decoder cuda does not start here ({reason}), it needs an NVIDIA GPU and its driver; use --decoder cpu"
        ) from error
    return accelerator


def suited(path: Path, accelerator: HWAccel | None) -> tuple[HWAccel | None, list[str]]:
    """The accelerator if it gives a video's first picture as the CPU does, else None; and notes for the report."""
    if accelerator is None:
        return None, []
    with open_container(path) as container:
        stream, _ = choose_video(container, path)
        reason = _why_not(path, stream, accelerator)
    return (None, [f"decoded on the CPU: {reason}"]) if reason else (accelerator, [])


def _why_not(path: Path, stream: VideoStream, accelerator: HWAccel) -> str | None:
    codec, pixel_format = stream.codec_context.codec.canonical_name, stream.codec_context.pix_fmt
    if codec not in _EXACT_CODECS or pixel_format not in _TAKEN_FORMATS:
        return f"the GPU is for H.264, HEVC, VP8 and VP9 in 4:2:0 of 8 or 10 bits, this is {codec} {pixel_format}"
    decoded = _first_picture(path, accelerator)
    if decoded is None or decoded.format.name not in _DELIVERED_FORMATS:
        return f"the GPU does not take this {codec} {pixel_format}"
    return None if _same(decoded, _first_picture(path, None)) else "the GPU's first picture is another than the CPU's"


def _first_picture(path: Path, accelerator: HWAccel | None) -> av.VideoFrame | None:
    try:
        with open_container(path, accelerator=accelerator) as container:
            stream, _ = choose_video(container, path)
            stream.thread_type, stream.thread_count = ThreadType.NONE, 1
            return next(container.decode(stream), None)
    except (av.FFmpegError, InputError):
        return None


def _same(decoded: av.VideoFrame, wanted: av.VideoFrame | None) -> bool:
    if wanted is None:
        return False
    fitting = Upright(Orientation(), None, [])
    one, other = (fitting(frame) for frame in (wanted, decoded))
    tags = [(frame.pts, int(frame.color_range), int(frame.colorspace)) for frame in (one, other)]
    return tags[0] == tags[1] and all(map(np.array_equal, read_planes(one), read_planes(other)))
