"""`--profile FILE`: where the time of a conversion goes, as a table and as a trace that browsers draw.

The trace is Chrome's (open it in chrome://tracing or ui.perfetto.dev): one bar per call of a stage, one row per thread.
On a GPU, events are queued around each stage's work and read once at the end, so that nothing waits for the device
meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from spatialme.disk import write_text
from spatialme.errors import OptionError, OutputError
from spatialme.report import StageClock, Tally

LOGGER = logging.getLogger(__name__)

MOST_SPANS = 200_000  # calls kept for the trace, some 30 MB; later ones count in the table only


@dataclass
class Span:
    """One call of a stage."""

    name: str
    thread: str
    start_seconds: float  # since the clock was made
    seconds: float = 0.0
    parent: Span | None = None  # the call in which it happened
    events: tuple[Any, Any] | None = None  # CUDA events before and after, on a GPU


@dataclass(frozen=True)
class StageCost:
    """One row of the table."""

    name: str
    calls: int
    seconds: float  # own, on the host
    gpu_seconds: float | None  # own, between events on the GPU's stream, waiting included


class TracingClock(StageClock):
    """A stage clock that also counts calls and keeps each as a span. Memory: MOST_SPANS spans."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.calls: dict[str, int] = {}
        self.spans: list[Span] = []
        self._device = device
        self._began = time.perf_counter()
        self._open = threading.local()
        self._counting = threading.Lock()

    @contextlib.contextmanager
    def charge(self, name: str) -> Iterator[None]:
        """See `StageClock.charge`."""
        stack: list[Span] = getattr(self._open, "stack", None) or []
        self._open.stack = stack
        span = Span(name, threading.current_thread().name, self._now(), parent=stack[-1] if stack else None)
        before = self._event()
        stack.append(span)
        try:
            with super().charge(name):
                yield
        finally:
            stack.pop()
            span.seconds = self._now() - span.start_seconds
            after = self._event()
            span.events = None if before is None else (before, after)
            with self._counting:
                self.calls[name] = self.calls.get(name, 0) + 1
                if len(self.spans) < MOST_SPANS:
                    self.spans.append(span)

    def costs(self) -> list[StageCost]:
        """The stages, dearest first; waits for the GPU once."""
        gpu = self._gpu_seconds()
        rows = [StageCost(name, self.calls[name], self.seconds[name], gpu.get(name)) for name in self.seconds]
        return sorted(rows, key=lambda row: -row.seconds)

    def _gpu_seconds(self) -> dict[str, float]:
        """GPU time by stage, less that of the stages inside."""
        if self._device.type != "cuda":
            return {}
        torch.cuda.synchronize(self._device)
        seconds: dict[str, float] = {}
        for span in self.spans:
            assert span.events is not None, "there is a GPU"
            elapsed = span.events[0].elapsed_time(span.events[1]) / 1000
            seconds[span.name] = seconds.get(span.name, 0.0) + elapsed
            if span.parent is not None:
                seconds[span.parent.name] = seconds.get(span.parent.name, 0.0) - elapsed
        return seconds

    def _event(self) -> Any:
        if self._device.type != "cuda":
            return None
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def _now(self) -> float:
        return time.perf_counter() - self._began


@dataclass
class Profile:
    """Collects what the conversions inside its `with` block cost, and writes it to a file, however the block ends."""

    path: Path
    _clocks: list[tuple[str, TracingClock, Tally]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.path.suffix.lower() != ".json":
            raise OptionError(f"--profile {self.path} is a trace in JSON; give a name that ends with .json")
        if not self.path.parent.is_dir():
            raise OutputError(f"--profile {self.path}: {self.path.parent} is not an existing folder; create it")

    def tally(self, title: str, device: torch.device) -> Tally:
        """A tally whose clock takes notes, for the conversion of that title."""
        clock = TracingClock(device)
        tally = Tally(clock)
        self._clocks.append((title, clock, tally))
        return tally

    def __enter__(self) -> Profile:
        return self

    def __exit__(self, *_: object) -> None:
        if self._clocks:
            self._finish()

    def _finish(self) -> None:
        """Write the trace, and the tables to the log."""
        trace: dict[str, Any] = {"displayTimeUnit": "ms", "traceEvents": [], "otherData": {}}
        for number, (title, clock, tally) in enumerate(self._clocks):
            rows = table(clock.costs(), tally.frames)
            LOGGER.info("%s\n%s", title, "\n".join(rows))
            trace["otherData"][title] = rows
            trace["traceEvents"] += _trace_events(number, title, clock)
        try:
            write_text(self.path, json.dumps(trace))
        except OSError as error:
            raise OutputError(f"--profile {self.path} cannot be written ({error.strerror}); name another") from error


def table(costs: list[StageCost], frames: int) -> list[str]:
    """The stages as lines: own seconds, calls, milliseconds per frame."""
    lines = [f"{'stage':14} {'seconds':>9} {'share':>6} {'calls':>8} {'ms/frame':>9} {'GPU s':>8}"]
    whole = sum(cost.seconds for cost in costs) or 1.0
    for cost in costs:
        gpu = "-" if cost.gpu_seconds is None else f"{cost.gpu_seconds:.2f}"
        per_frame = 1000 * cost.seconds / max(1, frames)
        share = 100 * cost.seconds / whole
        lines.append(f"{cost.name:14} {cost.seconds:9.2f} {share:5.1f}% {cost.calls:8d} {per_frame:9.2f} {gpu:>8}")
    return lines


def _trace_events(process: int, title: str, clock: TracingClock) -> list[dict[str, Any]]:
    """Chrome's "complete" events in microseconds; file and threads get their names by "metadata" events."""
    threads = {name: number for number, name in enumerate(dict.fromkeys(span.thread for span in clock.spans))}
    events: list[dict[str, Any]] = [{"ph": "M", "name": "process_name", "pid": process, "args": {"name": title}}]
    for name, number in threads.items():
        events.append({"ph": "M", "name": "thread_name", "pid": process, "tid": number, "args": {"name": name}})
    for span in clock.spans:
        events.append(
            {
                "ph": "X",
                "name": span.name,
                "pid": process,
                "tid": threads[span.thread],
                "ts": round(span.start_seconds * 1e6, 1),
                "dur": round(span.seconds * 1e6, 1),
            }
        )
    return events
