"""`spatialme prepare`: what it takes; light, for its `--help`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from spatialme.preparation.settings import ItemDefaults, PrepareSettings, StereoFormat
from spatialme.settings import Engine

if TYPE_CHECKING:
    from spatialme.preparation.report import PreparationReport


def prepare(
    input: str | Path,
    output: str | Path,
    *,
    mono: bool = False,
    source: str | None = None,
    licence: str = "unknown",
    commercial: bool = False,
    validation_share: float = 0.05,
    validation: str | None = None,
    every: int = 1,
    max_frames: int = 64,
    short_side: int | None = None,
    depth: str = "auto",
    format: StereoFormat = "auto",
    disparity: str = "auto",
    inpaint: Engine = "propagation",
    mirrored: bool = False,
    device: str = "auto",
    workers: int | None = None,
) -> PreparationReport:
    """Make training clips of stereo recordings, or with --mono of 2D ones.

    Args:
        input: A video, an image, a folder of these, numbered images such as frames/%05d.png, or a list of them (.csv,
            .json, .yaml). Stereo comes as *_left.* with *_right.*, both eyes in one picture, or MPO.
        output: Folder for the clips, manifest.json and report.json; a run that was stopped goes on where it was.
        mono: The input is 2D: keep frames and their nearness, from which training makes pairs.
        source: Name of the collection, by which training weighs it; the input's own name when not given.
        licence: Of the material, kept in the manifest.
        commercial: Weights trained on the material may be used commercially.
        validation_share: Part of the scenes that is kept for validation, chosen by their names' hash.
        validation: Scenes kept for validation instead, by name, with commas between.
        every: Take every so many frames of a shot.
        max_frames: Take at most so many frames of a shot.
        short_side: Shrink pictures whose short side is longer than this, in px.
        depth: Estimator of --mono: auto, tiny, depth-anything-v2-small, ..., see spatialme convert.
        format: How both eyes are packed in one picture; auto believes the file's marks, then its name, then its shape.
        disparity: How pairs are matched: auto, raft, sgbm, or a folder of maps, see docs/preparing.md.
        inpaint: Engine of the two video-inpainting branches; auto takes ProPainter where its weights are.
        mirrored: Also prepare every pair mirrored, which makes its right eye the left one.
        device: auto, cpu, cuda or cuda:N.
        workers: Processes; one per CPU when not given.

    Returns:
        What was kept, what was dropped and why.

    Raises:
        SpatialmeError: Nothing could be prepared; the message is one line that says why.
    """
    from spatialme.preparation.run import run

    settings = PrepareSettings(
        kind="mono" if mono else "stereo",
        every=every,
        max_frames=max_frames,
        short_side=short_side,
        depth=depth,
        format=format,
        disparity=disparity,
        inpaint=inpaint,
        mirrored=mirrored,
    )
    defaults = ItemDefaults(source, licence, commercial)
    return run(
        Path(input),
        Path(output),
        settings,
        defaults,
        validation_share=validation_share,
        validation=None if validation is None else frozenset(name.strip() for name in validation.split(",")),
        device=device,
        workers=workers,
    )
