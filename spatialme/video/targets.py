"""What each kind of player needs: one row per target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from spatialme.errors import OptionError
from spatialme.video.metadata import Format

Target = Literal["quest", "deovr", "skybox", "3dtv", "youtube", "avp"]


@dataclass(frozen=True)
class PlayerNeeds:
    """Packing, container, codec limits and file-name token for one player."""

    format: Format
    extension: str
    file_token: str  # appended to the input's stem where OUTPUT is a folder
    codec: str | None = None  # None: H.264 as far as its levels reach, then HEVC
    bit_depth: int | None = None  # None: the source's


TARGETS: dict[Target, PlayerNeeds] = {
    # Meta's video player and the headset's decoder take HEVC to 8192 wide; stereo is read from st3d and from the name
    "quest": PlayerNeeds("full_sbs", ".mp4", "_Full_SBS"),
    # DeoVR goes by the name alone: `_SBS` for stereo; without `_180` or `_360` the screen is flat
    "deovr": PlayerNeeds("full_sbs", ".mp4", "_Full_SBS"),
    # Skybox reads SBS as full and HSBS as half width
    "skybox": PlayerNeeds("full_sbs", ".mp4", "_Full_SBS"),
    # televisions switch on the frame-packing SEI of H.264 and show half-width pictures of 8 bit; Kodi, Plex and
    # Jellyfin read the dotted token
    "3dtv": PlayerNeeds("half_sbs", ".mp4", ".3D.HSBS", codec="libx264", bit_depth=8),
    # YouTube reads st3d (spatial-media's own purpose) and StereoMode, and makes its own encodes
    "youtube": PlayerNeeds("full_sbs", ".mp4", "_Full_SBS"),
}


def find_target(name: str) -> PlayerNeeds:
    """The row of a target.

    Raises:
        OptionError: unknown name, or Apple Vision Pro, whose MV-HEVC is not written.
    """
    if name == "avp":
        raise OptionError("target avp needs MV-HEVC, which is not written yet; use --target quest or full_sbs")
    for known, needs in TARGETS.items():
        if known == name:
            return needs
    raise OptionError(f"unknown target {name!r}, expected one of {', '.join(get_args(Target))}")
