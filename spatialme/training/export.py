"""From a training checkpoint to a file of weights; does without Lightning."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from spatialme.disk import appearing
from spatialme.errors import WeightsError
from spatialme.refine import Refiner
from spatialme.refine.mhfu import MHFU, MHFUSize
from spatialme.training.depth_export import export_depth

CHECKPOINT_KEY = "spatialme"  # what a checkpoint says about itself, in plain types
REPORT_KEY = "spatialme_training"  # metadata of the written file: steps and validation figures, as JSON
PREFIX = "average."


def export_weights(checkpoint: Path, output: Path) -> str:
    """Write the averaged refiner, or the depth network, in half precision, with steps and figures in the metadata.

    Returns:
        A line that says what was written.

    Raises:
        WeightsError: The checkpoint cannot be read, or is none of ours.
    """
    content = _read(checkpoint)
    about = content[CHECKPOINT_KEY]
    if "depth" in about:
        return export_depth(content, about, output)
    network = MHFU(MHFUSize(tuple(about["channels"]), about["hole_input"]))
    state = {
        name.removeprefix(PREFIX): value for name, value in content["state_dict"].items() if name.startswith(PREFIX)
    }
    network.load_state_dict(state)
    Refiner(network.half(), trained=True).save(output)
    _add_metadata(output, {REPORT_KEY: json.dumps({"steps": about["steps"], "scores": about["scores"]})})
    return f"{output}: refiner of {about['channels']} channels after {about['steps']} steps"


def _read(checkpoint: Path) -> dict[str, Any]:
    try:
        content = torch.load(checkpoint, "cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise WeightsError(
            f"{checkpoint} cannot be read as a checkpoint ({type(error).__name__}); give a .ckpt of spatialme fit"
        ) from None
    if not isinstance(content, dict) or CHECKPOINT_KEY not in content:
        raise WeightsError(
            f"{checkpoint} is no checkpoint of a refiner or a depth network; give a .ckpt of spatialme fit"
        )
    return content


def _add_metadata(path: Path, added: dict[str, str]) -> None:
    with safe_open(path, framework="pt") as file:
        metadata = {**(file.metadata() or {}), **added}
    with appearing(path) as partial:
        save_file(load_file(path), partial, metadata)
