"""`spatialme compare` and `spatialme check`: what they take; light, for their `--help`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from spatialme.errors import OptionError

if TYPE_CHECKING:
    from spatialme.evaluation.check import CheckReport
    from spatialme.evaluation.session import ComparisonSummary

CheckedFormat = Literal["auto", "full_sbs", "half_sbs", "full_tb", "half_tb", "cross_eyed"]


def compare(
    *,
    data: str | Path | None = None,
    out: str | Path | None = None,
    methods: str | None = None,
    protocol: str | None = None,
    disparity: str = "auto",
    external: str | None = None,
    command: str | None = None,
    command_timeout: float = 3600.0,
    device: str = "auto",
) -> ComparisonSummary:
    """Compare ways to make the right view on real stereo clips, and write the tables.

    Args:
        data: Needed. Folder of clips: NAME_left.* with NAME_right.*, or NAME_sbs.*; videos or images. Or the
            manifest.json of `spatialme prepare`, several with commas between.
        out: Needed. Folder for results.csv, results.md and report.html; what is there under these names is replaced.
        methods: Names with commas between, such as poly,expansion,telea; the protocol's when not given. refined=WEIGHTS
            and everywhere=WEIGHTS take a refiner as convert's --refiner does.
        protocol: spatialme, m2svid, ablation, stereopilot, refiner, or a YAML file; up to 48 frames per clip when not
            given.
        disparity: How the real pair is matched: auto, raft, sgbm, or a folder with NAME.npy maps in px.
        external: Finished files of other tools to judge beside, as NAME=FOLDER with commas between.
        command: A tool to run on every clip and to judge, as NAME="tool {left} {output}"; several with " ; " between.
            It reads a lossless file and writes the right view; {output_sbs} for both eyes side by side, or
            {output_folder}.
        command_timeout: Seconds that the tool may take for one clip.
        device: auto, cpu, cuda or cuda:N.

    Returns:
        The table, and where the files lie.

    Raises:
        SpatialmeError: Nothing could be compared; the message is one line that says why.
    """
    if data is None or out is None:
        missing = "--data" if data is None else "--out"
        raise OptionError(f"{missing} is missing; give a folder, as in spatialme compare --data CLIPS --out RESULTS")
    from spatialme.evaluation.session import run

    return run(
        Path(data),
        Path(out),
        methods=methods,
        protocol=protocol,
        disparity=disparity,
        external=external,
        command=command,
        command_timeout=command_timeout,
        device=device,
    )


def check(file: str | Path, *, format: CheckedFormat = "auto", frames: int = 24) -> CheckReport:
    """Check a finished stereo file for what hurts: swapped eyes, misalignment, mismatch, flicker, frozen frames.

    Args:
        file: A stereo video or image with both eyes in one picture.
        format: How the eyes are packed; auto believes the file's marks, then its name, then its shape.
        frames: How many to look at, in runs spread over the file.

    Returns:
        The findings; a serious one makes the command's exit code 1.

    Raises:
        SpatialmeError: The file cannot be read, or holds no two eyes.
    """
    from spatialme.evaluation.check import check_file

    return check_file(Path(file), format=format, frames=frames)
