"""The training commands, without importing Lightning until one runs."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from spatialme.errors import OptionError, SpatialmeError

SUBCOMMANDS = ("fit", "validate", "test")
NEEDED = ("lightning", "tensorboard")


def run(subcommand: str, arguments: Sequence[str]) -> None:
    """Train or judge the refiner; LightningCLI parses the arguments, ``--help`` included.

    Args:
        subcommand: One of `SUBCOMMANDS`.
        arguments: All words after it.

    Raises:
        OptionError: Another command, or wrong arguments.
        SpatialmeError: A package that training needs is not installed.
    """
    if subcommand not in SUBCOMMANDS:
        raise OptionError(f"command {subcommand!r} is not known; the training commands are {', '.join(SUBCOMMANDS)}")
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise SpatialmeError(f"training needs {' and '.join(missing)}; run `pip install {' '.join(missing)}`")
    from spatialme.training.cli import run_cli

    run_cli(subcommand, arguments)


def export(checkpoint: Path, output: Path) -> str:
    """Write the refiner of a checkpoint as a safetensors file that `convert` can use, in half precision.

    Args:
        checkpoint: A .ckpt of `spatialme fit`.
        output: The .safetensors file.

    Raises:
        WeightsError: The checkpoint cannot be read, or is none of ours.
    """
    from spatialme.training.export import export_weights

    return export_weights(checkpoint, output)
