"""Which device computes, and with what."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from functools import lru_cache

import torch

from spatialme.errors import OptionError


def pick_device(name: str) -> torch.device:
    """Return the torch device for ``auto`` (the first GPU, else the CPU), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        OptionError: An unknown name, or a GPU that this machine does not have.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()) or (kind == "cpu" and number):
        raise OptionError(f"--device {name!r} is not known; use auto, cpu, cuda or cuda:N")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise OptionError(
            f"--device {name} is not there: {torch.cuda.device_count()} CUDA devices found; use cpu or auto"
        )
    return torch.device(name)


def computes_with_triton(device: torch.device) -> bool:
    """Whether a stage takes its Triton kernels there, and not their plain PyTorch twins."""
    return device.type == "cuda" and has_triton()


@lru_cache(maxsize=1)
def has_triton() -> bool:
    """Whether Triton is here (PyTorch brings it along on Linux), and the C compiler without which it cannot start."""
    if importlib.util.find_spec("triton") is None:
        return False
    # Triton's build for Windows brings a compiler of its own
    return sys.platform == "win32" or any(map(shutil.which, (os.environ.get("CC") or "gcc", "gcc", "clang")))
