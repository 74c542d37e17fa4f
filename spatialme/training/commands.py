"""The training commands, without importing Lightning until one runs."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from spatialme.errors import OptionError, SpatialmeError

SUBCOMMANDS = ("fit", "validate", "test")
NEEDED = ("lightning", "tensorboard")
HELP = """usage: spatialme {subcommand} --config FILE [options]

one YAML file is one runnable command, which its first line names; configs/fit holds them

options:
  --config FILE                a run's settings; of several the last one wins
  --model.NAME VALUE           change one setting of the network or its losses
  --data.NAME VALUE            change one setting of the training data
  --trainer.NAME VALUE         change one setting of Lightning's trainer, such as --trainer.max_steps 1000
  --ckpt_path FILE             the checkpoint to go on from, or to score
  --print_config               show all settings with their values, and stop
  --help-all                   explain every setting, with Lightning's own (takes seconds to load)
  -h, --help                   show this help message and exit"""


def run(subcommand: str, arguments: Sequence[str]) -> str | None:
    """Train or judge the refiner; LightningCLI parses the arguments.

    Args:
        subcommand: One of `SUBCOMMANDS`.
        arguments: All words after it; ``--help`` is answered here, quickly, and ``--help-all`` by LightningCLI.

    Returns:
        The help, when it was asked for.

    Raises:
        OptionError: Another command, or wrong arguments.
        SpatialmeError: A package that training needs is not installed.
    """
    if subcommand not in SUBCOMMANDS:
        raise OptionError(f"command {subcommand!r} is not known; the training commands are {', '.join(SUBCOMMANDS)}")
    if {"-h", "--help"} & set(arguments):
        return HELP.format(subcommand=subcommand)
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise SpatialmeError(f"training needs {' and '.join(missing)}; run `pip install {' '.join(missing)}`")
    from spatialme.training.cli import run_cli

    run_cli(subcommand, ["--help" if word == "--help-all" else word for word in arguments])
    return None


def export(checkpoint: Path, output: Path) -> str:
    """Write what a checkpoint has trained as weights that `convert` can use, in half precision.

    Args:
        checkpoint: A .ckpt of `spatialme fit`.
        output: The .safetensors file; for Depth Anything a folder.

    Raises:
        WeightsError: The checkpoint cannot be read, or is none of ours.
    """
    from spatialme.training.export import export_weights

    return export_weights(checkpoint, output)
