"""What the encoding thread costs: processor time per frame, inside calls that let go of Python's lock and outside them.

    PYTHONPATH=. python benchmarks/encode.py [--clip CLIP] [--frames 40]

Only the time outside them is taken from the stages' thread, and only that could a process of its own give back. Eyes
come as RGB, as from a CPU, or as planes, as from a GPU. The encoder's own threads are not counted.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from spatialme import weights
from spatialme.video import colour_kernels, layout
from spatialme.video.planes import read_planes
from spatialme.video.reader import open_source
from spatialme.video.segment_file import SegmentFile
from spatialme.video.writer import OutputOptions, SegmentWriter, plan_output

WARM_UP_FRAMES = 8


def main() -> None:
    """Measure both kinds of eyes and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path, default=weights.PACKAGED / "dog.mp4")
    parser.add_argument("--frames", type=int, default=40)
    options = parser.parse_args()
    print("| eyes | encoder ms | RGB to YUV ms | copies ms | outside ms |\n|---|---|---|---|---|")
    for planar in (False, True):
        spent = measure(options.clip, options.frames, planar=planar)
        inside = [spent[name] for name in ("encode", "convert", "copy")]
        outside = spent["all"] - sum(inside)
        row = " | ".join(f"{1000 * seconds / options.frames:.2f}" for seconds in (*inside, outside))
        print(f"| {'planes' if planar else 'RGB'} | {row} |")


def measure(clip: Path, frames: int, *, planar: bool) -> Counter[str]:
    """Processor seconds of this thread, by what they went into."""
    spent: Counter[str] = Counter()

    def charged(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any, **named: Any) -> Any:
            began = time.thread_time()
            try:
                return call(*given, **named)
            finally:
                spent[name] += time.thread_time() - began

        return run

    class Stream:
        """The output's stream, its encoder timed."""

        def __init__(self, stream: Any) -> None:
            self.encode = charged("encode", stream.encode)

    add_video = SegmentFile._add_video
    with (
        tempfile.TemporaryDirectory() as folder,
        open_source(clip) as source,
        mock.patch.object(SegmentFile, "_add_video", lambda file: Stream(add_video(file))),
        mock.patch.object(colour_kernels, "rgb_to_yuv", charged("convert", colour_kernels.rgb_to_yuv)),
        mock.patch.object(layout, "_copy", charged("copy", layout._copy)),
    ):
        plan = plan_output(Path(folder) / "out.mp4", source, OutputOptions())
        writer = SegmentWriter(plan, source.info, [Path(folder) / "segment"], start_pts_offset=0)
        write = charged("all", writer.write)
        for picture in itertools.islice(source, WARM_UP_FRAMES + frames):
            eye = tuple(plane.copy() for plane in read_planes(picture.frame)) if planar else picture.rgb()
            write(picture, None, eye)
            if picture.index == WARM_UP_FRAMES - 1:
                spent.clear()
        writer.abandon()
    return spent


if __name__ == "__main__":
    main()
