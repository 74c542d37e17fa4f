"""What a comparison found: one row per clip and method, and the pictures that show it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from spatialme.evaluation.metrics import columns
from spatialme.evaluation.protocols import Protocol

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Row:
    """One method on one clip."""

    clip: str
    method: str
    frames: int = 0  # that the method saw
    values: dict[str, float | None] = field(default_factory=dict)  # by `columns`
    seconds_per_frame: float | None = None
    peak_memory_mb: float | None = None
    error: str = ""  # one line; everything else is empty then
    group: str = ""  # of clips, that is averaged by itself: ``real stills``, ``mono-made videos`` ...

    def value(self, column: str) -> float | None:
        """Of a metric, or of what the method cost."""
        if column == "seconds_per_frame":
            return self.seconds_per_frame
        return self.peak_memory_mb if column == "peak_memory_mb" else self.values.get(column)


@dataclass(frozen=True)
class Shown:
    """One frame of a clip as every method made it."""

    clip: str
    index: int  # of the frame, as the protocol counts
    left: Picture  # (H, W, 3) RGB
    truth: Picture
    hole: NDArray[np.bool_]  # (H, W)
    views: dict[str, Picture]  # by method


@dataclass(frozen=True)
class Comparison:
    """All of it."""

    protocol: Protocol
    rows: tuple[Row, ...]
    shown: tuple[Shown, ...]
    methods: dict[str, str]  # name -> what it is
    baselines: tuple[str, ...]  # those of the methods that are not this project's results
    conditions: dict[str, str]  # what was run, where and on what

    def by_group(self) -> dict[str, Comparison]:
        """The rows of each group of clips by itself; empty where all are of one."""
        groups = sorted({row.group for row in self.rows})
        if len(groups) < 2:
            return {}
        return {
            group: replace(self, rows=tuple(row for row in self.rows if row.group == group), shown=())
            for group in groups
        }

    def common_values(self, column: str) -> dict[str, NDArray[np.float64]]:
        """Values of each method on the clips where every method that has any has one, so that means compare."""
        found: dict[str, dict[str, float]] = {}
        for row in self.rows:
            value = row.value(column)
            if value is not None:
                found.setdefault(row.method, {})[row.clip] = value
        if not found:
            return {}
        clips = sorted(set.intersection(*(set(by_clip) for by_clip in found.values())))
        return {method: np.array([by_clip[clip] for clip in clips]) for method, by_clip in found.items() if clips}


def is_better(column: str, first: float, second: float) -> bool:
    """Whether `first` is strictly the better value of a column; of what a method costs, less is better."""
    spec = columns().get(column)
    return first < second if spec is None else spec.better(first, second)


def best_of(column: str, means: dict[str, float]) -> str:
    """The method with the best mean; the first of equal ones."""
    best = next(iter(means))
    for method, mean in means.items():
        if is_better(column, mean, means[best]):
            best = method
    return best
