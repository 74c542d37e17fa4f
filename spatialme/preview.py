"""`spatialme preview`: the hardest shots of a film on one sheet, and what the whole job would take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from spatialme.errors import InputError, OptionError, OutputError
from spatialme.settings import ConverterSettings, Quality

if TYPE_CHECKING:
    from spatialme.estimate import Cost
    from spatialme.pipeline import Converter
    from spatialme.preview_spots import JudgedSpot
    from spatialme.video.picture import StreamInfo

ROWS = 6  # of the sheet
QUALITIES: tuple[Quality, ...] = ("draft", "fast", "full")


@dataclass(frozen=True)
class Estimate:
    """What the whole job would take at one quality."""

    quality: Quality
    cost: Cost | None  # None: not measured,
    reason: str = ""  # for this reason

    def line(self, frames: int | None) -> str:
        """One line; per frame for a film of unknown length."""
        from spatialme.estimate import duration_text, size_text

        if self.cost is None:
            return f"{self.quality:6} not measured: {self.reason}"
        rate = f"{1 / self.cost.seconds_per_frame:.2f} fps over {_frames(self.cost.frames)}"
        if frames is None:
            return f"{self.quality:6} {rate}, {size_text(self.cost.bytes_per_frame)} a frame; its length is not known"
        whole = duration_text(frames * self.cost.seconds_per_frame)
        return f"{self.quality:6} about {whole}, {size_text(frames * self.cost.bytes_per_frame)} ({rate})"


@dataclass(frozen=True)
class PreviewReport:
    """What a look at a film told."""

    path: Path
    info: StreamInfo
    sheet: Path
    spots: list[JudgedSpot]  # all that were looked at
    hardest: list[JudgedSpot]  # those on the sheet, in the film's order
    estimates: list[Estimate]
    conditions: str  # what the estimates were measured with

    @property
    def title(self) -> str:
        """Name, size and length."""
        length = "" if self.info.duration_seconds is None else f", {_clock(self.info.duration_seconds)}"
        frames = "" if self.info.frame_estimate is None else f", {_frames(self.info.frame_estimate)}"
        return f"{self.path.name}: {self.info.width}x{self.info.height}{length}{frames}"

    @property
    def labels(self) -> list[str]:
        """A line for each of the hardest spots."""
        return [
            f"at {_clock(spot.seconds)}: holes {100 * spot.hole_share:.1f} % of the picture, disparity changes by "
            f"{spot.change_percent:.2f} % of the width per frame"
            for spot in self.hardest
        ]

    @property
    def estimate_lines(self) -> list[str]:
        """A line for each quality."""
        return [estimate.line(self.info.frame_estimate) for estimate in self.estimates]

    def lines(self) -> list[str]:
        """The report as lines for a terminal."""
        return [
            self.title,
            f"the hardest of {len(self.spots)} spots, by holes and by changes of disparity:",
            *(f"  {label}" for label in self.labels),
            f"estimates for the whole of it ({self.conditions}; sound comes on top):",
            *(f"  {line}" for line in self.estimate_lines),
            f"contact sheet: {self.sheet}",
        ]


def preview(
    input: str | Path,
    output: str | Path | None = None,
    *,
    depth: str = "auto",
    max_disparity: float = 2.5,
    convergence: float | Literal["auto"] = 0.5,
    device: str = "auto",
    overwrite: bool = False,
) -> PreviewReport:
    """Show the hardest shots of a video on a contact sheet, and estimate time and size of the whole job.

    Args:
        input: A video, an image, or an image sequence such as frames/%05d.png.
        output: The contact sheet, a .png; NAME_preview.png in the current folder when not given.
        depth: auto, tiny, depth-anything-v2-small, -base or -large.
        max_disparity: Depth budget in percent of the picture's width: how strong the 3D is.
        convergence: Nearness on the screen plane, 0 (all in front) to 1 (all behind), or auto per shot.
        device: auto, cpu, cuda or cuda:N.
        overwrite: Replace the contact sheet when it exists.

    Returns:
        The hardest spots, and an estimate for each quality, measured on this machine.

    Raises:
        SpatialmeError: Bad input or options; the message is one line that says what to do.
    """
    from spatialme.pipeline import Converter
    from spatialme.preview_sheet import draw_sheet, write_png
    from spatialme.preview_spots import hardest, judge, read_spots
    from spatialme.video.reader import open_source

    path = Path(input)
    sheet = _check_places(path, output, overwrite)
    with open_source(path) as source:
        info = source.info
    settings = ConverterSettings(
        quality="draft", depth=depth, max_disparity=max_disparity, convergence=convergence, device=device
    )
    converter = Converter(settings)
    spots = judge(read_spots(path), _judging(converter))
    report = PreviewReport(
        path=path,
        info=info,
        sheet=sheet,
        spots=spots,
        hardest=hardest(spots, ROWS),
        estimates=_estimates(path, converter, _typical(spots).seconds),
        conditions=f"measured in a few seconds on {converter.device.type}, depth {converter.depth.name}",
    )
    write_png(sheet, draw_sheet(report.hardest, report.labels, [report.title, *report.estimate_lines]))
    return report


def _check_places(path: Path, output: str | Path | None, overwrite: bool) -> Path:
    if path.is_dir():
        raise InputError(f"{path} is a folder, expected one video or image; give one of its files")
    sheet = Path(output) if output is not None else Path(f"{path.stem.replace('%', '')}_preview.png")
    if sheet.suffix.lower() != ".png":
        raise OptionError(f"OUTPUT {sheet} is the contact sheet; give a name that ends with .png")
    if not sheet.parent.is_dir():
        raise OutputError(f"{sheet.parent} is not an existing folder; create it or give another OUTPUT")
    if sheet.exists() and not overwrite:
        raise OutputError(f"OUTPUT {sheet} exists; add --overwrite or give another name")
    if sheet.exists() and path.exists() and sheet.samefile(path):
        raise OutputError(f"OUTPUT {sheet} would overwrite the input; give another name")
    return sheet


def _judging(converter: Converter) -> Converter:
    """The converter that judges spots: on a CPU with the packaged depth network, others would take minutes."""
    from spatialme.depth.sidecar import DepthFile
    from spatialme.pipeline import Converter

    if isinstance(converter.depth, DepthFile):
        raise OptionError(f"depth {converter.settings.depth} is a video, but spots are judged one by one; leave it out")
    if converter.device.type == "cuda" or converter.depth.name == "tiny":
        return converter
    return Converter(replace(converter.settings, depth="tiny"))


def _typical(spots: Sequence[JudgedSpot]) -> JudgedSpot:
    return sorted(spots, key=lambda spot: spot.hole_share)[len(spots) // 2]


def _estimates(path: Path, draft: Converter, seconds: float) -> list[Estimate]:
    """Measure each quality at one spot."""
    from spatialme.estimate import measure_cost
    from spatialme.pipeline import Converter
    from spatialme.video.reader import open_source
    from spatialme.video.writer import OutputOptions

    estimates = []
    for quality in QUALITIES:
        reason = _why_not(draft) if quality == "full" else ""
        cost = None
        if not reason:
            converter = Converter(replace(draft.settings, quality=quality), depth=draft.depth)
            cost = measure_cost(
                lambda: open_source(path, start_seconds=seconds or None, keep_going=True), converter, OutputOptions()
            )
        estimates.append(Estimate(quality, cost, reason))
    return estimates


def _why_not(converter: Converter) -> str:
    """Why quality full is not measured; empty if it can be."""
    from spatialme.inpaint import propainter_ready

    if not propainter_ready(converter.settings.licence):
        return "ProPainter's weights are not here; run `spatialme weights fetch propainter --accept-licence`"
    return "ProPainter on a CPU is for single shots" if converter.device.type == "cpu" else ""


def _frames(count: int) -> str:
    return f"{count} frame" + ("s" if count != 1 else "")


def _clock(seconds: float) -> str:
    """``h:mm:ss.t``."""
    minutes, rest = divmod(round(seconds, 1), 60)
    return f"{int(minutes // 60)}:{int(minutes % 60):02d}:{rest:04.1f}"
