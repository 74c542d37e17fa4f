"""LightningCLI for `fit`, `validate` and `test`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import yaml
from jsonargparse import ArgumentError
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

from spatialme.errors import OptionError
from spatialme.training.callbacks import Panels
from spatialme.training.data_module import StereoData
from spatialme.training.depth_data import DepthData
from spatialme.training.depth_module import DepthModule
from spatialme.training.depth_panels import DepthPanels
from spatialme.training.module import StereoModule

TRAINER_DEFAULTS = {
    "max_epochs": -1,  # runs end by max_steps; the samples never do
    "use_distributed_sampler": False,  # samples are numbered by process already
    "check_val_every_n_epoch": None,  # validations are counted in steps
}


@dataclass(frozen=True)
class Task:
    """What is trained."""

    module: type[pl.LightningModule]
    data: type[pl.LightningDataModule]
    panels: type[Callback]


TASKS = {"refiner": Task(StereoModule, StereoData, Panels), "depth": Task(DepthModule, DepthData, DepthPanels)}


class FitCLI(LightningCLI):
    """The three commands that have a trainer; one YAML file is one runnable command."""

    task = "refiner"  # a name of `TASKS`

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Command by the arguments that it does not take."""
        without = {"model", "dataloaders", "datamodule"}
        return {
            "fit": {"model", "train_dataloaders", "val_dataloaders", "datamodule"},
            "validate": without,
            "test": without,
        }

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The callbacks that every run has; `checkpoint` and `panels` configure them."""
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.add_argument("--task", choices=list(TASKS), default="refiner", help="what is trained")
        parser.add_lightning_class_args(TASKS[self.task].panels, "panels")
        parser.set_defaults({"checkpoint.save_last": True})

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Like LightningCLI's, without its warning that `sys.argv` has the same words."""
        self.config = parser.parse_args(args)  # type: ignore[arg-type]


def run_cli(subcommand: str, arguments: Sequence[str]) -> FitCLI:
    """Run one command.

    Raises:
        OptionError: An option or a configuration file is wrong.
    """
    strict: dict[str, Any] = {"exit_on_error": False}
    task = find_task(arguments)
    try:
        return type("FitCLI", (FitCLI,), {"task": task})(
            TASKS[task].module,
            TASKS[task].data,
            args=[subcommand, *arguments],
            trainer_defaults=TRAINER_DEFAULTS,
            save_config_kwargs={"overwrite": True},
            parser_kwargs={"prog": "spatialme", **strict, **{name: strict for name in FitCLI.subcommands()}},
        )
    except ArgumentError as error:
        reason = " ".join(str(error).split())
        raise OptionError(f"{reason}; see spatialme {subcommand} --help") from None


def find_task(arguments: Sequence[str]) -> str:
    """What the words, or else the configuration files that they name, say is trained; the refiner if nothing does.

    It decides which arguments there are, and so must be known before they are parsed.
    """
    found = "refiner"
    words = [part for word in arguments for part in (word.split("=", 1) if word.startswith("--") else [word])]
    for option, value in pairwise(words):
        if option in ("--config", "-c") and Path(value).is_file():
            content = yaml.safe_load(Path(value).read_text())
            found = content.get("task", found) if isinstance(content, dict) else found
        if option == "--task":
            found = value
    return found if found in TASKS else "refiner"  # the parser will say what is wrong with another
