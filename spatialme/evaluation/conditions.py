"""What a table was made with: machine, versions, weights."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
import torch

from spatialme import __version__
from spatialme.disk import sha256
from spatialme.evaluation.features import ALEXNET_FILE


def conditions(*, device: torch.device, matcher: str, weights: Mapping[str, Sequence[Path]]) -> dict[str, str]:
    """Lines for a report.

    Args:
        device: Where the methods ran.
        matcher: What gave the disparity.
        weights: Files of networks that took part, by name; several files are hashed as one.
    """
    gpu = f", {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ", no GPU"
    alexnet = resources.files("spatialme").joinpath("assets").joinpath(ALEXNET_FILE).read_bytes()
    hashes = {"alexnet (for LPIPS)": hashlib.sha256(alexnet).hexdigest()}
    hashes |= {name: sha256(*paths) for name, paths in weights.items()}
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "machine": f"{platform.platform()}, {platform.machine()}, {os.cpu_count()} CPUs{gpu}",
        "versions": f"spatialme {__version__}, Python {platform.python_version()}, torch {torch.__version__}, "
        f"NumPy {np.__version__}, OpenCV {cv2.__version__}",
        "disparity": f"{matcher}, of the real pair, the same for every method",
        "weights (sha256)": "; ".join(f"{name} {digest[:12]}" for name, digest in hashes.items()),
        "seconds": "from frames and disparity to finished views: forward warp, flow where needed, and the method; "
        "without matching, reading and writing",
        "memory": ("peak of the GPU" if device.type == "cuda" else "peak of the whole process while the method ran")
        + "; of a command, all its processes on the CPU",
    }
