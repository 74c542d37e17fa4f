"""What a user can choose about prepared clips; light enough for `--help`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from spatialme.errors import OptionError
from spatialme.settings import Engine

StereoFormat = Literal["auto", "full_sbs", "half_sbs", "full_tb", "half_tb", "cross_eyed"]

SMALLEST_SHORT_SIDE = 64


@dataclass(frozen=True)
class ItemDefaults:
    """What holds for every item that a list does not say otherwise about."""

    source: str | None = None  # None: the input's name
    licence: str = "unknown"
    commercial: bool = False


@dataclass(frozen=True)
class PrepareSettings:
    """What clips are made of and how; see `spatialme prepare --help`."""

    kind: Literal["stereo", "mono"]
    every: int = 1
    max_frames: int = 64
    short_side: int | None = None
    depth: str = "auto"
    format: StereoFormat = "auto"
    disparity: str = "auto"
    inpaint: Engine = "propagation"
    mirrored: bool = False

    def __post_init__(self) -> None:
        for option, value in (("--every", self.every), ("--max-frames", self.max_frames)):
            if value < 1:
                raise OptionError(f"{option} is {value}, expected 1 or more")
        if self.short_side is not None and self.short_side < SMALLEST_SHORT_SIDE:
            raise OptionError(f"--short-side is {self.short_side} px, expected {SMALLEST_SHORT_SIDE} or more")
        stereo_only = self.mirrored or self.format != "auto" or self.disparity != "auto"
        if self.kind == "mono" and stereo_only:
            raise OptionError("--mono makes no use of --format, --disparity and --mirrored; leave them out")
        if self.kind == "stereo" and self.depth != "auto":
            raise OptionError(f"--depth {self.depth} is of use with --mono only; stereo is matched, see --disparity")
