"""Other tools, judged beside our methods by the files that they have made."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol as Interface

from torch import Tensor

from spatialme.errors import InputError, OptionError
from spatialme.evaluation.pairs import Array, ClipSource, StereoPair, fit, read_frames, split_eyes
from spatialme.evaluation.parallax import right_part
from spatialme.evaluation.protocols import Protocol
from spatialme.shots import to_tensor
from spatialme.video.files import IMAGE_SUFFIXES, VIDEO_SUFFIXES

ENDINGS = ("_right", "_sbs", "")  # of a file's name after the clip's


class Tool(Interface):
    """Makes right views outside this program."""

    @property
    def name(self) -> str:
        """Of its rows."""

    @property
    def summary(self) -> str:
        """What the report says of it."""

    def frames(self, source: ClipSource, protocol: Protocol) -> Iterator[Array]:
        """The right views of a clip that the protocol picks; raises SpatialmeError, when the first is asked for."""

    def seconds(self, clip: str) -> float | None:
        """What a clip has taken, once its frames have been asked for; None where nobody knows."""

    def peak_memory_mb(self, clip: str) -> float | None:
        """The most memory that the tool has held for a clip; None where nobody knows."""


@dataclass(frozen=True)
class ExternalTool:
    """A tool and the folder of its results: CLIP_right.* or CLIP.* (the right view), or CLIP_sbs.* (both eyes)."""

    name: str
    folder: Path

    @property
    def summary(self) -> str:
        """Where its files lie."""
        return f"files of {self.folder}"

    def frames(self, source: ClipSource, protocol: Protocol) -> Iterator[Array]:
        """Yield the frames of its file."""
        path = find_result(self.folder, source.name)
        for frame in right_frames(path, protocol):
            yield fit(frame, protocol)

    def seconds(self, clip: str) -> None:
        """Nobody knows."""

    def peak_memory_mb(self, clip: str) -> None:
        """Nobody knows."""


def find_result(folder: Path, clip: str) -> Path:
    """The file that a tool made of a clip.

    Raises:
        InputError: There is none.
    """
    for ending in ENDINGS:
        for suffix in sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES):
            path = folder / f"{clip}{ending}{suffix}"
            if path.is_file():
                return path
    raise InputError(f"{folder} has no file for clip {clip}, expected {clip}_right.*, {clip}_sbs.* or {clip}.*")


def right_frames(path: Path, protocol: Protocol) -> Iterator[Array]:
    """The right views in a tool's file that a protocol picks, at the file's own size."""
    for frame in read_frames(path, protocol):
        yield split_eyes(frame, path)[1] if path.stem.endswith("_sbs") else frame


def next_view(tool: Tool, frames: Iterator[Array], pair: StereoPair, shift_px: int) -> Tensor:
    """The next of a tool's frames as a view of `pair`: (T, 3, H, W).

    Args:
        tool: For the messages.
        frames: Of the whole clip, those before `pair` taken.
        pair: Cut to what both eyes show.
        shift_px: By which its eyes are shifted against each other.

    Raises:
        InputError: There are not as many, or they have another size.
    """
    found = list(itertools.islice(frames, len(pair)))
    if len(found) != len(pair):
        raise InputError(
            f"{tool.name}: {pair.name} ends after {pair.first_index + len(found)} frames, expected "
            f"{pair.first_index + len(pair)} at least; make it from the whole clip"
        )
    view = right_part(to_tensor(found, "cpu"), shift_px)
    if view.shape != pair.right.shape:
        raise InputError(
            f"{tool.name}: {pair.name} is {view.shape[3]} x {view.shape[2]} under the protocol, expected "
            f"{pair.right.shape[3]} x {pair.right.shape[2]} as the real right view; make it at the clip's size"
        )
    return view


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
