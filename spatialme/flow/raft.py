"""RAFT (Teed and Deng, ECCV 2020): torchvision's network, with torchvision's or the authors' weights."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from spatialme.errors import WeightsError
from spatialme.flow.grid import bounded_size

LONG_SIDE_PX = 960  # the all-pairs volume grows with the fourth power of the side: 0.13 GB at 960 x 540 in half
SMALLEST_SIDE_PX = 128  # torchvision's network refuses less: four halvings of 1/8 resolution
ITERATIONS = 12

# the authors' names -> torchvision's, in this order; `norm3` repeats `downsample.1`
RENAMES = (
    (r"^module\.", ""),
    (r"^fnet\.", "feature_encoder."),
    (r"^cnet\.", "context_encoder."),
    (r"^(feature|context)_encoder\.conv1\.", r"\1_encoder.convnormrelu.0."),
    (r"^(feature|context)_encoder\.norm1\.", r"\1_encoder.convnormrelu.1."),
    (r"^(feature|context)_encoder\.conv2\.", r"\1_encoder.conv."),
    (r"(layer\d\.\d)\.conv(\d)\.", r"\1.convnormrelu\2.0."),
    (r"(layer\d\.\d)\.norm([12])\.", r"\1.convnormrelu\2.1."),
    (r"^update_block\.encoder\.convc(\d)\.", r"update_block.motion_encoder.convcorr\1.0."),
    (r"^update_block\.encoder\.convf(\d)\.", r"update_block.motion_encoder.convflow\1.0."),
    (r"^update_block\.encoder\.conv\.", "update_block.motion_encoder.conv.0."),
    (r"^update_block\.gru\.conv([zrq])(\d)\.", r"update_block.recurrent_block.convgru\2.conv\1."),
    (r"^update_block\.mask\.0\.", "mask_predictor.convrelu.0."),
    (r"^update_block\.mask\.2\.", "mask_predictor.conv."),
)


def raft_things_to_torchvision(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the authors' checkpoint (`raft-things.pth`) to torchvision's `raft_large`; the tensors are the same."""
    renamed = {}
    for name, value in state.items():
        if ".norm3." in name:
            continue
        for pattern, replacement in RENAMES:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    return renamed


class Raft:
    """Flow at half the frame's resolution or less; half precision on a GPU."""

    def __init__(self, weights: Path, device: torch.device, *, iterations: int = ITERATIONS):
        """Load the network.

        Args:
            weights: torchvision's `raft_large_*.pth` or the authors' `raft-things.pth`.
            device: Where it runs.
            iterations: Updates of the flow.

        Raises:
            WeightsError: The file is unreadable or holds something else.
        """
        from torchvision.models.optical_flow import raft_large

        network = raft_large(weights=None, progress=False)
        try:
            network.load_state_dict(_torchvision_state(weights))
        except (OSError, RuntimeError, ValueError, AttributeError, KeyError, EOFError, pickle.UnpicklingError) as error:
            raise WeightsError(
                f"{weights} does not hold RAFT-large; give torchvision's raft_large or the authors' raft-things.pth"
            ) from error
        self._device = device
        self._network = network.to(device).eval().requires_grad_(False)
        self._iterations = iterations

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the flow: at most half the frame and 960 px, multiples of 8, at least 128."""
        half = min(LONG_SIDE_PX, max(height, width) // 2)
        grid_height, grid_width = bounded_size(height, width, long_side=half, multiple=8)
        return max(SMALLEST_SIDE_PX, grid_height), max(SMALLEST_SIDE_PX, grid_width)

    def prepare(self, frame: Tensor) -> Tensor:
        """Reduced frame in [-1, 1]: (3, H, W) -> (1, 3, h, w)."""
        size = self.grid(*frame.shape[1:])
        image = frame[None].to(self._device, torch.float32)
        reduced = F.interpolate(image, size=size, mode="bilinear", align_corners=False, antialias=True)
        return reduced * 2 - 1

    def both_ways(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Flow from the first to the second and back: (2, h, w) float32 px each."""
        there_and_back = torch.cat((first, second)), torch.cat((second, first))
        # autocast, not half weights: positions in the correlation volume need float32, whatever the pipeline chose
        with torch.autocast("cuda", torch.float16, enabled=self._device.type == "cuda"):
            flows = self._network(*there_and_back, num_flow_updates=self._iterations)[-1].float()
        return flows[0], flows[1]


def _torchvision_state(path: Path) -> dict[str, Tensor]:
    state = torch.load(path, map_location="cpu", weights_only=True)
    authors = any(name.startswith("module.fnet.") for name in state)
    return raft_things_to_torchvision(state) if authors else state
