"""Texts and chapters of a source, as its copy carries them; and the part of its time that is kept."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from spatialme.video.codecs import Container

# written anew by every muxer, or statistics of the old file
_STALE = re.compile(
    r"major_brand|minor_version|compatible_brands|encoder|vendor_id|stereo_mode|alpha_mode|source_id|duration|bps|"
    r"number_of_\w+|_statistics_\w+",
    re.IGNORECASE,
)
# a player cannot do without these, even where texts about the film are to be left out
_STRUCTURAL = re.compile(r"language|handler_name|filename|mimetype|timecode", re.IGNORECASE)


@dataclass(frozen=True)
class Span:
    """Which part of the source's time is kept, and by how much everything moves; in seconds on the source's clock."""

    start: Fraction | None = None  # None: from the beginning
    end: Fraction | None = None  # None: to the end
    shift: Fraction = Fraction(0)  # subtracted from every time


def kept_tags(tags: Mapping[str, str], container: Container, span: Span, *, keep_texts: bool) -> dict[str, str]:
    """The tags of a file or stream that its copy should carry.

    Args:
        tags: The source's.
        container: Of the copy.
        span: The part that is kept; a time code belongs to the first frame and goes with it.
        keep_texts: False leaves out titles, dates, places and all else that is about the film.
    """
    kept = {}
    for key, value in tags.items():
        stem = key.split("-")[0]  # mkvmerge writes BPS-eng and the like
        if _STALE.fullmatch(stem) or (key == "timecode" and span.start is not None):
            continue
        if container == "matroska" and key.lower() == "handler_name":
            continue  # MP4's name for the kind of a track
        if keep_texts or _STRUCTURAL.fullmatch(key):
            # FFmpeg reads a track's name in MP4 as `name` but writes it from `title`
            kept["title" if key == "name" and "title" not in tags else key] = value
    return kept


def kept_chapters(chapters: list[Any], span: Span) -> list[Any]:
    """The chapters inside the part that is kept, cut to it and moved with it."""
    kept = []
    for chapter in chapters:
        base = chapter["time_base"] or Fraction(1, 1000)
        start, end = chapter["start"] * base, chapter["end"] * base
        start = start if span.start is None else max(start, span.start)
        end = end if span.end is None else min(end, span.end)
        if start < end:
            moved = {"start": round((start - span.shift) / base), "end": round((end - span.shift) / base)}
            kept.append({**chapter, **moved, "time_base": base})
    return kept
