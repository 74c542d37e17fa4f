"""Long videos, interruption and full disks: what a person who converts overnight relies on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from spatialme.film.journal import folder_of
from tests import media

pytestmark = pytest.mark.slow

WIDTH, HEIGHT = 192, 108
SHORT, LONG = 200, 2000  # frames; encoder, decoder and allocator reach their steady state within the first 200

PEAK = """
import json, sys, spatialme
(report,) = spatialme.convert(sys.argv[1], sys.argv[2], depth="tiny", depth_size=64, quality=sys.argv[3], device="cpu")
print(json.dumps({"peak": report.peak_memory_mb, "bound": report.memory_bound_mb}))
"""


def peak_memory_mb(source: Path, output: Path, quality: str) -> float:
    """Peak memory of a conversion in a process of its own, checked against the bound that its report states."""
    words = [sys.executable, "-c", PEAK, str(source), str(output), quality]
    finished = subprocess.run(words, capture_output=True, text=True, check=True)
    memory = json.loads(finished.stdout.splitlines()[-1])
    assert memory["peak"] < memory["bound"]
    return memory["peak"]


@pytest.mark.parametrize("quality", ["draft", "fast"])
def test_a_clip_ten_times_longer_does_not_raise_the_peak(quality, tmp_path):
    short = media.write_video(tmp_path / "short.mp4", frames=SHORT, width=WIDTH, height=HEIGHT)
    long = media.write_video(tmp_path / "long.mp4", frames=LONG, width=WIDTH, height=HEIGHT)
    peak_memory_mb(short, tmp_path / "warm_up.mp4", quality)  # compiles what is not in Numba's cache yet
    first = peak_memory_mb(short, tmp_path / "short_3d.mp4", quality)
    second = peak_memory_mb(long, tmp_path / "long_3d.mp4", quality)
    kept_mb = (LONG - SHORT) * WIDTH * HEIGHT * 12 / 2**20  # what one copy of the further frames would take
    assert second < first + kept_mb / 5  # the allocator's noise


@pytest.mark.parametrize("quality", ["draft", "fast"])
def test_a_large_picture_stays_under_the_stated_bound(quality, tmp_path):
    source = media.write_video(tmp_path / "large.mp4", frames=40, width=1280, height=720)
    assert peak_memory_mb(source, tmp_path / "large_3d.mp4", quality) > 0


def start_conversion(source: Path, output: Path, **options) -> subprocess.Popen:
    words = [sys.executable, "-m", "spatialme", "convert", str(source), str(output), "--depth", "tiny"]
    return subprocess.Popen(
        [*words, "--depth-size", "64", "--quality", "draft"], stderr=subprocess.PIPE, text=True, **options
    )


def test_interruption_leaves_playable_segments_and_says_how_to_go_on(tmp_path):
    source = media.write_video(tmp_path / "film.mp4", frames=900, width=320, height=180)
    output = tmp_path / "out.mp4"
    process = start_conversion(source, output)
    deadline = time.monotonic() + 600
    while not list(folder_of(output).glob("*.json")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline, "no segment was finished in ten minutes"
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.count("\n") == 1
    assert f"finished segments of {output} are kept, the same command continues" in errors
    assert not output.exists()
    assert not list(folder_of(output).glob("*.partial"))
    segment = min(folder_of(output).glob("*.mp4"))
    frames = media.decode_all(segment)
    assert len(frames) == 250  # ten seconds
    assert frames[0].width == 640


def test_a_full_disk_ends_in_one_line_with_nothing_left(tmp_path):
    import resource

    source = media.write_video(tmp_path / "film.mp4", frames=900, width=WIDTH, height=HEIGHT)
    folder = tmp_path / "out"
    folder.mkdir()

    def no_file_over_50_kilobytes() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing then fails with an error, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    process = start_conversion(source, folder / "out.mp4", preexec_fn=no_file_over_50_kilobytes, env=environment)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2
    assert errors.count("\n") == 1, errors
    assert "out.mp4" in errors
    assert list(folder.iterdir()) == []
