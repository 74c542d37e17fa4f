"""What a conversion would cost: a few frames are converted and written as they would be, timed and weighed."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from spatialme.film.eyes import converted
from spatialme.pipeline import Converter
from spatialme.report import Tally
from spatialme.video.picture import SourceKind, StreamInfo
from spatialme.video.reader import Source
from spatialme.video.writer import OutputOptions, StereoWriter, plan_output

WARM_UP_FRAMES = 2  # compile, load and fill caches; not counted
MEASURED_SECONDS = 3.0  # what the counted run may take, about; it has FEWEST to MOST frames
FEWEST_FRAMES, MOST_FRAMES = 9, 48  # nine: two groups of B pictures and the key picture, for the size
KEY_INTERVAL = 250  # frames from one key picture to the next, x264's and x265's default: most have them no denser


@dataclass(frozen=True)
class Cost:
    """What one frame takes, measured on a few."""

    seconds_per_frame: float
    bytes_per_frame: float
    frames: int  # measured


@dataclass
class _Excerpt:
    """A source as the writer sees it, less sound and subtitles: copying those would read the file from its start."""

    path: Path
    kind: SourceKind
    info: StreamInfo
    first_pts: int
    start_pts_offset: int
    origin_seconds: Fraction


def measure_cost(open_excerpt: Callable[[], Source], converter: Converter, options: OutputOptions) -> Cost:
    """Convert the beginning of an excerpt twice: once to warm up, once against the clock.

    Args:
        open_excerpt: Opens the source where the excerpt begins; called twice.
        converter: With the settings to be judged.
        options: How the result is written.

    Raises:
        SpatialmeError: The excerpt cannot be read, or not written with these options.
    """
    with tempfile.TemporaryDirectory(prefix="spatialme_") as folder:
        warm_up = _convert(open_excerpt, converter, options, Path(folder) / "warm_up", WARM_UP_FRAMES)
        affordable = round(MEASURED_SECONDS / warm_up.seconds_per_frame)
        frames = min(MOST_FRAMES, max(FEWEST_FRAMES, affordable))
        return _convert(open_excerpt, converter, options, Path(folder) / "measured", frames)


def duration_text(seconds: float) -> str:
    """A duration for people: ``40 s``, ``12 min``, ``3 h 05 min``."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def size_text(size_bytes: float) -> str:
    """A file size for people, in decimal units as disks are sold."""
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.1f} MB"


def _convert(
    open_excerpt: Callable[[], Source], converter: Converter, options: OutputOptions, stem: Path, most_frames: int
) -> Cost:
    began = time.perf_counter()
    with open_excerpt() as source:
        excerpt = _without_other_streams(source)
        output = stem.with_suffix(".png" if source.kind == "image" else ".mkv")
        plan = plan_output(output, excerpt, options)
        with StereoWriter(plan, excerpt) as writer:
            pictures = itertools.islice(source, most_frames)
            with closing(converted(converter, Tally(), pictures, source.info, plan)) as eyes:
                for clip in eyes:
                    for frame in clip.frames():
                        writer.write(*frame)
            written = writer.finish()
    seconds = time.perf_counter() - began
    size = written.bytes if source.kind == "image" else sum(map(_video_bytes_per_frame, written.outputs))
    return Cost(seconds / written.frames, size, written.frames)


def _without_other_streams(source: Source) -> _Excerpt:
    kind: SourceKind = "image" if source.kind == "image" else "sequence"
    return _Excerpt(source.path, kind, source.info, source.first_pts, source.start_pts_offset, source.origin_seconds)


def _video_bytes_per_frame(path: Path) -> float:
    """Bytes of a frame in a film as long as one likes: key pictures, of which an excerpt has too many, count less."""
    with av.open(str(path)) as container:
        packets = [(packet.size, packet.is_keyframe) for packet in container.demux(video=0) if packet.size]
    keys = [size for size, key in packets if key]
    others = [size for size, key in packets if not key]
    if not others or not keys:
        return sum(size for size, _ in packets) / len(packets)
    return float(np.mean(others) + (np.mean(keys) - np.mean(others)) / KEY_INTERVAL)
