"""What a preparation kept, what it dropped and why."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from spatialme.data.manifest import Split
from spatialme.data.mixture import LEAST_KNOWN_PSNR_DB
from spatialme.preparation.items import Dropped, Item
from spatialme.preparation.store import ItemRecord

MOST_LINES = 20  # of one sort on the terminal; the JSON has them all


@dataclass(frozen=True)
class KeptClip:
    """A clip of the manifest, and what was measured on it."""

    name: str
    source: str
    split: Split
    first_frame: int
    frames: int
    width: int
    height: int
    known_psnr_db: float | None
    measured: dict[str, Any]


@dataclass(frozen=True)
class PreparationReport:
    """What `spatialme prepare` prints, and keeps as ``report.json``."""

    output: Path
    clips: tuple[KeptClip, ...]
    dropped: tuple[Dropped, ...]
    warnings: tuple[str, ...]
    seconds: float  # of this run alone; a resumed one skips what is finished

    @classmethod
    def of(
        cls,
        output: Path,
        items: Sequence[Item],
        splits: Sequence[Split],
        records: Sequence[ItemRecord],
        *,
        dropped: Sequence[Dropped],
        seconds: float,
    ) -> PreparationReport:
        """Put the items' records together; `dropped` is what was no item to begin with."""
        clips, lost, warnings = [], list(dropped), []
        for item, split, record in zip(items, splits, records):
            for clip in record.clips:
                size = (clip.first_frame, clip.frames, clip.width, clip.height)
                name = f"{item.name}/{clip.name}"
                clips.append(KeptClip(name, item.source, split, *size, clip.known_psnr_db, clip.measured))
            for name, reason in record.dropped:
                lost.append(Dropped(f"{item.name}/{name}" if name else str(item.files[0]), reason))
            warnings += [f"{item.name}: {warning}" for warning in record.warnings]
        return cls(output, tuple(clips), tuple(lost), tuple(warnings), seconds)

    def to_json(self) -> str:
        """All of it."""
        return json.dumps({**dataclasses.asdict(self), "output": str(self.output)}, indent=1) + "\n"

    def lines(self) -> list[str]:
        """The report for a terminal."""
        frames = sum(clip.frames for clip in self.clips)
        splits = Counter(clip.split for clip in self.clips)
        told = ", ".join(f"{count} {split}" for split, count in sorted(splits.items()))
        return [
            f"{self.output}: {len(self.clips)} clips ({told}), {frames} frames, in {self.seconds:.0f} s",
            *self._measures(),
            *_shortened("dropped", [f"{one.name}: {one.reason}" for one in self.dropped]),
            *_shortened("note", list(self.warnings)),
        ]

    def _measures(self) -> list[str]:
        """What was measured on pairs, in one line and, if training will leave some out, a second."""
        fits = [clip.known_psnr_db for clip in self.clips if clip.known_psnr_db is not None]
        if not fits:
            return []
        measured = [clip.measured for clip in self.clips]
        offsets = [abs(one["vertical_px"]) for one in measured if one["vertical_px"] is not None] or [0.0]
        gains = [gain for one in measured for gain in one["exposure_gain"]]
        swapped = sum(one["swapped"] for one in measured)
        told = (
            f"  vertical offset {median(offsets):.1f} px in the median, {max(offsets):.1f} px at most; "
            f"eyes exchanged in {swapped} clips; exposure gain {min(gains):.2f} to {max(gains):.2f}; "
            f"the warp fits the right eye with {median(fits):.1f} dB in the median"
        )
        left_out = sum(
            clip.split == "train" and clip.known_psnr_db is not None and clip.known_psnr_db < LEAST_KNOWN_PSNR_DB
            for clip in self.clips
        )
        limit = f"  {left_out} training clips fit with less than {LEAST_KNOWN_PSNR_DB:.0f} dB: training leaves them out"
        return [told, limit] if left_out else [told]


def _shortened(word: str, lines: list[str]) -> list[str]:
    more = len(lines) - MOST_LINES
    return [f"  {word}: {line}" for line in lines[:MOST_LINES]] + (
        [f"  and {more} more, see report.json"] if more > 0 else []
    )
