"""From three fillings to one finished view."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from spatialme.errors import OptionError, WeightsError
from spatialme.refine.compose import compose
from spatialme.refine.mhfu import MHFU, SIZES, MHFUSize, initial_blend
from spatialme.settings import RefineMode
from spatialme.types import WarpedClip

__all__ = ["Refiner", "compose"]

METADATA_KEY = "spatialme_mhfu"


class Refiner:
    """The MHFU with its weights; holds no state between calls and one frame's features at a time."""

    def __init__(self, network: MHFU, *, trained: bool, device: torch.device | str = "cpu") -> None:
        """Take a copy of the network, so that one in training stays as it is."""
        frozen = copy.deepcopy(network).eval().requires_grad_(False)
        # channels last takes a third less time on a CPU at these channel counts
        self.network = frozen.to(device).to(memory_format=torch.channels_last)
        self.trained = trained

    @classmethod
    def load(
        cls, path: str | Path | None = None, *, size: str | None = None, device: torch.device | str = "cpu"
    ) -> Refiner:
        """Read weights written by `save`; without a path, the untrained refiner, which is its initial blend.

        Args:
            path: A safetensors file; its metadata say which size it holds.
            size: A name of `SIZES`. Without a path the size to make (small when None); with one, the size it must be.
            device: Where the network runs.

        Raises:
            OptionError: Unknown size.
            WeightsError: The file is missing, damaged, no refiner, or of another size.
        """
        if size is not None and size not in SIZES:
            raise OptionError(f"refiner size {size!r} is not known; use {' or '.join(SIZES)}")
        if path is None:
            return cls(MHFU(SIZES[size or "small"]), trained=False, device=device)
        network = _read(Path(path))
        if size is not None and network.size != SIZES[size]:
            raise WeightsError(f"{path} holds a refiner of {network.size}, expected {size!r}; leave the size out")
        return cls(network, trained=True, device=device)

    def save(self, path: str | Path) -> None:
        """Write the weights, with the network's size in the metadata, as one safetensors file."""
        tensors = {name: value.contiguous().cpu() for name, value in self.network.state_dict().items()}
        partial = Path(f"{path}.partial")
        save_file(tensors, partial, {METADATA_KEY: json.dumps(dataclasses.asdict(self.network.size))})
        os.replace(partial, path)

    def __call__(
        self,
        warped: WarpedClip,
        poly: Tensor,
        expansion: Tensor,
        dl: Tensor,
        *,
        mode: RefineMode = "holes",
        border_px: int = 0,
    ) -> Tensor:
        """Fuse three branches and compose them into the warped view.

        Args:
            warped: The base warp; its holes are those that count.
            poly: (T, 3, H, W), the polyline branch's view.
            expansion: (T, 3, H, W), the disparity-expansion branch's view.
            dl: (T, 3, H, W), the video-inpainting branch's view.
            mode: See `compose`.
            border_px: See `compose`.

        Returns:
            (T, 3, H, W), the finished right view.
        """
        # untrained, the blend is what the network would return, without running it
        fused = self._fuse(warped.hole, poly, expansion, dl) if self.trained else initial_blend(poly, expansion, dl)
        return compose(warped.view, warped.hole, fused, mode=mode, border_px=border_px)

    def _fuse(self, hole: Tensor, poly: Tensor, expansion: Tensor, dl: Tensor) -> Tensor:
        """Frame by frame: bounds the memory, and a convolution's last bits may depend on the size of its batch."""
        branches = [view.split(1) for view in (poly, expansion, dl)]
        return torch.cat([self.network(*views).fused for views in zip(*branches, hole.split(1))])


def _read(path: Path) -> MHFU:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except FileNotFoundError:
        raise WeightsError(f"{path} does not exist, expected refiner weights; check the path") from None
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors ({error}); fetch or export it again") from None
    if METADATA_KEY not in metadata:
        raise WeightsError(f"{path} has no {METADATA_KEY!r} in its metadata, expected refiner weights; export again")
    try:
        fields = json.loads(metadata[METADATA_KEY])
        network = MHFU(MHFUSize(tuple(fields["channels"]), fields["hole_input"]))
        network.load_state_dict(tensors)
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"{path} does not fit the refiner it describes ({reason}); export it again") from None
    return network
