"""How a packed picture says that it is stereo: names for each format, and reading the marks back from a file."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import av
from av.sidedata.sidedata import Type as SideDataType

from spatialme.errors import InputError
from spatialme.video import mp4box

Format = Literal["full_sbs", "half_sbs", "full_tb", "half_tb", "cross_eyed", "anaglyph", "two_files"]
StereoMode = Literal["left_right", "right_left", "top_bottom", "bottom_top"]

FORMATS: tuple[Format, ...] = ("full_sbs", "half_sbs", "full_tb", "half_tb", "cross_eyed", "anaglyph", "two_files")

# an anaglyph is shown as it is and a file of one eye is mono: neither carries a mark
STEREO_MODE: dict[Format, StereoMode] = {
    "full_sbs": "left_right",
    "half_sbs": "left_right",
    "full_tb": "top_bottom",
    "half_tb": "top_bottom",
    "cross_eyed": "right_left",
}

# `_SBS` and `_LR` alone mean half in some players and full in others, hence the long tokens. iw3 reads _Full_SBS,
# _HSBS and _RLF; Skybox and DeoVR find SBS, HSBS and TB in them; Kodi and Plex know HTAB.
FILE_TOKEN: dict[Format, str] = {
    "full_sbs": "_Full_SBS",
    "half_sbs": "_HSBS",
    "full_tb": "_Full_TB",
    "half_tb": "_HTAB",
    "cross_eyed": "_RLF",
    "anaglyph": "_Anaglyph",
    "two_files": "",  # `_left` and `_right` follow
}

# stereo_mode of google/spatial-media's `st3d` box
ST3D_MODE: dict[StereoMode, int] = {"top_bottom": 1, "left_right": 2, "right_left": 4}
# ITU-T H.264 table D-8, frame_packing_arrangement_type. x264 always writes "the first view is the left one", so the
# right-left order has no number here.
H264_PACKING: dict[StereoMode, int] = {"left_right": 3, "top_bottom": 4}


@dataclass(frozen=True)
class StereoTags:
    """The stereo marks of a file, each None where it is absent."""

    st3d: StereoMode | None  # MP4/MOV sample entry
    matroska: StereoMode | None  # StereoMode of the Matroska track
    bitstream: StereoMode | None  # frame-packing SEI of the coded pictures

    @property
    def mode(self) -> StereoMode | None:
        """The mode that a player would act on: the container's mark goes before the bit stream's."""
        return self.st3d or self.matroska or self.bitstream


def read_stereo_mode(path: str | Path) -> StereoTags:
    """Read the stereo marks of a video file.

    Raises:
        InputError: the file cannot be opened or has no video.
    """
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            if not container.streams.video:
                raise InputError(f"{path} has no video stream, expected a stereo video; give a video file")
            video = container.streams.video[0]
            matroska = video.metadata.get("stereo_mode")
            bitstream = _bitstream_mode(container, video)
            is_mp4 = "mp4" in container.format.name
        st3d = mp4box.read_st3d(Path(path)) if is_mp4 else None
    except (av.FFmpegError, OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a video ({error}); give a video file") from error
    modes: dict[int | None, StereoMode] = {number: mode for mode, number in ST3D_MODE.items()}
    known: dict[str | None, StereoMode] = {mode: mode for mode in get_args(StereoMode)}
    return StereoTags(modes.get(st3d), known.get(matroska), bitstream)


def _bitstream_mode(container: av.container.InputContainer, video: av.VideoStream) -> StereoMode | None:
    """Decode one picture apart from its container, whose own mark FFmpeg would otherwise attach to it."""
    if video.codec_context.name not in ("h264", "hevc"):
        return None  # no other codec has such a message
    decoder: Any = av.VideoCodecContext.create(video.codec_context.name, "r")
    decoder.extradata = video.codec_context.extradata
    for packet in container.demux(video):
        for frame in decoder.decode(packet if packet.size else None):
            return _frame_mode(frame)
    return None


def _frame_mode(frame: Any) -> StereoMode | None:
    for side in frame.side_data:
        if side.type == SideDataType.STEREO3D:
            # struct AVStereo3D begins with enum type (1 side by side, 2 top-bottom) and int flags (1 = inverted)
            kind, flags = struct.unpack_from("=ii", bytes(side))
            inverted = bool(flags & 1)
            if kind == 1:
                return "right_left" if inverted else "left_right"
            if kind == 2:
                return "bottom_top" if inverted else "top_bottom"
    return None
