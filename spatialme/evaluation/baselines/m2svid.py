"""M2SVid (Shvetsova et al. 2025): one run of Stable Video Diffusion's U-Net turns left and warped view into the right.

```
nought, 4 | left view, 4 | warped view, 4 | holes, 1 --> U-Net at t = T --> v;  right view = D(-v)    (equation 4)
```

Tokens of holes attend to all tokens of all frames, the others to those of their own frame (section 5.3). Each frame has
CLIP's embedding of its left picture as its context. From the published code's settings: gaps of holes closed by a
kernel of 11 px, holes black, the mask widened by a kernel of 3; noise of 0.02 on the conditions; up to 25 frames at
once. Longer shots go on in rounds that take over 3 frames, as that code's tiling variant was trained for. Deviations:
the noise has one seed; the frame rate that the U-Net is told is the protocol's 5, for a clip does not know its own.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from spatialme.errors import WeightsError
from spatialme.evaluation.baselines.diffusion.attention import install_hole_attention
from spatialme.evaluation.baselines.diffusion.checkpoints import (
    CHECKPOINTS,
    diffusers,
    frozen,
    load_part,
    working_dtype,
)
from spatialme.evaluation.baselines.diffusion.rounds import Round, in_rounds, padded, per_shot
from spatialme.evaluation.baselines.diffusion.sgm_keys import from_sgm
from spatialme.evaluation.baselines.diffusion.svd import SvdNetworks, highest_timestep, load_image_encoder, load_vae
from spatialme.evaluation.baselines.diffusion.tiles import LATENT_PX, Tiling
from spatialme.types import WarpedClip

CONDITION_CHANNELS = 13


@dataclass(frozen=True)
class M2SvidSettings:
    """As published."""

    window: int = 25  # frames per round
    overlap: int = 3
    closing_px: int = 11
    dilation_px: int = 3
    numbers: tuple[float, float, float] = (5.0, 127.0, 0.02)  # frames per second, motion bucket, noise on conditions
    tiling: Tiling = field(default_factory=Tiling)
    seed: int = 0


class M2Svid:
    """Repaints whole views in one step. Holds one shot, and its networks' work on one round of a tile."""

    needs_motion = False

    def __init__(self, networks: SvdNetworks, settings: M2SvidSettings | None = None):
        """Compose the method; `load_m2svid` does it with the user's weights.

        Args:
            networks: With a U-Net of 13 input channels, on the device of the clips; its attentions are replaced.
            settings: None is the published ones.
        """
        self._networks = networks
        self._settings = settings or M2SvidSettings()
        self._holes = install_hole_attention(networks.unet)

    def stream(self, clips: Iterable[WarpedClip]) -> Iterator[Tensor]:
        """Yield the repainted views."""
        return per_shot(clips, self._shot)

    def _shot(self, warped: WarpedClip) -> Tensor:
        settings, (height, width) = self._settings, warped.view.shape[2:]
        draw = torch.Generator().manual_seed(settings.seed)
        size = (settings.tiling.padded_px(height), settings.tiling.padded_px(width))
        closed = closing(warped.hole.float(), settings.closing_px)
        black = warped.view * (1 - closed)
        mask = dilation(closed, settings.dilation_px)

        def make(one: Round, made: Tensor | None) -> Tensor:
            view, hole = black[one.start : one.stop], mask[one.start : one.stop]
            if made is not None:
                view = torch.cat((made, view[one.made :]))
                hole = torch.cat((torch.zeros_like(hole[: one.made]), hole[one.made :]))
            left, view, hole = (padded(part, *size) for part in (warped.clip.frames[one.start : one.stop], view, hole))
            latents = settings.tiling.run(
                height, width, lambda y, x: self.latents(left[..., y, x], view[..., y, x], hole[..., y, x], draw)
            )
            return self._networks.decode(latents)[..., :height, :width]

        return in_rounds(len(warped), settings.window, settings.overlap, make)

    def latents(self, left: Tensor, view: Tensor, hole: Tensor, draw: torch.Generator) -> Tensor:
        """The right view's latents, of one round of one tile.

        Args:
            left: (F, 3, H, W) in [0, 1], sides multiples of 64.
            view: The warped frames, likewise; black in holes.
            hole: (F, 1, H, W), 1 in holes.
            draw: Gives the conditions' noise; of the CPU.

        Returns:
            (F, 4, H / 8, W / 8), scaled: -v.
        """
        networks, numbers = self._networks, self._settings.numbers
        # strength is meant for pictures in [-1, 1]; the order is that of the channels
        conditions = [networks.encode(part + numbers[2] / 2 * _noise(part, draw)) for part in (left, view)]
        mask = F.interpolate(hole * 2 - 1, scale_factor=1 / LATENT_PX, mode="bilinear", align_corners=False)
        self._holes.set(mask)
        given = torch.cat((*conditions, mask.to(conditions[0])), 1)
        highest = torch.tensor(highest_timestep(), device=view.device)
        return -networks.velocity(
            torch.zeros_like(conditions[0]), given, highest, networks.embed(left), numbers
        ).float()


def closing(mask: Tensor, kernel_px: int) -> Tensor:
    """Fill gaps of a mask (F, 1, H, W) narrower than an odd kernel: dilation, then erosion."""
    return -dilation(-dilation(mask, kernel_px), kernel_px)


def dilation(mask: Tensor, kernel_px: int) -> Tensor:
    """Widen a mask (F, 1, H, W) by half an odd kernel on each side."""
    return F.max_pool2d(mask, kernel_px, stride=1, padding=kernel_px // 2)


def load_m2svid(device: torch.device, settings: M2SvidSettings | None = None) -> M2Svid:
    """The method with the user's copies of M2SVid's U-Net and of SVD's VAE and image encoder.

    Raises:
        OptionError: diffusers is not installed.
        WeightsError: A checkpoint is not here, or is another one.
    """
    network = diffusers().UNetSpatioTemporalConditionModel
    checkpoint = CHECKPOINTS["m2svid"]
    place = Path(checkpoint.place())
    if place.is_file():
        unet = network(in_channels=CONDITION_CHANNELS)
        load_sgm(unet, place)
        unet = frozen(unet, device, working_dtype(device))
    else:
        unet = load_part(
            network, checkpoint, device, working_dtype(device), "unet" if (place / "unet").is_dir() else ""
        )
    return M2Svid(SvdNetworks(unet, load_vae(device), load_image_encoder(device)), settings)


def load_sgm(unet: Any, path: Path) -> None:
    """Put the weights of a file in Stability AI's layout into the U-Net.

    Raises:
        WeightsError: It cannot be read, lacks a weight, or has one of another shape.
    """
    try:
        content = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read as weights ({type(error).__name__}); fetch it anew") from error
    inner: Any = content.get("module", content.get("state_dict", content)) if isinstance(content, dict) else None
    weights = {name.removeprefix("module."): value for name, value in inner.items()} if isinstance(inner, dict) else {}
    renamed = from_sgm(weights, list(unet.state_dict()))
    for name, value in unet.state_dict().items():
        if value.shape != renamed[name].shape:
            raise WeightsError(
                f"{path} has {name} of {list(renamed[name].shape)}, expected {list(value.shape)}; give "
                f"{CHECKPOINTS['m2svid'].published}"
            )
    unet.load_state_dict(renamed)


def _noise(like: Tensor, draw: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=draw).to(like)
