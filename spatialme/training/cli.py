"""LightningCLI for `fit`, `validate` and `test`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jsonargparse import ArgumentError
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

from spatialme.errors import OptionError
from spatialme.training.callbacks import Panels
from spatialme.training.data_module import StereoData
from spatialme.training.module import StereoModule

TRAINER_DEFAULTS = {
    "max_epochs": -1,  # runs end by max_steps; the samples never do
    "use_distributed_sampler": False,  # samples are numbered by process already
    "check_val_every_n_epoch": None,  # validations are counted in steps
}


class FitCLI(LightningCLI):
    """The three commands that have a trainer; one YAML file is one runnable command."""

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
        parser.add_lightning_class_args(Panels, "panels")
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
    try:
        return FitCLI(
            StereoModule,
            StereoData,
            args=[subcommand, *arguments],
            trainer_defaults=TRAINER_DEFAULTS,
            save_config_kwargs={"overwrite": True},
            parser_kwargs={"prog": "spatialme", **strict, **{name: strict for name in FitCLI.subcommands()}},
        )
    except ArgumentError as error:
        reason = " ".join(str(error).split())
        raise OptionError(f"{reason}; see spatialme {subcommand} --help") from None
