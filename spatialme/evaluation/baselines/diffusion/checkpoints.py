"""Where the diffusion methods' weights come from, under which licence, and how they are loaded. None is packaged.

`CHECKPOINTS` is the table. A checkpoint is the user's folder (or file), or a hub id that the user names: nothing is
downloaded unless asked for, for these files are 3 to 10 GB and most licences forbid commercial use. This is the only
module that imports `diffusers`.
"""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from spatialme.errors import OptionError, WeightsError
from spatialme.weights import cache_dir

LOGGER = logging.getLogger(__name__)

LARGE_PARAMETERS = 100_000_000  # a network beyond this takes minutes per frame on a CPU
SPECIAL_TOKENS = 2  # start and end of a text
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
_SVD_LICENCE = "Stability AI Community licence, commercial use limited"


@dataclass(frozen=True)
class Checkpoint:
    """One set of weights, as its authors publish it."""

    name: str  # of the folder beside the other weights where it is looked for
    published: str  # the hub id or the file
    licence: str

    @property
    def variable(self) -> str:
        """The environment variable that names a folder, a file or a hub id."""
        return "SPATIALME_" + self.name.upper().replace("-", "_")

    def place(self) -> str:
        """The path or hub id to load from.

        Raises:
            WeightsError: The user has named none and none lies beside the other weights, or the one named is neither.
        """
        default = cache_dir() / self.name
        chosen = os.environ.get(self.variable) or (str(default) if default.exists() else None)
        advice = f"set {self.variable} to your copy or hub id of {self.published} ({self.licence})"
        if chosen is None:
            raise WeightsError(f"the weights {self.name} are not here; {advice}")
        if Path(chosen).expanduser().exists():
            return str(Path(chosen).expanduser())
        if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", chosen):
            return chosen
        raise WeightsError(f"{self.variable} is {chosen}, neither here nor a hub id such as owner/name; {advice}")

    def files(self) -> list[Path]:
        """The files of weights at its place, in the order of their names; none of a hub's, or if it is not here."""
        try:
            place = Path(self.place())
        except WeightsError:
            return []
        if place.is_file():
            return [place]
        return sorted(path for path in place.rglob("*") if path.suffix in _WEIGHT_SUFFIXES)


CHECKPOINTS = {
    checkpoint.name: checkpoint
    for checkpoint in (
        Checkpoint("svd", "stabilityai/stable-video-diffusion-img2vid-xt", _SVD_LICENCE),
        Checkpoint("stereocrafter", "TencentARC/StereoCrafter", "academic use only, and SVD's licence"),
        Checkpoint(
            "m2svid", "m2svid_weights.pt of github.com/google-research/m2svid", f"Apache-2.0 code; {_SVD_LICENCE}"
        ),
        Checkpoint("zeroscope", "cerspense/zeroscope_v2_576w", "CC-BY-NC-4.0, non-commercial"),
        Checkpoint("stable-diffusion", "CompVis/stable-diffusion-v1-4", "CreativeML OpenRAIL-M"),
    )
}


def diffusers() -> ModuleType:
    """The package diffusers.

    Raises:
        OptionError: It is not installed, or cannot be imported.
    """
    try:
        import diffusers
    except ImportError as error:
        said = " ".join(str(error).split())
        raise OptionError(
            f"the diffusion methods need the package diffusers ({said}); run `pip install 'spatialme[diffusion]'`"
        ) from error
    return diffusers


def load_part(network: Any, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype, subfolder: str) -> Any:
    """Load one network of a checkpoint in diffusers' layout, on the device, without gradients.

    Args:
        network: A class with ``from_pretrained``.
        checkpoint: Whose place is asked for.
        device: Where it goes.
        dtype: What its weights become.
        subfolder: The network's folder inside the checkpoint; "" is the checkpoint itself.

    Raises:
        WeightsError: The checkpoint is not here, or has no such network.
    """
    place, said = checkpoint.place(), ""
    for variant in (None, "fp16"):  # published folders hold either or both
        try:
            loaded, info = network.from_pretrained(
                place, subfolder=subfolder, variant=variant, output_loading_info=True
            )
            break
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            said = said or " ".join(str(error).split())[:200]
    else:
        raise WeightsError(
            f"{place} has no {network.__name__} in {subfolder or 'it'} ({said}); expected the files of "
            f"{checkpoint.published}"
        )
    if info["missing_keys"]:  # which both libraries fill with random numbers
        missing = sorted(info["missing_keys"])
        raise WeightsError(
            f"{place} is no {network.__name__}: it lacks {missing[0]} and {len(missing) - 1} more weights; expected "
            f"the files of {checkpoint.published}"
        )
    LOGGER.info("%s: %s from %s; licence: %s", checkpoint.name, network.__name__, place, checkpoint.licence)
    return frozen(loaded, device, dtype)


def load_tokenizer(checkpoint: Checkpoint) -> Any:
    """The text model's tokenizer, out of the folder ``tokenizer``; raises as `load_part` does."""
    from transformers import CLIPTokenizer

    place, said = checkpoint.place(), "its vocabulary is empty"
    try:
        tokenizer = CLIPTokenizer.from_pretrained(place, subfolder="tokenizer")
        if tokenizer.vocab_size > SPECIAL_TOKENS:  # what transformers makes of a folder without files has just these
            return tokenizer
    except (OSError, ValueError, TypeError) as error:
        said = " ".join(str(error).split())[:200]
    raise WeightsError(f"{place} has no tokenizer ({said}); expected the files of {checkpoint.published}")


def frozen(network: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Ready for inference: on the device, no gradients. Warns when a large one lands on a CPU."""
    parameters = sum(parameter.numel() for parameter in network.parameters())
    if device.type == "cpu" and parameters > LARGE_PARAMETERS:
        LOGGER.warning(
            "%s has %.1f billion parameters and runs on the CPU: expect minutes per frame and step",
            type(network).__name__,
            parameters / 1e9,
        )
    # diffusers' own `to` warns of modules to be kept in float32, of which these networks have none
    return nn.Module.to(network, device=device, dtype=dtype).eval().requires_grad_(False)


def working_dtype(device: torch.device) -> torch.dtype:
    """Half precision on a GPU, as published; float32 elsewhere."""
    return torch.float16 if device.type == "cuda" else torch.float32
