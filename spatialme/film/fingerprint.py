"""Keys: hashes of all that a film's pictures, or its finished file, depend on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import av
import cv2
import numba
import numpy as np
import torch

from spatialme import __version__
from spatialme.networks import held_networks
from spatialme.pipeline import Converter
from spatialme.video.files import is_pattern, sequence_files
from spatialme.video.picture import StreamInfo
from spatialme.video.plan import OutputPlan

_ENDS_BYTES = 1 << 20
# of the plan, what changes no picture
_NOT_OF_PICTURES = ("paths", "overwrite", "keep_tags", "notes")


def picture_key(
    source: Path,
    info: StreamInfo,
    plan: OutputPlan,
    converter: Converter,
    *,
    start_seconds: float | None,
    keep_going: bool,
) -> str:
    """A hash of what the encoded pictures depend on, except where the film ends.

    Args:
        source: The input.
        info: What was found in it.
        plan: How pictures are packed and encoded.
        converter: Settings, and the networks with their weights.
        start_seconds: Where the film begins.
        keep_going: Damaged pictures are replaced.
    """
    settings = asdict(converter.settings)
    # a refiner is told by its weights and its name, wherever its file lies
    del settings["device"], settings["max_vram"], settings["refiner"]
    return _hash(
        {
            "source": source_identity(source),
            "frame_rate": info.frame_rate,
            "start_seconds": start_seconds,
            "keep_going": keep_going,
            "plan": {name: value for name, value in asdict(plan).items() if name not in _NOT_OF_PICTURES},
            "files": len(plan.paths),
            "settings": settings,
            "written": converter.written,
            "device": converter.device.type,
            "depth": (converter.depth.name, _files_identity(Path(converter.settings.depth).expanduser())),
            "weights": weights_digest(converter),
            "versions": _versions(),
        }
    )


def join_key(pictures: str, plan: OutputPlan, *, end_seconds: float | None) -> str:
    """A hash of what the finished files depend on.

    Args:
        pictures: From `picture_key`.
        plan: Names, and whether texts are kept.
        end_seconds: Where the film ends; None: where its file does.
    """
    return _hash([pictures, [path.name for path in plan.paths], plan.keep_tags, end_seconds])


def source_identity(source: Path) -> Any:
    """What tells an input from another of the same name."""
    if is_pattern(source):
        return [(number, file_identity(path)) for number, path in sequence_files(source).items()]
    return file_identity(source)


def _files_identity(path: Path) -> Any:
    """Of a depth video, depth maps or a network's folder: what tells it from another; empty for a mere name."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [(file.name, file_identity(file)) for file in files if file.is_file()]


def file_identity(path: Path) -> tuple[int, int, str]:
    """Size, time of the last change, and a hash of both ends of a file; reading all of a film would take minutes."""
    return path.stat().st_size, path.stat().st_mtime_ns, content_identity(path)


def content_identity(path: Path) -> str:
    """A hash of a file's size and both its ends."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with open(path, "rb") as file:
        digest.update(file.read(_ENDS_BYTES))
        file.seek(max(0, size - _ENDS_BYTES))
        digest.update(file.read(_ENDS_BYTES))
    return digest.hexdigest()


def weights_digest(converter: Converter) -> str:
    """A hash of every number that the converter's networks hold."""
    digest = hashlib.sha256()
    refiner = converter.refiner if converter.refiner and converter.refiner.trained else None  # else random and unused
    stages = (converter.depth, converter.flow, converter.branches, refiner)
    for network in held_networks(stages):
        for name, tensor in network.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _versions() -> dict[str, Any]:
    packages = {"torch": torch, "numba": numba, "numpy": np, "opencv": cv2, "av": av}
    return {
        "spatialme": __version__,
        **{name: package.__version__ for name, package in packages.items()},
        "ffmpeg": av.library_versions,
    }


def _hash(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()
