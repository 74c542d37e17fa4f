"""Speed and memory of whole conversions: fps per stage and end to end, peak memory, as a Markdown table.

    python benchmarks/convert.py [--runs 3] [--device cpu] [--qualities draft,fast] [--heights 720,1080] [--compile]

Converts the bundled clip (scaled for heights other than its own 720) with the embedded `tiny` depth and x264 veryfast.
Every run is a process of its own, so that its peak memory is its own; one run before the first fills Numba's cache, and
with --compile PyTorch's. Figures are medians over the runs. Stages overlap in threads, so their rates do not add up to
the whole.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import av

CLIP = Path(__file__).parents[1] / "spatialme" / "assets" / "dog.mp4"

CHILD = """
import json, sys, spatialme
source, result, quality, device, compile = sys.argv[1:]
(report,) = spatialme.convert(
    source, result, quality=quality, device=device, depth="tiny", preset="veryfast", compile=bool(compile)
)
print(json.dumps({
    "frames": report.frames,
    "wall": report.wall_seconds,
    "stages": report.stage_seconds,
    "memory": report.peak_memory_mb,
    "gpu_memory": report.peak_gpu_memory_mb,
}))
"""


def scaled_clip(folder: Path, height: int) -> Path:
    """The bundled clip at another height, near-lossless."""
    with av.open(str(CLIP)) as source:
        stream = source.streams.video[0]
        if stream.height == height:
            return CLIP
        width = round(stream.width * height / stream.height / 2) * 2
        target = folder / f"dog_{height}.mp4"
        with av.open(str(target), "w") as result:
            video = result.add_stream("libx264", rate=Fraction(30), options={"crf": "12", "preset": "veryfast"})
            video.width, video.height, video.pix_fmt = width, height, "yuv420p"
            for number, frame in enumerate(source.decode(stream)):
                resized = frame.reformat(width, height, "yuv420p")
                resized.pts, resized.time_base = number, Fraction(1, 30)
                result.mux(video.encode(resized))
            result.mux(video.encode())
    return target


def run(source: Path, folder: Path, quality: str, device: str, *, compile: bool) -> dict:
    """One conversion in a process of its own."""
    result = folder / "result.mp4"
    result.unlink(missing_ok=True)
    words = [sys.executable, "-c", CHILD, str(source), str(result), quality, device, "yes" if compile else ""]
    finished = subprocess.run(words, check=True, capture_output=True, text=True)
    return json.loads(finished.stdout.splitlines()[-1])


def median_of(runs: list[dict]) -> dict:
    frames = runs[0]["frames"]
    stages = {name: frames / statistics.median(r["stages"][name] for r in runs) for name in runs[0]["stages"]}
    return {
        "fps": frames / statistics.median(r["wall"] for r in runs),
        "spread": [frames / max(r["wall"] for r in runs), frames / min(r["wall"] for r in runs)],
        "memory": max(r["memory"] for r in runs),
        "gpu_memory": runs[0]["gpu_memory"] and max(r["gpu_memory"] for r in runs),
        "stages": stages,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--qualities", default="draft,fast")
    parser.add_argument("--heights", default="720,1080")
    parser.add_argument("--compile", action="store_true", help="networks through torch.compile, the start counted in")
    options = parser.parse_args()

    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, device {options.device}\n"
    )
    print("| quality | height | fps end to end (slowest to fastest run) | peak memory | fps of each stage |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for quality in options.qualities.split(","):
            for height in map(int, options.heights.split(",")):
                source = scaled_clip(folder, height)
                how = source, folder, quality, options.device
                run(*how, compile=options.compile)
                figures = median_of([run(*how, compile=options.compile) for _ in range(options.runs)])
                slowest, fastest = figures["spread"]
                memory = f"{figures['memory']:.0f} MB"
                if figures["gpu_memory"]:
                    memory += f", GPU {figures['gpu_memory']:.0f} MB"
                stages = ", ".join(f"{stage} {rate:.1f}" for stage, rate in figures["stages"].items())
                print(
                    f"| {quality} | {height} | {figures['fps']:.2f} ({slowest:.2f} to {fastest:.2f}) "
                    f"| {memory} | {stages} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
