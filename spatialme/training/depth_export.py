"""From a depth checkpoint to weights that `--depth` takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from spatialme.disk import appearing
from spatialme.errors import OptionError
from spatialme.training import lora

NETWORK_PREFIX = "network."
REPORT_KEY = "spatialme_training"  # metadata of the written file: steps and validation figures, as JSON


def export_depth(content: dict[str, Any], about: dict[str, Any], output: Path) -> str:
    """Write a checkpoint's network: `tiny` and `dino` as one file in half precision, `anything` as a folder.

    Args:
        content: A checkpoint of the task depth.
        about: What it says about itself.
        output: The .safetensors file, or for Depth Anything the folder that transformers and --depth read.

    Raises:
        OptionError: A name that does not fit the network.
    """
    state = {
        name.removeprefix(NETWORK_PREFIX): value.contiguous()
        for name, value in content["state_dict"].items()
        if name.startswith(NETWORK_PREFIX) and not name.endswith("num_batches_tracked")
    }
    network, report = about["depth"], {REPORT_KEY: json.dumps({"steps": about["steps"], "scores": about["scores"]})}
    if network == "anything":
        _write_folder(lora.merged(state), about["settings"]["config"], output)
    else:
        if output.suffix != ".safetensors":
            raise OptionError(f"{output} is no name for weights of {network}; let it end in .safetensors")
        with appearing(output) as partial:
            save_file({name: value.half() for name, value in state.items()}, partial, report)
    return f"{output}: depth network {network} after {about['steps']} steps"


def _write_folder(state: dict[str, Tensor], config: dict[str, Any], output: Path) -> None:
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation

    if output.suffix or output.is_file():
        raise OptionError(f"{output} is a file's name; give a folder, as transformers keeps networks in folders")
    model = DepthAnythingForDepthEstimation(DepthAnythingConfig.from_dict(config))
    model.load_state_dict(state)
    model.save_pretrained(output)
