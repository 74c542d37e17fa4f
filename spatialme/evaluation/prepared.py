"""Clips that `spatialme prepare` has cached: stereo as it was, and 2D material made into pairs of known disparity."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spatialme.data.clip_files import RATE, read_frame
from spatialme.data.manifest import CachedClip, read_manifest
from spatialme.data.mono import REDUCTION, round_trip
from spatialme.data.sample import Budget
from spatialme.errors import InputError
from spatialme.evaluation.pairs import ClipSource, Eyes, PairFiles, fit, fit_disparity, pick_frames
from spatialme.evaluation.protocols import Protocol
from spatialme.shots import to_arrays

DEPTH_PERCENT, CONVERGENCE = 2.5, 0.5  # of a mono-made pair: what a conversion does when nothing else is asked for


@dataclass(frozen=True)
class MonoClip:
    """2D frames, each taken for the right view of a pair; see `spatialme.data.mono`."""

    clip: CachedClip

    @property
    def name(self) -> str:
        """As the manifest has it."""
        return self.clip.name

    @property
    def group(self) -> str:
        """Stills and videos apart."""
        return f"mono-made {'stills' if self.clip.frames == 1 else 'videos'}"

    def eyes(self, protocol: Protocol) -> Iterator[Eyes]:
        """Yield the pairs made of its frames, at half their size before the protocol's; raises InputError."""
        timed = ((index / RATE, index) for index in range(self.clip.frames))
        for index in pick_frames(timed, protocol):
            yield self._pair(index, protocol)

    def _pair(self, index: int, protocol: Protocol) -> Eyes:
        width, height = self.clip.width // REDUCTION, self.clip.height // REDUCTION
        whole = np.s_[:, : height * REDUCTION, : width * REDUCTION]
        frame, nearness = (read_frame(self.clip.path(name), index)[whole] for name in ("frames", "nearness"))
        pair = round_trip(frame, nearness, Budget(DEPTH_PERCENT / 100 * width, CONVERGENCE, float(width)))
        left, right = (fit(to_arrays(eye[None], np.uint8)[0], protocol) for eye in (pair.left, pair.right))
        return Eyes(left, right, fit_disparity(pair.disparity[0].numpy(), protocol))


def find_prepared(manifest: Path, protocol: Protocol) -> list[ClipSource]:
    """The clips of a manifest that belong to the protocol's splits, by name.

    Raises:
        InputError: The manifest is wrong, a file is missing, or no clip belongs to these splits.
    """
    clips = [clip for clip in read_manifest(manifest) if clip.split in protocol.splits]
    if not clips:
        raise InputError(
            f"{manifest} has no clip of split {' or '.join(protocol.splits)}; prepare some, or name other splits in a "
            "protocol of your own"
        )
    return [_source(clip) for clip in sorted(clips, key=lambda clip: clip.name)]


def _source(clip: CachedClip) -> ClipSource:
    if clip.kind == "mono":
        return MonoClip(clip)
    return PairFiles(clip.name, clip.path("left"), clip.path("right"), single=clip.frames == 1)
