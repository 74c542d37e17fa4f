"""Other tools, run clip by clip: `--command NAME="tool {left} {output}"`.

left eye as the protocol wants it -> lossless file -> the tool, without a shell -> its file, judged as `--external` does
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from spatialme.data.clip_files import FrameFile
from spatialme.errors import InputError, OptionError, SpatialmeError
from spatialme.evaluation.external import find_result, right_frames
from spatialme.evaluation.pairs import Array, ClipSource, file_stem
from spatialme.evaluation.peak import PeakMemory, watched_program
from spatialme.evaluation.protocols import Protocol

SEPARATOR = ";"  # between commands, a word of its own
OUTPUTS = ("{output}", "{output_sbs}", "{output_folder}")
AS_IT_IS = Protocol(frames=None)  # what a tool made of a protocol's frames needs no protocol any more


class CommandTool:
    """A tool that is started for every clip; its files and what it says stay in its folder."""

    def __init__(self, name: str, words: tuple[str, ...], folder: Path, *, timeout_seconds: float):
        """Describe the tool; nothing is run.

        Args:
            name: Of its rows.
            words: The command, with ``{left}`` and one of `OUTPUTS`, which stand for files or a folder.
            folder: Where they lie.
            timeout_seconds: For one clip.
        """
        self.name = name
        self.summary = f"made by {shlex.join(words)}"
        self._words, self._folder, self._timeout_seconds = words, folder, timeout_seconds
        self._seconds: dict[str, float] = {}
        self._peak_memory_mb: dict[str, float] = {}

    def seconds(self, clip: str) -> float | None:
        """From the tool's start to its end."""
        return self._seconds.get(clip)

    def peak_memory_mb(self, clip: str) -> float | None:
        """Of the tool and all that it has started."""
        return self._peak_memory_mb.get(clip)

    def frames(self, source: ClipSource, protocol: Protocol) -> Iterator[Array]:
        """Run the tool and yield what it made.

        Raises:
            SpatialmeError: It failed, took too long, or left no file.
        """
        folder = self._folder / file_stem(source.name)
        shutil.rmtree(folder, ignore_errors=True)
        result = folder / "result"
        result.mkdir(parents=True)
        left = _write_left(folder, source, protocol)
        kind = ".png" if left.suffix == ".png" else ".mp4"
        places = {
            "left": left,
            "output": result / f"clip_right{kind}",
            "output_sbs": result / f"clip_sbs{kind}",
            "output_folder": result,
        }
        start = time.perf_counter()
        peak = self._run([_filled_in(word, places) for word in self._words], folder / "log.txt")
        self._seconds[source.name] = time.perf_counter() - start
        self._peak_memory_mb[source.name] = peak.megabytes
        yield from right_frames(find_result(result, "clip"), AS_IT_IS)

    def _run(self, words: list[str], log: Path) -> PeakMemory:
        with log.open("wb") as said:
            try:
                process = subprocess.Popen(
                    words, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
                )
            except OSError as error:
                raise SpatialmeError(f"{self.name}: {words[0]} cannot be started: {error.strerror}") from error
            try:
                with watched_program(process.pid) as peak:
                    code = process.wait(self._timeout_seconds)
            except subprocess.TimeoutExpired:
                raise SpatialmeError(
                    f"{self.name} took more than {self._timeout_seconds:g} s and was ended; give --command-timeout"
                ) from None
            finally:
                if process.returncode is None:
                    _end_group(process)
        if code != 0:
            raise SpatialmeError(f"{self.name} ended with exit code {code}: {_last_line(log)}")
        return peak


def parse_commands(text: str | None, folder: Path, *, timeout_seconds: float) -> list[CommandTool]:
    """Read ``NAME=tool {left} {output}``, several with ``;`` between, as words of a shell without a shell's powers.

    Raises:
        OptionError: Not of that form, no such program, or a timeout that is not above 0.
    """
    if not timeout_seconds > 0:
        raise OptionError(f"--command-timeout is {timeout_seconds:g}, expected more than 0 seconds")
    return [_parse(words, folder, timeout_seconds) for words in _commands(text or "")]


def _commands(text: str) -> Iterator[list[str]]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise OptionError(f"--command {text!r} cannot be read as words ({error}); close its quotes") from None
    while words:
        end = words.index(SEPARATOR) if SEPARATOR in words else len(words)
        if words[:end]:
            yield words[:end]
        words = words[end + 1 :]


def _parse(words: list[str], folder: Path, timeout_seconds: float) -> CommandTool:
    name, equals, program = words[0].partition("=")
    said = " ".join(words)
    if not (name == file_stem(name) and equals and program):
        raise OptionError(f'--command {said!r} is not NAME="tool {{left}} {{output}}"')
    given = [place for place in OUTPUTS if place in said]
    if "{left}" not in said or len(given) != 1:
        raise OptionError(f"--command {name} must name {{left}} and one of {', '.join(OUTPUTS)}, got {said!r}")
    if shutil.which(program) is None:
        raise OptionError(f"--command {name}: {program} is not a program on this machine; install it or give its path")
    return CommandTool(name, (program, *words[1:]), folder / name, timeout_seconds=timeout_seconds)


def _filled_in(word: str, places: dict[str, Path]) -> str:
    for name, path in places.items():
        word = word.replace(f"{{{name}}}", str(path))
    return word


def _write_left(folder: Path, source: ClipSource, protocol: Protocol) -> Path:
    """The left eye as a PNG, or of several frames as FFV1 in Matroska."""
    video = folder / "left.mkv"
    count = 0
    with FrameFile(video) as file:
        for eyes in source.eyes(protocol):
            file.write(_eight_bits(eyes.left))
            count, only = count + 1, eyes.left
    if count == 0:
        raise InputError(f"{source.name} has no frame")
    if count > 1:
        return video
    video.unlink()
    picture = folder / "left.png"
    cv2.imwrite(str(picture), np.ascontiguousarray(only[..., ::-1]))
    return picture


def _eight_bits(picture: Array) -> Array:
    return (picture >> 8).astype(np.uint8) if picture.dtype == np.uint16 else picture


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End the tool and whatever it has started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else f"it said nothing; see {log}"
