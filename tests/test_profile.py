"""`--profile`: times and calls by stage, the trace, and that a conversion is not changed by it."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
import torch

import spatialme
from spatialme import profiling
from spatialme.errors import OptionError, OutputError
from spatialme.profiling import Profile, StageCost, TracingClock, table
from tests import media

SMALL = {"depth": "tiny", "depth_size": 64, "quality": "draft", "device": "cpu"}
MOMENT = 0.03  # seconds; sleeping is exact to a few milliseconds


class FakeEvent:
    """A CUDA event on a GPU whose work takes no time but what `work_ms` says has been queued."""

    work_ms = 0.0

    def __init__(self, enable_timing: bool):
        assert enable_timing

    def record(self, stream: object) -> None:
        self.at_ms = FakeEvent.work_ms

    def elapsed_time(self, other: FakeEvent) -> float:
        return other.at_ms - self.at_ms


def test_each_stage_is_charged_its_own_time_and_calls():
    clock = TracingClock(torch.device("cpu"))
    for _ in range(2):
        with clock.charge("outer"):
            with clock.charge("inner"):
                time.sleep(2 * MOMENT)
            time.sleep(MOMENT)
    inner, outer = clock.costs()
    assert (inner.name, inner.calls, outer.calls) == ("inner", 2, 2)
    assert inner.seconds == pytest.approx(4 * MOMENT, rel=0.5)
    assert outer.seconds < inner.seconds  # less what is inside
    assert inner.gpu_seconds is None


def test_gpu_time_is_read_from_events_once_at_the_end(monkeypatch):
    waits = []
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: waits.append(device))
    clock = TracingClock(torch.device("cuda", 0))
    with clock.charge("outer"):
        FakeEvent.work_ms += 500
        with clock.charge("inner"):
            FakeEvent.work_ms += 2000
    assert waits == []
    assert {cost.name: cost.gpu_seconds for cost in clock.costs()} == {"outer": 0.5, "inner": 2.0}
    assert len(waits) == 1


def test_the_trace_has_a_bar_per_call_and_a_row_per_thread(tmp_path):
    profile = Profile(tmp_path / "trace.json")
    with profile:
        clock = profile.tally("film.mp4", torch.device("cpu")).clock
        with clock.charge("outer"):
            time.sleep(MOMENT)
            with clock.charge("inner"):
                time.sleep(MOMENT)
        thread = threading.Thread(target=lambda: list(clock.timed("decode", [1, 2])), name="decoder")
        thread.start()
        thread.join()
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    names = {event["args"]["name"]: event.get("tid") for event in events if event["ph"] == "M"}
    assert set(names) == {"film.mp4", "MainThread", "decoder"}
    bars = [event for event in events if event["ph"] == "X"]
    assert [bar["name"] for bar in bars] == ["inner", "outer", "decode", "decode", "decode"]  # the last finds the end
    assert {bar["tid"] for bar in bars[2:]} == {names["decoder"]}
    inner, outer = bars[:2]
    assert outer["ts"] + 1e6 * MOMENT <= inner["ts"] + 1  # microseconds, rounded
    assert inner["ts"] + inner["dur"] <= outer["ts"] + outer["dur"] + 1


def test_a_long_run_keeps_counting_when_the_trace_is_full(monkeypatch):
    monkeypatch.setattr(profiling, "MOST_SPANS", 3)
    clock = TracingClock(torch.device("cpu"))
    for _ in range(5):
        with clock.charge("stage"):
            pass
    assert (len(clock.spans), clock.calls) == (3, {"stage": 5})


def test_the_table_tells_shares_and_milliseconds_per_frame():
    rows = table([StageCost("depth", 10, 3.0, None), StageCost("warp", 5, 1.0, 0.25)], frames=100)
    assert rows[1].split() == ["depth", "3.00", "75.0%", "10", "30.00", "-"]
    assert rows[2].split() == ["warp", "1.00", "25.0%", "5", "10.00", "0.25"]


def test_a_profiled_conversion_gives_the_same_file_and_a_trace_of_its_stages(tmp_path, caplog):
    clip = media.write_video(tmp_path / "clip.mkv", frames=5)
    caplog.set_level("INFO", logger="spatialme")
    spatialme.convert(clip, tmp_path / "plain.mkv", codec="ffv1", **SMALL)
    (report,) = spatialme.convert(clip, tmp_path / "traced.mkv", codec="ffv1", profile=tmp_path / "trace.json", **SMALL)
    plain, traced = (media.decode_all(tmp_path / name) for name in ("plain.mkv", "traced.mkv"))
    assert [bytes(frame.planes[0]) for frame in plain] == [bytes(frame.planes[0]) for frame in traced]
    trace = json.loads((tmp_path / "trace.json").read_text())
    bars = {event["name"] for event in trace["traceEvents"] if event["ph"] == "X"}
    assert {"decode", "shots", "depth", "warp", "poly", "refine", "encode"} <= bars
    assert set(report.stage_seconds) == bars
    assert any(row.startswith("depth") for row in trace["otherData"]["clip.mkv"])
    assert "ms/frame" in caplog.text


def interrupted_run(path: Path) -> None:
    with Profile(path) as profile, profile.tally("film.mp4", torch.device("cpu")).clock.charge("depth"):
        raise KeyboardInterrupt


def test_a_run_that_is_interrupted_leaves_the_trace_of_what_it_did(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        interrupted_run(tmp_path / "trace.json")
    assert "depth" in (tmp_path / "trace.json").read_text()


def test_nothing_is_written_when_nothing_was_converted(tmp_path):
    with Profile(tmp_path / "trace.json"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_trace_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(OptionError, match=r"ends with \.json"):
        Profile(tmp_path / "film.mp4")
    with pytest.raises(OutputError, match="is not an existing folder"):
        Profile(tmp_path / "nowhere" / "trace.json")
    (tmp_path / "taken.json").mkdir()
    with pytest.raises(OutputError, match="cannot be written"), Profile(Path(tmp_path / "taken.json")) as profile:
        profile.tally("film.mp4", torch.device("cpu"))
    assert [path.name for path in tmp_path.iterdir()] == ["taken.json"]


def test_a_profile_of_several_processes_is_refused(tmp_path):
    clip = media.write_video(tmp_path / "clip.mkv", frames=1)
    with pytest.raises(OptionError, match="--profile looks at one process"):
        spatialme.convert(clip, tmp_path / "out.mkv", devices="cpu,cpu", profile=tmp_path / "trace.json")
