"""Opening what a user names: each way it can be wrong has its one line."""

from __future__ import annotations

import io
from pathlib import Path

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from spatialme.errors import InputError
from spatialme.video.truncation import missing_bytes

SMALLEST_SIDE = 16
# text shown as art, and lists that would open other files or the network
_REFUSED_FORMATS = {"tty", "bin", "xbin", "adf", "idf", "concat", "hls", "dash", "sdp", "rtsp", "ffmetadata", "lavfi"}


def check_file(path: Path) -> None:
    """Raise `InputError` unless `path` is a readable file with something in it."""
    try:
        if not path.exists():
            raise InputError(f"{path} does not exist; check the name")
        if path.is_dir():
            raise InputError(f"{path} is a folder, expected one video or image")
        if not path.is_file():  # a pipe or device would block
            raise InputError(f"{path} is not a regular file, expected a video or image")
        if path.stat().st_size == 0:
            raise InputError(f"{path} is empty (0 bytes), expected a video or image")
        with path.open("rb"):
            pass
    except OSError as error:
        raise InputError(f"{path} cannot be opened: {error.strerror}; check its permissions") from error


def open_container(path: Path, content: bytes | None = None, *, accelerator: HWAccel | None = None) -> InputContainer:
    """Open a checked file, or its `content` where that has been read already; its streams decode on the accelerator."""
    try:
        # a still image is told by its bytes: by name, FFmpeg would take "100%d.png" for a pattern
        file = str(path) if content is None else io.BytesIO(content)
        container = av.open(file, "r", hwaccel=accelerator)
    except av.FFmpegError as error:
        raise InputError(_why_unreadable(path, error)) from error
    if container.format.name in _REFUSED_FORMATS:
        container.close()
        raise InputError(f"{path} is not a video or image ({container.format.long_name})")
    return container


def choose_video(container: InputContainer, path: Path) -> tuple[VideoStream, list[str]]:
    """The stream to convert, and notes for the report.

    Cover art does not count; of several videos the one marked default is taken, else the first.
    """
    streams = container.streams
    videos = [video for video in streams.video if not video.disposition & Disposition.attached_pic]
    whole = [video for video in videos if not _is_part(video)]
    if videos and not whole:
        raise InputError(f"{path} is made of image tiles (HEIC or AVIF grid); save it as PNG or JPEG first")
    if not whole:
        what = "only sound" if streams.audio else "no pictures"
        raise InputError(f"{path} holds {what}, expected a video or image")
    chosen = next((video for video in whole if video.disposition & Disposition.default), whole[0])
    if chosen.codec_context is None:
        raise InputError(f"{path}: this build of FFmpeg cannot decode its video; convert it to H.264 first")
    others = [str(video.index) for video in whole if video is not chosen]
    notes = [f"video stream {chosen.index} is converted; left out: {', '.join(others)}"] if others else []
    return chosen, notes


def check_whole(path: Path, stream: VideoStream, *, keep_going: bool) -> list[str]:
    """Raise `InputError` if the file is cut short of its own index; with `keep_going`, say so in a note."""
    missing = missing_bytes(path, stream)
    if not missing:
        return []
    if not keep_going:
        raise InputError(
            f"{path} is cut short: {missing} bytes that its index promises are missing; fetch it again, "
            "or use --keep-going to take what is there"
        )
    return [f"the file is cut short: {missing} bytes at its end are missing"]


def check_size(path: Path, width: int, height: int) -> None:
    """Raise `InputError` for pictures too small to convert."""
    if min(width, height) < SMALLEST_SIDE:
        raise InputError(f"{path} is {width}x{height}, expected at least {SMALLEST_SIDE}x{SMALLEST_SIDE}")


def _is_part(video: VideoStream) -> bool:
    return bool(video.disposition & Disposition.dependent)


def _why_unreadable(path: Path, error: av.FFmpegError) -> str:
    if isinstance(error, PermissionError):
        return f"{path} cannot be opened: permission denied; check its permissions"
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] in (b"ftyp", b"mdat", b"moov", b"wide", b"free"):
        return f"{path} has no readable index (moov); the recording or the download was cut short, fetch it again"
    return f"{path} is not a video or image that FFmpeg can read ({error.strerror})"
