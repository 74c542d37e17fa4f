"""What the reader tells about a source, and the pictures it yields."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import av
import numpy as np

from spatialme.video import convert_pixels

SourceKind = Literal["video", "image", "sequence"]


@dataclass(frozen=True)
class MasteringDisplay:
    """SMPTE ST 2086: the display that a film was graded on."""

    red: tuple[Fraction, Fraction]  # CIE 1931 x, y
    green: tuple[Fraction, Fraction]
    blue: tuple[Fraction, Fraction]
    white: tuple[Fraction, Fraction]
    minimum_nits: Fraction  # cd/m2
    maximum_nits: Fraction

    @property
    def x265_value(self) -> str:
        """The value of x265's ``master-display``: chromaticity in 1/50000, luminance in 1/10000 cd/m2."""

        def point(name: str, xy: tuple[Fraction, Fraction]) -> str:
            return f"{name}({round(xy[0] * 50000)},{round(xy[1] * 50000)})"

        points = point("G", self.green) + point("B", self.blue) + point("R", self.red) + point("WP", self.white)
        return f"{points}L({round(self.maximum_nits * 10000)},{round(self.minimum_nits * 10000)})"


@dataclass(frozen=True)
class ContentLight:
    """CTA-861.3: the brightest pixel and the brightest frame average, in cd/m2."""

    maximum_content_nits: int  # MaxCLL
    maximum_average_nits: int  # MaxFALL

    @property
    def x265_value(self) -> str:
        """The value of x265's ``max-cll``."""
        return f"{self.maximum_content_nits},{self.maximum_average_nits}"


@dataclass(frozen=True)
class StreamInfo:
    """Facts about the pictures of a source, as they are delivered (rotation applied)."""

    width: int
    height: int
    frame_rate: Fraction  # average; 1 for a single image
    time_base: Fraction  # of every Picture.pts
    frame_estimate: int | None  # from the header; the decoded count may differ
    duration_seconds: float | None
    pixel_format: str  # of every Picture.frame
    bit_depth: int  # 8, 10, 12 or 16
    codec: str
    sample_aspect: Fraction  # width : height of a pixel, after rotation
    color_range: int  # AVColorRange; 0 = unspecified
    colorspace: int  # AVColorSpace, the YUV matrix; 2 = unspecified
    color_primaries: int  # AVColorPrimaries; 2 = unspecified
    color_trc: int  # AVColorTransferCharacteristic; 2 = unspecified
    mastering_display: MasteringDisplay | None
    content_light: ContentLight | None
    kind: SourceKind
    rotation_degrees: int  # counter-clockwise turn that was applied, for the report; 0, 90, 180 or 270


@dataclass(frozen=True)
class Picture:
    """One decoded picture in its native pixel format."""

    index: int  # from 0, in the order shown; counts from the first picture kept
    pts: int  # in StreamInfo.time_base; strictly increasing
    frame: av.VideoFrame  # upright, of the source's one size
    key: bool  # the source codes this picture on its own
    repeated: bool  # stands in for a damaged one: the frame of the picture before

    def rgb(self) -> np.ndarray:
        """Convert to (H, W, 3) gamma-encoded RGB: uint8 for 8 bit sources, else uint16 from 0 to 65535."""
        return convert_pixels.rgb(self.frame)
