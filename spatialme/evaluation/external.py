"""Finished files of other tools, judged beside our methods."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from spatialme.errors import InputError, OptionError
from spatialme.evaluation.pairs import StereoPair, fit, read_frames, split_eyes
from spatialme.evaluation.parallax import right_part
from spatialme.evaluation.protocols import Protocol
from spatialme.shots import to_tensor
from spatialme.video.files import IMAGE_SUFFIXES, VIDEO_SUFFIXES

ENDINGS = ("_right", "_sbs", "")  # of a file's name after the clip's


@dataclass(frozen=True)
class ExternalTool:
    """A tool and the folder of its results: CLIP_right.* or CLIP.* (the right view), or CLIP_sbs.* (both eyes)."""

    name: str
    folder: Path

    def frames(self, clip: str, protocol: Protocol) -> Iterator[np.ndarray]:
        """The right views of a clip that the protocol picks; raises InputError, when the first is asked for."""
        path = self._find(clip)
        for frame in read_frames(path, protocol):
            yield fit(split_eyes(frame, path)[1] if path.stem.endswith("_sbs") else frame, protocol)

    def view(self, frames: Iterator[np.ndarray], pair: StereoPair, protocol: Protocol, shift_px: int) -> Tensor:
        """The next frames as a view of `pair`: (T, 3, H, W).

        Raises:
            InputError: There are not as many, or they have another size.
        """
        found = list(frames)
        if len(found) != len(pair):
            raise InputError(
                f"{self.folder}: {pair.name} ends after {pair.first_index + len(found)} frames, expected "
                f"{pair.first_index + len(pair)} at least; make it from the whole clip"
            )
        view = right_part(to_tensor(found, "cpu"), shift_px)
        if view.shape != pair.right.shape:
            raise InputError(
                f"{self.folder}: {pair.name} is {view.shape[3]} x {view.shape[2]} under the protocol, expected "
                f"{pair.right.shape[3]} x {pair.right.shape[2]} as the real right view; make it at the clip's size"
            )
        return view

    def _find(self, clip: str) -> Path:
        for ending in ENDINGS:
            for suffix in sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES):
                path = self.folder / f"{clip}{ending}{suffix}"
                if path.is_file():
                    return path
        raise InputError(
            f"{self.folder} has no file for clip {clip}, expected {clip}_right.*, {clip}_sbs.* or {clip}.*"
        )


def parse_externals(text: str | None) -> list[ExternalTool]:
    """Read ``NAME=FOLDER,NAME=FOLDER``.

    Raises:
        OptionError: Not of that form, or no such folder.
    """
    tools = []
    for part in (text or "").split(","):
        if not part.strip():
            continue
        name, equals, folder = (piece.strip() for piece in part.partition("="))
        if not (name and equals and folder):
            raise OptionError(f"--external {part.strip()!r} is not NAME=FOLDER, such as iw3=results/iw3")
        if not Path(folder).is_dir():
            raise OptionError(f"--external {name}: {folder} is not a folder; give the one with its finished files")
        tools.append(ExternalTool(name, Path(folder)))
    return tools
