"""The command line: one typed function per command, imported only when its command is chosen.

A command's signature is its options and its docstring its help. What a function returns is printed: each item as its
``lines()`` if it has them, else as text.
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import FunctionType
from typing import Any, get_type_hints

from spatialme import __version__
from spatialme.errors import OptionError, SpatialmeError


@dataclass(frozen=True)
class Command:
    """Where a command's function lives, and its line in the overview."""

    module: str
    function: str
    summary: str
    parses_itself: bool = False  # takes its own name and the words after it
    may_follow: tuple[str, ...] = ()  # optional parameters given by their place, without a hyphenated name


COMMANDS = {
    "convert": Command("spatialme.conversion", "convert", "turn a video, image, folder or sequence into stereo 3D"),
    "preview": Command(
        "spatialme.preview",
        "preview",
        "the hardest shots on a sheet, and time and size of the job",
        may_follow=("output",),
    ),
    "doctor": Command("spatialme.doctor", "doctor", "what this machine has, what it lacks, what speed to expect"),
    "compare": Command("spatialme.evaluation.commands", "compare", "judge methods against real stereo clips"),
    "check": Command("spatialme.evaluation.commands", "check", "find what hurts in a finished stereo file"),
    "prepare": Command("spatialme.preparation.commands", "prepare", "make training clips of stereo or 2D recordings"),
    "prepare-depth": Command("spatialme.training.depth_commands", "prepare_depth", "make training data for depth"),
    "fit": Command("spatialme.training.commands", "run", "train a network: --config configs/fit/...", True),
    "validate": Command("spatialme.training.commands", "run", "score a training checkpoint on validation data", True),
    "test": Command("spatialme.training.commands", "run", "score a training checkpoint on test data", True),
    "refine-maps": Command("spatialme.refine_maps", "refine_maps", "picture of how the refiner fuses one frame"),
    "weights list": Command("spatialme.weights", "list_weights", "the networks' weights: licence, size, place"),
    "weights fetch": Command("spatialme.weights", "fetch", "download weights and check them"),
    "weights verify": Command("spatialme.weights", "verify", "check downloaded weights against their hashes"),
    "weights export": Command("spatialme.training.commands", "export", "a training checkpoint as weights for convert"),
}

FAILED = 2
INTERRUPTED = 130  # what a shell reports for Ctrl-C


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code: its result's own or 0, 2 for what the user can mend, 130 for Ctrl-C."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(format="spatialme: %(message)s", level=logging.WARNING)
    logging.getLogger("spatialme").setLevel(logging.INFO)
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if words[0] == "--version":
        print(f"spatialme {__version__}")
        return 0
    try:
        name, rest = _choose(words)
        result = _run(name, rest)
        _show(result)
    except SpatialmeError as error:
        print(f"spatialme: {' '.join(str(error).split())}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt as stop:
        print(f"spatialme: {stop or 'interrupted'}", file=sys.stderr)
        return INTERRUPTED
    return getattr(result, "exit_code", 0)


def _overview() -> str:
    width = max(map(len, COMMANDS))
    return "\n".join(
        [
            f"spatialme {__version__}: any 2D video into stereo 3D",
            "",
            "usage: spatialme COMMAND [options]     (spatialme COMMAND --help lists them)",
            "",
            *(f"  {name:{width}}  {command.summary}" for name, command in COMMANDS.items()),
            "",
            "for example: spatialme convert film.mp4 film_Full_SBS.mp4",
        ]
    )


def _choose(words: list[str]) -> tuple[str, list[str]]:
    """Split off the command's name, the longest that matches."""
    for length in (2, 1):
        name = " ".join(words[:length])
        if name in COMMANDS:
            return name, words[length:]
    known = ", ".join(COMMANDS)
    raise OptionError(f"command {words[0]!r} is not known; the commands are {known}")


def _run(name: str, words: list[str]) -> Any:
    from jsonargparse import ArgumentError

    command = COMMANDS[name]
    function = getattr(import_module(command.module), command.function)
    if command.parses_itself:
        return function(name, words)
    parser = _parser(name)
    parser.add_function_arguments(_without_result(function), as_group=False, as_positional=True)
    try:
        values = parser.parse_args(words)
    except ArgumentError as error:
        raise OptionError(f"{_plain(str(error))}; see spatialme {name} --help") from None
    return function(**values.as_dict())


def _parser(name: str) -> Any:
    from jsonargparse import ArgumentParser

    may_follow = COMMANDS[name].may_follow

    class Parser(ArgumentParser):
        """Options are written with hyphens, and a switch needs no value."""

        def add_argument(self, *names: str, **settings: Any) -> Any:
            if names[0].removeprefix("--") in may_follow:
                names, settings["nargs"] = (names[0].removeprefix("--"),), "?"
            if not names[0].startswith("--print"):  # jsonargparse's own, which it looks up by name
                names = tuple(option.replace("_", "-") if option.startswith("--") else option for option in names)
            if settings.get("type") is bool and settings.get("default") is False:
                del settings["type"]
                settings["action"] = "store_true"
            if isinstance(settings.get("help"), str):
                settings["help"] = re.sub(r"%(?!\()", "%%", settings["help"])  # %05d is not one of argparse's own
            return super().add_argument(*names, **settings)

    return Parser(prog=f"spatialme {name}", exit_on_error=False, formatter_class=argparse.ArgumentDefaultsHelpFormatter)


def _without_result(function: Any) -> Any:
    """The function for jsonargparse to look at: with the types of what it takes, and none of what it gives.

    To resolve the type of a result jsonargparse runs the module's TYPE_CHECKING imports: seconds of torch for a --help.
    """
    taken = {name: hint for name, hint in function.__annotations__.items() if name != "return"}
    shown = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)
    shown.__doc__, shown.__module__ = function.__doc__, function.__module__
    shown.__kwdefaults__, shown.__annotations__ = function.__kwdefaults__, taken
    shown.__annotations__ = get_type_hints(shown)
    return shown


def _plain(message: str) -> str:
    """Say jsonargparse's complaint in the words of the command line."""
    message = " ".join(message.split())
    message = re.sub(r'Parser key "(\w+)":', lambda found: f"--{found[1].replace('_', '-')}:", message)
    message = re.sub(r"typing\.(?:Union|Optional)\[(.*)\]", r"\1", message)
    return re.sub(r"(?:a |an )?typing\.Literal\[([^]]*)\]", r"one of \1", message).rstrip(".")


def _show(result: Any) -> None:
    if result is None:
        return
    one = isinstance(result, str) or hasattr(result, "lines") or not isinstance(result, Iterable)
    items = [result] if one else result
    for item in items:
        print("\n".join(item.lines()) if hasattr(item, "lines") else item)
