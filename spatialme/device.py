"""Which device computes."""

from __future__ import annotations

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
