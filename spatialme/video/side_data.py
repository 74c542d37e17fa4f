"""What a decoded frame carries beside its pixels: orientation, HDR metadata, Dolby Vision."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from fractions import Fraction
from typing import cast

import av
from av.sidedata.sidedata import SideDataContainer, Type

from spatialme.video.orientation import Orientation, from_degrees, from_display_matrix
from spatialme.video.picture import ContentLight, MasteringDisplay

DYNAMIC_HDR = {
    Type.DYNAMIC_HDR_PLUS: "HDR10+",
    Type.DYNAMIC_HDR_VIVID: "HDR Vivid",
    Type.DOVI_METADATA: "Dolby Vision",
    Type.DOVI_RPU_BUFFER: "Dolby Vision",
}


def side_data(frame: av.VideoFrame) -> Mapping[Type, bytes]:
    """The frame's side data; empty where it has a type this PyAV cannot name (PyAV 18 then lists none at all)."""
    try:
        return {entry.type: bytes(entry) for entry in cast("SideDataContainer", frame.side_data)}
    except ValueError:
        return {}


def orientation(frame: av.VideoFrame) -> Orientation:
    """How the frame must be turned to stand upright."""
    matrix = side_data(frame).get(Type.DISPLAYMATRIX)
    return from_degrees(frame.rotation) if matrix is None else from_display_matrix(matrix)


def mastering_display(frame: av.VideoFrame) -> MasteringDisplay | None:
    """SMPTE ST 2086 metadata, if it is complete.

    Layout of AVMasteringDisplayMetadata: ten rationals (red, green, blue, white as x and y, then minimum and
    maximum luminance) and two flags: has primaries, has luminance.
    """
    block = side_data(frame).get(Type.MASTERING_DISPLAY_METADATA)
    if block is None:
        return None
    numbers = struct.unpack_from("=22i", block)
    if not (numbers[20] and numbers[21]):
        return None
    ratios = [Fraction(numbers[i], numbers[i + 1]) for i in range(0, 20, 2)]
    red, green, blue, white = ((ratios[i], ratios[i + 1]) for i in range(0, 8, 2))
    return MasteringDisplay(red, green, blue, white, minimum_nits=ratios[8], maximum_nits=ratios[9])


def content_light(frame: av.VideoFrame) -> ContentLight | None:
    """CTA-861.3 metadata; two unsigned integers in AVContentLightMetadata."""
    block = side_data(frame).get(Type.CONTENT_LIGHT_LEVEL)
    return None if block is None else ContentLight(*struct.unpack_from("=2I", block))


def is_dolby_vision_profile_5(frame: av.VideoFrame) -> bool:
    """Whether the picture is coded in Dolby's own IPT colours, which nothing but its metadata can turn into RGB.

    AVDOVIMetadata starts with the offset of its RPU header; there, byte 4 is vdr_rpu_profile and byte 10
    bl_video_full_range_flag, and FFmpeg's own guess of profile 5 is 0 and 1.
    """
    block = side_data(frame).get(Type.DOVI_METADATA)
    if block is None:
        return False
    (header,) = struct.unpack_from("=Q", block)
    return block[header + 4] == 0 and block[header + 10] == 1


def dynamic_hdr(frame: av.VideoFrame) -> list[str]:
    """Names of the kinds of per-frame HDR metadata, which no output keeps."""
    return sorted({DYNAMIC_HDR[kind] for kind in side_data(frame) if kind in DYNAMIC_HDR})
