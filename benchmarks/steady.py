"""Cost per frame and peak memory against a film's length, start-up apart, as a Markdown table.

    python benchmarks/steady.py [--lengths 100,1000,10000] [--runs 3] [--quality draft] [--device cpu] [--depth-size 64]

The film is the bundled clip at 320x180, played forth and back as often as it takes. Every run is a process of its own,
so that its peak memory is its own. It converts 30 frames first: that and the imports are its start-up. Runs of all
lengths take turns, so that a machine that gets busy is so for all. Figures are medians. Processor time is that of all
threads; it says more than the clock where other programs run, too.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av

CLIP = Path(__file__).parents[1] / "spatialme" / "assets" / "dog.mp4"
WIDTH, HEIGHT, RATE = 320, 180, 30
WARM_UP_FRAMES = 30

CHILD = """
import time
began = time.perf_counter()
import json, sys, spatialme
source, folder, warm_up, quality, device, size = sys.argv[1:]
options = dict(quality=quality, device=device, depth="tiny", depth_size=int(size), preset="veryfast")
spatialme.convert(warm_up, folder + "/warm_up_3d.mp4", **options)
start_up = time.perf_counter() - began
before = time.process_time()
(report,) = spatialme.convert(source, folder + "/film_3d.mp4", **options)
print(json.dumps({
    "frames": report.frames,
    "start_up": start_up,
    "wall": report.wall_seconds,
    "processor": time.process_time() - before,
    "memory": report.peak_memory_mb,
}))
"""


def write_film(path: Path, frames: int) -> Path:
    """The bundled clip in small, forth and back until there are so many frames."""
    with av.open(str(path), "w") as result:
        video = result.add_stream("libx264", rate=Fraction(RATE), options={"crf": "18", "preset": "veryfast"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number, frame in enumerate(itertools.islice(_forth_and_back(), frames)):
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            result.mux(video.encode(frame))
        result.mux(video.encode())
    return path


def _forth_and_back() -> Iterator[av.VideoFrame]:
    with av.open(str(CLIP)) as source:
        pictures = [frame.reformat(WIDTH, HEIGHT, "yuv420p").to_ndarray() for frame in source.decode(video=0)]
    for picture in itertools.cycle(pictures + pictures[-2:0:-1]):
        yield av.VideoFrame.from_ndarray(picture, "yuv420p")


def run(source: Path, warm_up: Path, options: argparse.Namespace) -> dict:
    """One conversion in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-c", CHILD, str(source), folder, str(warm_up)]
        words += [options.quality, options.device, str(options.depth_size)]
        finished = subprocess.run(words, check=True, capture_output=True, text=True)
    return json.loads(finished.stdout.splitlines()[-1])


def row(frames: int, runs: list[dict], longest: list[dict]) -> str:
    """One line of the table; ratios are to the longest film's cost."""
    memory = [each["memory"] for each in runs]
    start_up = statistics.median(each["start_up"] for each in runs)
    costs = [
        f"{cost_ms(runs, kind):.2f} | {cost_ms(runs, kind) / cost_ms(longest, kind):.3f}"
        for kind in ("wall", "processor")
    ]
    return f"| {frames} | {start_up:.1f} | {' | '.join(costs)} | {min(memory):.0f} to {max(memory):.0f} |"


def cost_ms(runs: list[dict], kind: str) -> float:
    """Median milliseconds per frame, by the clock or of the processor."""
    return statistics.median(1000 * each[kind] / each["frames"] for each in runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", default="100,1000,10000")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quality", default="draft")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--depth-size", type=int, default=64)
    options = parser.parse_args()

    lengths = [int(length) for length in options.lengths.split(",")]
    with tempfile.TemporaryDirectory() as name:
        films = {length: write_film(Path(name) / f"{length}.mp4", length) for length in lengths}
        warm_up = write_film(Path(name) / "warm_up.mp4", WARM_UP_FRAMES)
        load_before = os.getloadavg()[0]
        runs: dict[int, list[dict]] = {length: [] for length in lengths}
        for _ in range(options.runs):
            for length, film in films.items():
                runs[length].append(run(film, warm_up, options))
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, load {load_before:.1f} before the first run, Python "
        f"{platform.python_version()}, {options.device}, {options.quality}, tiny at {options.depth_size} px, "
        f"{WIDTH}x{HEIGHT}, {options.runs} runs\n"
    )
    print("| frames | start-up, s | ms per frame | ratio | processor ms per frame | ratio | peak memory, MB |")
    print("|---|---|---|---|---|---|---|")
    for length in lengths:
        print(row(length, runs[length], runs[lengths[-1]]))


if __name__ == "__main__":
    main()
