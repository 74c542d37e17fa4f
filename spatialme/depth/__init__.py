"""Depth: who tells how near every pixel is. `open_depth` finds an estimator by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from spatialme import weights
from spatialme.depth.names import is_array
from spatialme.errors import InputError, OptionError, WeightsError
from spatialme.types import Clip, DepthClip

HUB_IDS = {
    "depth-anything-v2-small": "depth-anything/Depth-Anything-V2-Small-hf",
    "depth-anything-v2-base": "depth-anything/Depth-Anything-V2-Base-hf",
    "depth-anything-v2-large": "depth-anything/Depth-Anything-V2-Large-hf",
}
BEST_FREE = "depth-anything-v2-small"  # what `auto` wants: the best under a free licence
CLEAN_TINY = "tiny-clean"  # trained only on what allows commercial use
DINO_FILE = "dino.safetensors"  # in the weights folder
VIDEO_SUFFIXES = {".mkv", ".mp4", ".mov", ".avi", ".webm", ".m4v"}
CHECKPOINT_SUFFIXES = {".pth", ".pt"}  # of the authors' own files
AUTO_TIMEOUT_SECONDS = 4.0  # `auto` does not keep an offline user waiting


class DepthEstimator(Protocol):
    """A stage that adds nearness to clips."""

    name: str  # for the report and the depth video's tags
    lookback: int  # frames of its shot that a frame's nearness may depend on, before it
    lookahead: int  # and after it
    notices: list[str]  # what the user should know about the choice, one line each

    def stream(self, clips: Iterable[Clip]) -> Iterator[DepthClip]:
        """Yield every clip with its nearness, one for one and in order."""
        ...


def open_depth(
    name_or_path: str,
    *,
    device: torch.device | str = "cpu",
    input_size: int | None = None,
    licence: weights.Licence = "any",
) -> DepthEstimator:
    """Find a depth estimator.

    Args:
        name_or_path: ``auto`` (Depth Anything V2 Small if it is here or can be downloaded, else ``tiny``), ``tiny``
            (``tiny-clean``: trained only on what allows commercial use; taken where ``tiny`` is refused),
            ``dino`` (the teacher of ``tiny``, where its file is here), ``depth-anything-v2-small``, ``-base`` or
            ``-large``, a depth video, an array of depth maps (``.npz``, ``.npy``; larger = nearer, or ``:distance``
            behind it), Depth Anything V2's own ``.pth``, or a folder or hub id (``owner/name``) of transformers.
        device: Where the network runs.
        input_size: Short side of what the network sees, in pixels; None = as published.
        licence: ``commercial`` refuses weights that forbid commercial use.

    Raises:
        OptionError: No such name, or a nonsense size.
        InputError: A depth video or array that cannot be read.
        WeightsError: Weights that are not here, not allowed, or damaged.
    """
    if input_size is not None and not 64 <= input_size <= 4096:
        raise OptionError(f"depth input size {input_size} is out of range; use 64 to 4096, or leave it out")
    device = torch.device(device)
    path = Path(name_or_path).expanduser()
    if name_or_path == "auto":
        return _open_auto(device, input_size, licence)
    if name_or_path in ("tiny", CLEAN_TINY):
        return _open_tiny(name_or_path, device, input_size, licence)
    if name_or_path == "dino":
        return _open_own(_find_dino(licence), device, input_size)
    if path.suffix.lower() == ".safetensors":
        return _open_own(path, device, input_size)
    if name_or_path in HUB_IDS:
        _check_licence(name_or_path, licence)
        source = _locate(name_or_path, weights.TIMEOUT_SECONDS)
        return _open_anything(source, name_or_path, device, input_size)
    if path.suffix.lower() in VIDEO_SUFFIXES or is_array(name_or_path):
        return _open_file(name_or_path, input_size)
    if path.suffix.lower() in CHECKPOINT_SUFFIXES or path.is_dir() or re.fullmatch(r"[\w.-]+/[\w.-]+", name_or_path):
        return _open_anything(path if path.exists() else name_or_path, path.name, device, input_size)
    raise OptionError(
        f"depth {name_or_path!r} is not known; use auto, tiny, dino, {', '.join(HUB_IDS)}, a depth video, a .npz or "
        ".npy of depth maps, a .pth, or a transformers folder"
    )


def _open_auto(device: torch.device, input_size: int | None, licence: weights.Licence) -> DepthEstimator:
    """The best that is here or comes within seconds, else the packaged network and a word about it."""
    try:
        source = _locate(BEST_FREE, AUTO_TIMEOUT_SECONDS)
    except WeightsError:
        estimator = _open_tiny("tiny", device, input_size, licence)
        estimator.notices.append(
            f"depth by the small packaged network, as {BEST_FREE} is neither here nor reachable: softer edges, and "
            f"walls and crowds may be wrong; run `spatialme weights fetch {BEST_FREE}` for the better one"
        )
        return estimator
    return _open_anything(source, BEST_FREE, device, input_size)


def _find_dino(licence: weights.Licence) -> Path:
    if licence == "commercial":
        raise WeightsError(
            "dino may not be used commercially unless it was trained on nothing else; if so, give its file's path"
        )
    path = weights.cache_dir() / DINO_FILE
    if not path.is_file():
        raise WeightsError(
            f"dino's weights are not here; make them as docs/depth.md says and put {DINO_FILE} into {path.parent}, or "
            "use --depth tiny"
        )
    return path


def _open_own(path: Path, device: torch.device, input_size: int | None) -> DepthEstimator:
    """A file of `spatialme weights export`: `tiny` trained anew, or `dino`."""
    from spatialme.depth.dino import DinoNetwork, load_dino
    from spatialme.depth.network import NetworkDepth
    from spatialme.depth.tiny import TinyNetwork, is_tiny, load_file

    if is_tiny(path):
        return NetworkDepth(TinyNetwork(device=device, short_side=input_size, model=load_file(path), name=path.name))
    notices = [f"{path.name} on a CPU is several times slower than --depth tiny"] if device.type == "cpu" else []
    return NetworkDepth(DinoNetwork(load_dino(path), device=device, short_side=input_size), notices)


def find_anything(name_or_path: str) -> nn.Module:
    """Depth Anything V2's bare network: a name of `HUB_IDS`, a .pth, a transformers folder or a hub id.

    Raises:
        WeightsError: Weights that are not here or damaged.
    """
    from spatialme.depth import anything

    if name_or_path in HUB_IDS:
        return anything.load(_locate(name_or_path, weights.TIMEOUT_SECONDS))
    return anything.load(Path(name_or_path).expanduser() if Path(name_or_path).expanduser().exists() else name_or_path)


def _open_tiny(name: str, device: torch.device, input_size: int | None, licence: weights.Licence) -> DepthEstimator:
    """The packaged network; under a commercial licence the weights that were trained on nothing that forbids it."""
    from spatialme.depth.network import NetworkDepth
    from spatialme.depth.tiny import TinyNetwork, load_file

    if not weights.allowed(name, licence):
        name = CLEAN_TINY
    path = weights.find(name)
    if path is None:
        raise WeightsError(f"{weights.WEIGHTS[name].file_name} is missing from the package; install it again")
    return NetworkDepth(TinyNetwork(device=device, short_side=input_size, model=load_file(path), name=name))


def _locate(name: str, timeout_seconds: float) -> str | Path:
    """A published network's checkpoint in our cache, its id if the hub's cache has it, else a fresh download."""
    path = weights.find(name)
    if path is None and _in_hub_cache(HUB_IDS[name]):
        return HUB_IDS[name]
    return path or weights.fetch(name, timeout_seconds=timeout_seconds)


def _open_anything(source: str | Path, name: str, device: torch.device, input_size: int | None) -> DepthEstimator:
    from spatialme.depth import anything
    from spatialme.depth.network import NetworkDepth

    model = anything.load(source)
    network = anything.AnythingNetwork(model, name=name, device=device, short_side=input_size)
    notices = []
    if device.type == "cpu":
        notices.append(
            f"{name} on a CPU takes seconds a frame; --depth tiny is far faster, --depth-size makes it smaller"
        )
    return NetworkDepth(network, notices)


def _open_file(name_or_path: str, input_size: int | None) -> DepthEstimator:
    from spatialme.depth.arrays import DepthArray
    from spatialme.depth.sidecar import DepthFile, DepthVideo

    path = Path(name_or_path).expanduser()
    file: DepthFile
    if is_array(name_or_path):
        file = DepthArray(name_or_path)
    elif path.is_file():
        file = DepthVideo(path)
    else:
        raise InputError(f"depth video {path} does not exist; give a file made by --save-depth")
    if input_size is not None:
        file.notices.append(f"the depth input size {input_size} does nothing with a {file.what}")
    return file


def _check_licence(name: str, licence: weights.Licence) -> None:
    if not weights.allowed(name, licence):
        raise WeightsError(
            f"{name} may not be used commercially ({weights.WEIGHTS[name].licence}); use --depth {BEST_FREE} or a "
            "depth video"
        )


def _in_hub_cache(hub_id: str) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return all(isinstance(try_to_load_from_cache(hub_id, file), str) for file in ("config.json", "model.safetensors"))
