"""A folder of films: every one converted, or skipped, or failed for a reason that the closing table tells."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, overload

from spatialme.disk import make_folder
from spatialme.errors import OptionError, SpatialmeError
from spatialme.film.journal import folder_of
from spatialme.job import Job
from spatialme.report import ConversionReport
from spatialme.video.files import expand_input, is_image
from spatialme.video.metadata import FILE_TOKEN
from spatialme.video.picture import SourceKind
from spatialme.video.plan import name_output
from spatialme.video.targets import TARGETS

LOGGER = logging.getLogger(__name__)

State = Literal["done", "skipped", "failed"]
FAILED = 2  # the exit code when a file was not converted
LONGEST_NAME = 48  # characters of a file's name in the table


@dataclass(frozen=True)
class Work:
    """One file and what is to be made of it."""

    path: Path
    kind: SourceKind
    folder: Path  # of the output
    outputs: tuple[Path, ...]


@dataclass(frozen=True)
class FileOutcome:
    """What became of one file of a folder."""

    name: str  # relative to the folder
    state: State
    seconds: float
    report: ConversionReport | None = None  # of a file that was converted
    reason: str = ""  # why it was skipped or failed, one line


@dataclass(frozen=True)
class FolderReport(Sequence[ConversionReport]):
    """The outcomes of a folder; as a sequence, the reports of the files that were converted."""

    outcomes: list[FileOutcome]

    @overload
    def __getitem__(self, index: int) -> ConversionReport: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[ConversionReport]: ...

    def __getitem__(self, index: int | slice) -> ConversionReport | Sequence[ConversionReport]:
        return [outcome.report for outcome in self.outcomes if outcome.report][index]

    def __len__(self) -> int:
        return sum(outcome.report is not None for outcome in self.outcomes)

    @property
    def failed(self) -> list[str]:
        """Names of the files that were not converted."""
        return [outcome.name for outcome in self.outcomes if outcome.state == "failed"]

    @property
    def exit_code(self) -> int:
        """What the command ends with: 2 when a file failed."""
        return FAILED if self.failed else 0

    def lines(self) -> list[str]:
        """The table of all files, and what failed once more at its end."""
        width = max(len("file"), *(len(_short(outcome.name)) for outcome in self.outcomes))
        lines = [f"{'file':{width}}  {'frames':>8}  {'seconds':>9}  state"]
        for outcome in self.outcomes:
            frames = str(outcome.report.frames) if outcome.report else "-"
            state = f"{outcome.state}: {outcome.reason}" if outcome.reason else outcome.state
            lines.append(f"{_short(outcome.name):{width}}  {frames:>8}  {outcome.seconds:9.1f}  {state}")
        counts = [f"{sum(o.state == state for o in self.outcomes)} {state}" for state in ("done", "skipped", "failed")]
        lines.append(f"{len(self.outcomes)} files: {', '.join(counts)}")
        if self.failed:
            lines.append(f"{len(self.failed)} of {len(self.outcomes)} not converted: {', '.join(self.failed)}")
        return lines


def convert_folder(job: Job, folder: Path, output: str | Path, *, recursive: bool) -> FolderReport:
    """Convert each video (or, where there is none, each image) of a folder into the folder OUTPUT.

    One that cannot be converted does not stop the others; one whose output is there already is skipped.

    Args:
        job: The choices that all files share.
        folder: Where to look.
        output: Made when it is not there.
        recursive: Look into folders inside it, too, and mirror them in OUTPUT.

    Raises:
        InputError: The folder holds no media.
        OptionError: Two files would get the same output, or the options contradict each other.
        WeightsError: Weights that the options insist on are missing.
    """
    works = plan_folder(job, folder, Path(output), recursive=recursive)
    if not all(_is_done(work, job) for work in works):  # what the converter refuses is wrong for every file
        LOGGER.info("%d files; depth %s; %s", len(works), job.converter.depth.name, job.converter.written)
    report = FolderReport([])
    for number, work in enumerate(works, 1):
        name = str(work.path.relative_to(folder))
        LOGGER.info("%d of %d: %s", number, len(works), name)
        outcome = _convert_one(job, work, name)
        if outcome.report:
            LOGGER.info("%s", "\n".join(outcome.report.lines()))
        else:
            LOGGER.log(
                logging.WARNING if outcome.state == "failed" else logging.INFO, "%s: %s", outcome.state, outcome.reason
            )
        report.outcomes.append(outcome)
    return report


def plan_folder(job: Job, folder: Path, output: Path, *, recursive: bool) -> list[Work]:
    """Find the files to convert, and check that no two of them want the same name.

    Left out are finished stereo files (by the end of their name, as `convert` itself gives it), what lies in OUTPUT,
    and what is the output of another file.
    """
    if output.exists() and not output.is_dir():
        raise OptionError(f"OUTPUT {output} is a file but the input is a folder; give a folder")
    below = folder.resolve() in output.resolve().parents
    works = []
    for path in expand_input(folder, recursive=recursive):
        if (below and path.resolve().is_relative_to(output.resolve())) or _is_stereo_by_name(path):
            LOGGER.info("left out, being an output: %s", path)
        else:
            works.append(_plan_file(job, path, output / path.relative_to(folder).parent))
    made = {place for work in works for place in work.outputs}
    works = [work for work in works if work.path not in made]
    if not works:
        raise OptionError(f"{folder} holds nothing but stereo files and outputs; give one with files to convert")
    _check_collisions(works)
    return works


def _plan_file(job: Job, path: Path, folder: Path) -> Work:
    kind: SourceKind = "image" if is_image(path) else "video"
    named = Work(path, kind, folder, ())
    _, outputs = name_output(f"{folder}/", named, job.options)
    return Work(path, kind, folder, outputs)


def _check_collisions(works: Sequence[Work]) -> None:
    maker: dict[Path, Path] = {}
    for work in works:
        for place in work.outputs:
            if place in maker:
                raise OptionError(
                    f"{maker[place]} and {work.path} would both become {place}; rename one, or convert them apart"
                )
            maker[place] = work.path


def _convert_one(job: Job, work: Work, name: str) -> FileOutcome:
    began = time.perf_counter()
    if _is_done(work, job):
        return FileOutcome(name, "skipped", 0.0, reason=f"{work.outputs[0]} is there and newer")
    try:
        make_folder(work.folder)
        report = job.convert(work.path, f"{work.folder}/", None)
    except SpatialmeError as error:
        reason = " ".join(str(error).split())
    except Exception as error:  # whatever it is, the other films of the night shall not wait for it
        LOGGER.exception("%s", name)
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
    else:
        if report.already_done:
            return FileOutcome(name, "skipped", 0.0, reason=f"{work.outputs[0]} is done by the same command")
        return FileOutcome(name, "done", time.perf_counter() - began, report)
    return FileOutcome(name, "failed", time.perf_counter() - began, reason=reason)


def _is_done(work: Work, job: Job) -> bool:
    """Whether the outputs are there and newer; where a journal lies beside them, it knows better: the job asks it."""
    if job.options.overwrite or folder_of(work.outputs[0]).exists():
        return False
    try:
        changed = work.path.stat().st_mtime
        return all(place.stat().st_mtime >= changed for place in work.outputs)
    except OSError:  # one of them is not there
        return False


def _is_stereo_by_name(path: Path) -> bool:
    return path.stem.lower().endswith(tuple(_tokens()))


def _tokens() -> Iterator[str]:
    """What `convert` puts behind a name, in lower case."""
    yield from (token.lower() for token in FILE_TOKEN.values() if token)
    yield from (needs.file_token.lower() for needs in TARGETS.values())


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"...{name[3 - LONGEST_NAME :]}"
