"""What a conversion did, and where its time went."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import psutil

if TYPE_CHECKING:  # `spatialme convert --help` looks up the report's type, and shall not wait for torch
    from torch import Tensor

    from spatialme.depth.flicker import FlickerMeter

Item = TypeVar("Item")


class StageClock:
    """Seconds per stage of a chain of generators, each charged only for its own work and not for those it pulls from.

    Works across threads; stages that run side by side may add up to more than the wall time. Work queued on a GPU is
    charged to the stage that waits for it.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._local = threading.local()
        self._lock = threading.Lock()

    def timed(self, name: str, items: Iterable[Item]) -> Iterator[Item]:
        """Pass the items on, charging the time to produce them to `name`."""
        source = iter(items)
        while True:
            with self.charge(name):
                try:
                    item = next(source)
                except StopIteration:
                    return
            yield item
            del item  # a clip is large: it shall not be held while the next one is made

    @contextlib.contextmanager
    def charge(self, name: str) -> Iterator[None]:
        """Charge the enclosed work to `name`, less what is charged to other stages inside it."""
        inner: list[float] = getattr(self._local, "inner", None) or []
        self._local.inner = inner
        inner.append(0.0)
        start = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - start
            own = elapsed - inner.pop()
            if inner:
                inner[-1] += elapsed
            with self._lock:
                self.seconds[name] = self.seconds.get(name, 0.0) + own


@dataclass(frozen=True)
class TallyParts:
    """A tally's numbers, fit to be sent."""

    seconds: dict[str, float]  # per stage
    hole_sum: float
    views: int


@dataclass
class Tally:
    """What has passed through a conversion so far."""

    clock: StageClock = field(default_factory=StageClock)
    frames: int = 0
    shots: int = 0
    depth_flicker: FlickerMeter | None = None  # of the first stream on
    _hole_sum: Tensor | float = 0.0  # stays on the device: reading it would make the host wait for the GPU
    _views: int = 0
    _unfinite: Tensor | None = None  # likewise

    def watch_disparity(self, disparity: Tensor) -> None:
        """Note whether a clip's disparity, (T, 1, H, W), is finite; on a CPU the warp looks by itself."""
        if disparity.device.type != "cpu":
            import torch

            # the extremes are NaN if any value is
            unfinite = ~torch.isfinite(torch.stack(disparity.aminmax())).all()
            self._unfinite = unfinite if self._unfinite is None else self._unfinite | unfinite

    def check_disparity(self) -> None:
        """Raise ValueError if a disparity watched so far is not finite; call it where one has waited for the GPU."""
        if self._unfinite is not None and bool(self._unfinite):
            from spatialme.warp.surface import NotFiniteError

            raise NotFiniteError

    def count_holes(self, hole: Tensor) -> None:
        """Take note of a synthesised clip's hole mask, (T, 1, H, W)."""
        self._hole_sum = self._hole_sum + hole.float().mean(dim=(1, 2, 3)).sum()
        self._views += len(hole)

    def parts(self) -> TallyParts:
        """What another process needs to add this to its own count."""
        return TallyParts(dict(self.clock.seconds), float(self._hole_sum), self._views)

    def add(self, parts: TallyParts) -> None:
        """Add what another process has counted."""
        for name, seconds in parts.seconds.items():
            self.clock.seconds[name] = self.clock.seconds.get(name, 0.0) + seconds
        self._hole_sum = self._hole_sum + parts.hole_sum
        self._views += parts.views

    @property
    def hole_share(self) -> float:
        """Mean share of the synthesised pixels that no source pixel reached."""
        return float(self._hole_sum) / max(1, self._views)


@dataclass
class ConversionReport:
    """The closing report of one conversion."""

    outputs: list[Path]
    frames: int
    shots: int
    wall_seconds: float
    stage_seconds: dict[str, float]
    hole_share: float  # mean share of pixels that no source pixel reached
    peak_memory_mb: float  # of the process; and of the GPU, when there is one
    memory_bound_mb: float  # what it may take on the CPU by count of frames, whatever the video's length
    peak_gpu_memory_mb: float | None
    depth: str  # the depth estimator's name
    written: str  # what the synthesised eye shows: a branch's name, or how the branches were fused
    segments: int = 0  # that a video consists of
    segments_reused: int = 0  # of an earlier run that was broken off,
    frames_reused: int = 0  # and their frames
    already_done: bool = False  # by the same command, before
    depth_flicker_percent: float | None = None  # of the depth's range, where nothing moves; None if all did
    notes: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The report as lines for a terminal."""
        names = ", ".join(str(path) for path in self.outputs)
        if self.already_done:
            return [f"{names}: done already by the same command ({self.frames} frames); --overwrite makes it again"]
        shots = f"{self.shots} shot" + ("s" if self.shots != 1 else "")
        frames = f"{self.frames} frame" + ("s" if self.frames != 1 else "")
        rate = (self.frames - self.frames_reused) / self.wall_seconds if self.wall_seconds > 0 else 0.0
        memory = f"peak memory {self.peak_memory_mb:.0f} MB of at most {self.memory_bound_mb:.0f}"
        if self.peak_gpu_memory_mb is not None:
            memory += f", GPU {self.peak_gpu_memory_mb:.0f} MB"
        stages = sorted(self.stage_seconds.items(), key=lambda pair: -pair[1])
        reused = f"{self.segments_reused} of {self.segments} segments are from an earlier run"
        holes = f"holes {100 * self.hole_share:.2f} % of the picture"
        return [
            f"{names}: {frames} in {shots}, {self.wall_seconds:.1f} s ({rate:.2f} fps), {memory}",
            *([f"  {reused}; what follows is about the others"] if self.segments_reused else []),
            f"  depth {self.depth}{self._flicker()}; {self.written}; {holes}",
            "  seconds per stage (stages overlap): " + ", ".join(f"{name} {seconds:.1f}" for name, seconds in stages),
            *(f"  note: {note}" for note in self.notes),
        ]

    def _flicker(self) -> str:
        if self.depth_flicker_percent is None:
            return ""
        return f", flicker {self.depth_flicker_percent:.2f} % of its range where nothing moves"


def peak_memory_mb() -> float:
    """The most memory that this process has held, in MiB."""
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset / 2**20
    if sys.platform == "linux":
        # not getrusage, which counts what the process that started this one held then
        (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 2**10
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # bytes on macOS
