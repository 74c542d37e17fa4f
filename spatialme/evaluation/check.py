"""`spatialme check` at work: what hurts in a finished stereo file, whoever made it.

a few runs of frames, spread over the file -> both eyes -> measures -> findings
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from spatialme.errors import InputError, OptionError
from spatialme.evaluation.comfort import measure_comfort
from spatialme.evaluation.eye_order import Votes, vote_eye_order
from spatialme.evaluation.findings import Finding, Measured, judge
from spatialme.evaluation.matching import sgbm
from spatialme.evaluation.packing import PACKINGS, Packing, find_packing
from spatialme.evaluation.run_method import motion_of
from spatialme.evaluation.sample import Sample, mean_over
from spatialme.evaluation.temporal import flicker
from spatialme.flow import FlowEstimator, open_flow
from spatialme.shots import to_tensor
from spatialme.video.reader import open_source

RUN_FRAMES = 8  # consecutive, for what shows over time
MOST_WIDTH = 960  # px, of an eye as it is measured
SAME_BELOW = (
    0.02 / 255
)  # mean difference of [0, 1] between two frames that are one: coding a still one changes a little
MOVES_ABOVE = 0.5 / 255  # of the other eye meanwhile

Run = tuple[Tensor, Tensor]  # the eyes, (T, 3, H, W) each


@dataclass(frozen=True)
class CheckReport:
    """What `spatialme check` prints."""

    path: Path
    frames: int
    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        """1 where something serious was found."""
        return int(any(finding.level == "serious" for finding in self.findings))

    def lines(self) -> list[str]:
        """One line for each finding."""
        told = [f"  {finding.level:8} {finding.text}" for finding in self.findings]
        return [f"{self.path}: {self.frames} frame{'s' if self.frames != 1 else ''} looked at", *told]


def check_file(path: Path, *, format: str = "auto", frames: int = 24) -> CheckReport:
    """Look at a file; see `spatialme.evaluation.commands.check`."""
    if frames < 1:
        raise OptionError(f"--frames is {frames}, expected 1 or more")
    if format != "auto" and format not in PACKINGS:
        raise OptionError(f"--format {format} holds no two eyes in one picture; use auto or {', '.join(PACKINGS)}")
    runs = list(_runs(path, format, frames))
    return CheckReport(path, sum(len(left) for left, _ in runs), tuple(judge(measure_runs(runs))))


def measure_runs(runs: list[Run]) -> Measured:
    """Take all measures of some runs of frames."""
    firsts = [torch.cat([run[eye][:1] for run in runs]) for eye in (0, 1)]
    maps = [torch.from_numpy(sgbm(left, right))[None, None] for left, right in zip(*firsts)]
    disparity = torch.cat(maps)
    votes = [vote_eye_order(left[None], agreed) for left, agreed in zip(firsts[0], maps)]
    flow = open_flow("dis", torch.device("cpu"))
    steps, frozen_eye, repeated = _repeats(runs)
    return Measured(
        comfort=measure_comfort(*firsts, disparity=disparity),
        matched=float(disparity.isfinite().float().mean()),
        votes=Votes(sum(vote.right_order for vote in votes), sum(vote.swapped for vote in votes)),
        eye_difference=float((firsts[0] - firsts[1]).abs().mean()),
        left_flicker=_flicker([left for left, _ in runs], flow),
        right_flicker=_flicker([right for _, right in runs], flow),
        steps=steps,
        frozen_eye=frozen_eye,
        repeated=repeated,
    )


def _runs(path: Path, format: str, frames: int) -> Iterator[Run]:
    """Read `frames` frames, `RUN_FRAMES` at a time, the runs spread evenly."""
    with closing(open_source(path)) as source:
        info = source.info
    packing = find_packing(path, info.width, info.height) if format == "auto" else PACKINGS[format]
    count = 1 if info.kind == "image" else -(-frames // RUN_FRAMES)
    length = info.duration_seconds or 0.0
    starts = [length * index / count for index in range(count)] if length > frames / info.frame_rate else [0.0]
    each = frames if len(starts) == 1 else RUN_FRAMES
    for start in starts:
        with closing(open_source(path, start_seconds=start or None)) as source:
            eyes = [_reduced(packing, picture.rgb(), path) for picture in itertools.islice(source, each)]
        left, right = zip(*eyes)
        yield to_tensor(list(left), "cpu"), to_tensor(list(right), "cpu")


def _reduced(packing: Packing, packed: np.ndarray, path: Path) -> tuple[np.ndarray, np.ndarray]:
    left, right = packing.eyes(packed)
    height, width = left.shape[:2]
    if min(height, width) < 32:
        raise InputError(f"{path} holds eyes of {width} x {height}, expected 32 x 32 at least")
    if width <= MOST_WIDTH:
        return np.ascontiguousarray(left), np.ascontiguousarray(right)
    size = (MOST_WIDTH, max(1, round(height * MOST_WIDTH / width)))
    small = [np.asarray(cv2.resize(eye, size, interpolation=cv2.INTER_AREA)) for eye in (left, right)]
    return small[0], small[1]


def _flicker(eyes: list[Tensor], flow: FlowEstimator) -> float | None:
    """Mean flicker of one eye along its own motion; None without three frames in a row."""
    scores = []
    for eye in eyes:
        if len(eye) >= 3:
            sample = Sample(eye, eye, eye, flow=motion_of(eye, flow))
            scores.append(mean_over(flicker(sample, slice(None)), None))
    values = torch.cat(scores) if scores else torch.empty(0)
    return float(values.nanmean()) if bool(values.isfinite().any()) else None


def _repeats(runs: list[Run]) -> tuple[int, int, int]:
    """Steps from a frame to the next; those in which one eye alone stands still; those in which both do."""
    changes = [torch.stack([eye.diff(dim=0).abs().mean((1, 2, 3)) for eye in run]) for run in runs]
    left, right = torch.cat(changes, 1)
    still = [change < SAME_BELOW for change in (left, right)]
    moves = [change > MOVES_ABOVE for change in (left, right)]
    alone = (still[0] & moves[1]) | (still[1] & moves[0])
    return len(left), int(alone.sum()), int((still[0] & still[1]).sum())
