"""`tiny`, the relative-depth network that comes with the package: small enough for two CPU cores, no download.

MobileNetV2 features at strides 2, 4, 8, 16 and 32, each projected to one width and fused from coarse to fine.
"""

from __future__ import annotations

from importlib import resources
from itertools import pairwise
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from spatialme.depth.mobilenet import mobilenet_features
from spatialme.depth.network import IMAGENET_MEAN, IMAGENET_STD, fit_size
from spatialme.errors import WeightsError

WEIGHTS_FILE = "depth_tiny.safetensors"
SIDE_MULTIPLE = 32  # the encoder's coarsest stride
FRAME_RIM = 3  # px of the result along the frame's edges that the zero padding spoils, by up to a tenth of the range
DEFAULT_SHORT_SIDE = 224  # of 192, 224 and 256 the best on held-out pictures, as it is near what training showed


class Fuse(nn.Module):
    """Add the upsampled coarser map to a projected skip, then refine with depthwise-separable convolutions."""

    def __init__(self, skip_channels: int, coarse_width: int | None, width: int, *, kernel: int, refinements: int):
        super().__init__()
        self.project = nn.Conv2d(skip_channels, width, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.narrow = nn.Conv2d(coarse_width, width, 1) if coarse_width else None
        self.refine = nn.ModuleList(nn.Sequential(*_separable(width, kernel)) for _ in range(refinements))

    def forward(self, coarse: Tensor | None, skip: Tensor) -> Tensor:
        x = self.norm(self.project(skip))
        if coarse is not None and self.narrow is not None:
            # narrowed first, as that is cheaper on the coarse grid
            x = x + F.interpolate(self.narrow(coarse), size=skip.shape[-2:], mode="bilinear", align_corners=False)
        for refine in self.refine:
            x = x + refine(x)
        return x


class TinyDepth(nn.Module):
    """(N, 3, H, W) ImageNet-normalised RGB, sides multiples of 32 -> (N, 1, H/2, W/2) inverse depth, larger = nearer.

    Scale and offset of the result are arbitrary.
    """

    taps = (1, 3, 6, 13, 17)  # MobileNetV2 blocks after which a stride is complete
    channels = (16, 24, 32, 96, 320)
    # Most of the work is done on the coarse grids, where it costs nothing: at half resolution a width of 64 took more
    # time than the whole encoder. The coarsest kernels see the whole picture.
    widths = (16, 32, 64, 96, 128)
    kernels = (3, 3, 5, 5, 7)
    refinements = (1, 2, 2, 2, 2)

    def __init__(self) -> None:
        super().__init__()
        self.encoder = mobilenet_features()
        coarser = (*self.widths[1:], None)
        levels = zip(self.channels, coarser, self.widths, self.kernels, self.refinements)
        self.fuse = nn.ModuleList(
            Fuse(channels, coarse, width, kernel=kernel, refinements=count)
            for channels, coarse, width, kernel, count in levels
        )
        self.head = nn.Sequential(nn.Conv2d(self.widths[0], 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        skips = []
        x = images
        for index, block in enumerate(self.encoder):
            x = block(x)
            if index in self.taps:
                skips.append(x)
        fused: Tensor | None = None
        for fuse, skip in zip(reversed(self.fuse), reversed(skips)):
            fused = fuse(fused, skip)
        return self.head(fused)


class TinyNetwork:
    """Resizes frames for `TinyDepth` and runs it; a `network.DepthNetwork`."""

    def __init__(
        self,
        *,
        device: torch.device,
        short_side: int | None = None,
        model: nn.Module | None = None,
        name: str = "tiny",
    ):
        """Take a network of `load_file`, the packaged one when left out."""
        self.name = name
        self.short_side = short_side or DEFAULT_SHORT_SIDE
        self.device = device
        self._model = (model or load_tiny()).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._mean = torch.tensor(IMAGENET_MEAN, device=device).view(3, 1, 1)
        self._std = torch.tensor(IMAGENET_STD, device=device).view(3, 1, 1)

    def __call__(self, frames: Tensor) -> Tensor:
        """(T, 3, H, W) RGB in [0, 1] -> (T, 1, h, w) raw inverse depth, h and w half the network's input."""
        size = fit_size(frames.shape[-2:], self.short_side, SIDE_MULTIPLE)
        images = F.interpolate(frames.to(self.device), size=size, mode="bilinear", antialias=True, align_corners=False)
        images = ((images - self._mean) / self._std).contiguous(memory_format=torch.channels_last)
        inverse = self._model(images).float()[..., FRAME_RIM:-FRAME_RIM, FRAME_RIM:-FRAME_RIM]
        return F.pad(inverse, (FRAME_RIM,) * 4, mode="replicate")


def load_tiny() -> nn.Module:
    """The network with the package's weights in float32, batch norms folded into their convolutions."""
    return load_file(Path(str(resources.files("spatialme").joinpath(f"assets/{WEIGHTS_FILE}"))))


def load_file(path: Path) -> nn.Module:
    """The network of a file made by `spatialme weights export`, ready to run.

    Raises:
        WeightsError: The file holds something else.
    """
    model = TinyDepth()
    load_state(model, safetensors.torch.load_file(path), str(path))
    model.eval().requires_grad_(False)
    fold_batch_norms(model)
    return model


def is_tiny(path: Path) -> bool:
    """Whether a .safetensors file has this network's tensors."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return "fuse.0.project.weight" in file.keys()  # noqa: SIM118 - not a dict
    except (OSError, safetensors.SafetensorError):
        return False


def load_state(model: TinyDepth, state: dict[str, Tensor], origin: str) -> None:
    """Fill the network; the counters of the batch norms may be missing.

    Raises:
        WeightsError: The tensors are not this network's.
    """
    try:
        missing, unexpected = model.load_state_dict(
            {name: value.float() for name, value in state.items()}, strict=False
        )
    except RuntimeError:
        missing, unexpected = ["every tensor of another shape"], []
    wrong = [*unexpected, *(name for name in missing if not name.endswith("num_batches_tracked"))]
    if wrong:
        raise WeightsError(f"{origin} does not fit the network tiny ({wrong[0]}); give one made by weights export")


def fold_batch_norms(module: nn.Module) -> None:
    """Replace every convolution directly followed by a batch norm by their product; halves the CPU time."""
    children = list(module.named_children())
    for (name, first), (next_name, second) in pairwise(children):
        if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
            setattr(module, name, fuse_conv_bn_eval(first, second))
            setattr(module, next_name, nn.Identity())
    for _, child in module.named_children():
        fold_batch_norms(child)


def _separable(width: int, kernel: int) -> list[nn.Module]:
    return [
        nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 1, bias=False),
        nn.BatchNorm2d(width),
    ]
