"""The journal: a hidden folder beside the output with the finished segments, and what is known of each.

```
.film_3d.mp4.spatialme/
    4f1c...-00000240.mp4     a finished segment, playable; named for the key of its pictures and its first frame
    4f1c...-00000240.json    its record, written after it: a segment without a record does not count
    plan-77ab....json        for workers: all segments of the film, found by the scan
    done.json                what was joined; stays when all else is removed
    lock                     held by the process that makes the output
```
Every file is written aside, forced to the disk and then renamed: it is whole or not there.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from spatialme.disk import appearing
from spatialme.errors import OutputError
from spatialme.film.fingerprint import content_identity
from spatialme.video.output_errors import as_output_errors
from spatialme.video.segment_file import Segment

LOGGER = logging.getLogger(__name__)

DONE = "done.json"
LOCK = "lock"
_KEY_DIGITS = 16  # of the key, in names


@dataclass(frozen=True)
class SegmentRecord:
    """What is known of a finished segment."""

    start: int  # number of its first frame
    stop: int  # one past its last
    segments: tuple[Segment, ...]  # for each of the plan's files
    shots: int  # that begin in it
    next_shot_start: int  # first frame of the shot that frame `stop` belongs to
    last: bool  # the film ends with it
    read_seconds: float  # how far the film had been read when it was finished,
    read_all: bool  # and whether that was to its end: with another --end, it might look different
    last_picture: int  # checksum of its last source picture


@dataclass(frozen=True)
class Finished:
    """What was joined, and how large it was."""

    frames: int
    shots: int
    segments: int


class Journal:
    """The finished segments of one output. Several processes may write to it; no two should make the same segment."""

    def __init__(self, output: Path, key: str, *, files: int, end_seconds: float | None) -> None:
        """Look at the journal of an output; its folder is made when the first segment comes.

        Args:
            output: The plan's first file.
            key: Of the pictures: segments with another one are left alone until the film is done.
            files: How many files the plan has.
            end_seconds: Where the film ends; None: where its file does.
        """
        self.output = output
        self.folder = folder_of(output)
        self._key = key
        self._files = files
        self._end_seconds = end_seconds
        self._suffix = output.suffix

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep others from making the same output meanwhile; a lock ends with its process, however that ends.

        Raises:
            OutputError: Somebody is making it at this moment.
        """
        with as_output_errors(self.folder):
            self.folder.mkdir(exist_ok=True)
        lock = FileLock(self.folder / LOCK, blocking=False)
        try:
            lock.acquire()
        except Timeout:
            raise OutputError(
                f"{self.output} is being made by another spatialme; wait for it, or give another name"
            ) from None
        except (OSError, NotImplementedError) as error:  # some network drives know no locks
            LOGGER.info("%s cannot be locked (%s); do not start the same conversion twice", self.folder, error)
        try:
            yield
        finally:
            lock.release()
            (self.folder / LOCK).unlink(missing_ok=True)
            self._remove_folder_if_empty()

    def segment_paths(self, start: int) -> list[Path]:
        """Names for the segment that begins with frame `start`; makes the folder."""
        with as_output_errors(self.folder):
            self.folder.mkdir(exist_ok=True)
        eyes = [""] if self._files == 1 else ["-left", "-right"]
        return [self.folder / f"{self._name(start)}{eye}{self._suffix}" for eye in eyes]

    def announce(self, start: int) -> None:
        """Drop the record of a segment that is about to be replaced, lest it vouch for another file."""
        self._record_path(start).unlink(missing_ok=True)

    def add(self, record: SegmentRecord) -> None:
        """Record a segment whose files lie under their names."""
        values = {name: getattr(record, name) for name in _NUMBERS}
        files = [
            {"name": segment.path.name, "bytes": segment.path.stat().st_size, "packets": segment.packets}
            for segment in record.segments
        ]
        write_whole(self._record_path(record.start), {**values, "end_seconds": self._end_seconds, "files": files})

    def find(self, start: int) -> SegmentRecord | None:
        """The record of the segment that begins with frame `start`, if it is finished and still holds."""
        stored = read_whole(self._record_path(start))
        try:
            if stored is None or not self._same_end(stored):
                return None
            segments = []
            for file in stored["files"]:
                path = self.folder / file["name"]
                if path.stat().st_size != file["bytes"]:
                    return None
                segments.append(Segment(path, tuple((stamp, duration) for stamp, duration in file["packets"])))
            return SegmentRecord(segments=tuple(segments), **{name: stored[name] for name in _NUMBERS})
        except (OSError, KeyError, TypeError, ValueError):
            return None

    def _same_end(self, stored: dict[str, Any]) -> bool:
        """Whether the film's end is where it was, or beyond all that the segment can depend on."""
        if stored["end_seconds"] == self._end_seconds:
            return True
        return not stored["read_all"] and (self._end_seconds is None or stored["read_seconds"] < self._end_seconds)

    def chain(self, start: int = 0) -> Iterator[SegmentRecord]:
        """The records from frame `start` on, up to the first that is missing or the film's end."""
        while (record := self.find(start)) is not None:
            yield record
            if record.last:
                return
            start = record.stop

    def count(self) -> int:
        """How many finished segments of this key there are."""
        return len(list(self.folder.glob(f"{self._key[:_KEY_DIGITS]}-*.json")))

    def write_plan(self, segments: Sequence[dict[str, Any]]) -> None:
        """Keep what the scan found."""
        with as_output_errors(self.folder):
            self.folder.mkdir(exist_ok=True)
        write_whole(self._plan_path(), {"end_seconds": self._end_seconds, "segments": list(segments)})

    def read_plan(self) -> list[dict[str, Any]] | None:
        """What the scan found for this film and end, if it was completed."""
        stored = read_whole(self._plan_path())
        return None if stored is None or stored.get("end_seconds") != self._end_seconds else stored["segments"]

    def write_finished(self, finished: Finished, join_key: str, names: Sequence[Path], files: Sequence[Path]) -> None:
        """Note what is about to appear.

        Args:
            finished: For the report of the same command given again.
            join_key: Key of all that the output depends on.
            names: Of the output's files.
            files: Where they lie yet.
        """
        outputs = [
            {"name": name.name, "content": content_identity(file)} for name, file in zip(names, files, strict=True)
        ]
        write_whole(self.folder / DONE, {"key": join_key, **vars(finished), "outputs": outputs})

    def read_finished(self, join_key: str) -> Finished | None:
        """What was joined, if it is what `join_key` stands for and lies beside the journal unchanged."""
        stored = read_whole(self.folder / DONE)
        try:
            if stored is None or stored["key"] != join_key:
                return None
            for output in stored["outputs"]:
                if content_identity(self.folder.parent / output["name"]) != output["content"]:
                    return None
            return Finished(stored["frames"], stored["shots"], stored["segments"])
        except (OSError, KeyError, TypeError):
            return None

    def has_leftovers(self) -> bool:
        """Whether there is more than the note of what was joined."""
        return self.folder.is_dir() and any(path.name not in (DONE, LOCK) for path in self.folder.iterdir())

    def tidy(self) -> None:
        """Remove everything but the note of what was joined; without one, the folder too."""
        if not self.folder.is_dir():
            return
        for path in self.folder.iterdir():
            if path.name not in (DONE, LOCK):
                path.unlink(missing_ok=True)
        self._remove_folder_if_empty()

    def forget(self) -> None:
        """Remove everything."""
        (self.folder / DONE).unlink(missing_ok=True)
        self.tidy()

    def leave(self) -> None:
        """Remove unfinished files, and the folder where nothing is left in it."""
        if not self.folder.is_dir():
            return
        for path in self.folder.glob("*.partial"):
            path.unlink(missing_ok=True)
        self._remove_folder_if_empty()

    def _remove_folder_if_empty(self) -> None:
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _name(self, start: int) -> str:
        return f"{self._key[:_KEY_DIGITS]}-{start:08d}"

    def _record_path(self, start: int) -> Path:
        return self.folder / f"{self._name(start)}.json"

    def _plan_path(self) -> Path:
        return self.folder / f"plan-{self._key[:_KEY_DIGITS]}.json"


_NUMBERS = ("start", "stop", "shots", "next_shot_start", "last", "read_seconds", "read_all", "last_picture")


def folder_of(output: Path) -> Path:
    """The journal's folder, hidden beside the output."""
    return output.with_name(f".{output.name}.spatialme")


def write_whole(path: Path, values: dict[str, Any]) -> None:
    """Write JSON that is on the disk, whole, when this returns.

    Raises:
        OutputError: The disk refuses.
    """
    with as_output_errors(path):
        with appearing(path) as partial, open(partial, "w") as file:
            json.dump(values, file, separators=(",", ":"))
            file.flush()
            os.fsync(file.fileno())
        sync_folder(path.parent)


def read_whole(path: Path) -> dict[str, Any] | None:
    """What `write_whole` wrote; None if it is not there or damaged."""
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def sync_folder(folder: Path) -> None:
    """Force names to the disk, where the system can (Windows cannot, and need not)."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
