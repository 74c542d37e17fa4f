"""RAFT (Teed and Deng, ECCV 2020): torchvision's network, with torchvision's or the authors' weights."""

from __future__ import annotations

import pickle
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


@dataclass(frozen=True)
class EncodedFrame:
    """What RAFT knows of one frame, at an eighth of the size that it sees: encoded once, for four flows."""

    features: Tensor  # (1, 256, h / 8, w / 8): what correlates
    context: Tensor  # (1, 256, h / 8, w / 8): what guides the updates of a flow that starts here


class Raft:
    """Flow at half the frame's resolution or less; half precision on a GPU.

    The network's own `forward` encodes both frames of a pair anew for each direction, and enlarges the flow after every
    update, of which the last one counts.
    """

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
        self._network: Any = network.to(device).eval().requires_grad_(False)
        self._iterations = iterations

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the flow: at most half the frame and 960 px, multiples of 8, at least 128."""
        half = min(LONG_SIDE_PX, max(height, width) // 2)
        grid_height, grid_width = bounded_size(height, width, long_side=half, multiple=8)
        return max(SMALLEST_SIDE_PX, grid_height), max(SMALLEST_SIDE_PX, grid_width)

    def prepare(self, frame: Tensor) -> EncodedFrame:
        """Reduce and encode a frame, (3, H, W)."""
        size = self.grid(*frame.shape[1:])
        image = frame[None].to(self._device, torch.float32)
        reduced = F.interpolate(image, size=size, mode="bilinear", align_corners=False, antialias=True)
        return self.encode(reduced * 2 - 1)

    def encode(self, image: Tensor) -> EncodedFrame:
        """Encode (1, 3, h, w) in [-1, 1] as it is; sides are multiples of 8, at least 128."""
        with self._precision():
            return EncodedFrame(self._network.feature_encoder(image), self._network.context_encoder(image))

    def both_ways(self, first: EncodedFrame, second: EncodedFrame) -> tuple[Tensor, Tensor]:
        """Flow from the first to the second and back: (2, h, w) float32 px each."""
        there, back = torch.cat((first.features, second.features)), torch.cat((second.features, first.features))
        with self._precision():
            flows = self._flow(there, back, torch.cat((first.context, second.context)))
        return flows[0], flows[1]

    def _precision(self) -> AbstractContextManager:
        # autocast, not half weights: positions in the correlation volume need float32, whatever the pipeline chose
        return torch.autocast("cuda", torch.float16, enabled=self._device.type == "cuda")

    def _flow(self, features: Tensor, other_features: Tensor, context: Tensor) -> Tensor:
        """Flow to the other frames, (N, 2, 8 h, 8 w) float32, of what encoders made: (N, 256, h, w) each."""
        from torchvision.models.optical_flow._utils import make_coords_grid, upsample_flow

        network = self._network
        network.corr_block.build_pyramid(features, other_features)
        state_channels = network.update_block.hidden_state_size
        state, context = context[:, :state_channels].tanh(), context[:, state_channels:].relu()
        start = make_coords_grid(len(features), *features.shape[2:], device=features.device)
        position = start
        for _ in range(self._iterations):
            correlation = network.corr_block.index_pyramid(centroids_coords=position)
            state, change = network.update_block(state, context, correlation, position - start)
            position = position + change
        return upsample_flow(position - start, up_mask=network.mask_predictor(state)).float()


def _torchvision_state(path: Path) -> dict[str, Tensor]:
    state = torch.load(path, map_location="cpu", weights_only=True)
    authors = any(name.startswith("module.fnet.") for name in state)
    return raft_things_to_torchvision(state) if authors else state
