"""StereoCrafter (Zhao et al. 2024): Stable Video Diffusion fine-tuned to paint the holes of a warped video.

```
warped frames --VAE--> 4 conditioning latents --+
holes --nearest, / 8--> 1 channel --------------+--> U-Net of 9 channels, Euler steps from noise --VAE--> right view
noise ------------------------------------------+        ^ CLIP embedding of the first warped frame
```

Not published in the paper and taken from its code's settings: rounds of 23 frames that take over 3, guidance 1.01, 7
frames per second, motion bucket 127, tiles that share 128 px. What pixels outside holes become is up to the network.
Deviations: a frame is continued to multiples of 64 px instead of cut; one seed for the noise; CLIP's picture is made
smaller by PyTorch's antialiased filter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from spatialme.evaluation.baselines.diffusion.checkpoints import CHECKPOINTS, diffusers, load_part, working_dtype
from spatialme.evaluation.baselines.diffusion.rounds import Round, in_rounds, padded, per_shot
from spatialme.evaluation.baselines.diffusion.svd import SvdNetworks, load_image_encoder, load_vae, svd_scheduler
from spatialme.evaluation.baselines.diffusion.tiles import LATENT_PX, Tiling
from spatialme.types import WarpedClip


@dataclass(frozen=True)
class StereoCrafterSettings:
    """As in the published code; the paper shows 25 steps and one."""

    steps: int = 25
    window: int = 23  # frames per round
    overlap: int = 3  # of them taken over from the round before
    guidance: float = 1.01
    numbers: tuple[float, float, float] = (6.0, 127.0, 0.0)  # frames per second less one, motion bucket, added noise
    tiling: Tiling = field(default_factory=Tiling)
    seed: int = 0


class StereoCrafter:
    """Repaints whole views. Holds one shot, and its networks' work on one round of a tile."""

    needs_motion = False

    def __init__(self, networks: SvdNetworks, settings: StereoCrafterSettings | None = None):
        """Compose the method; `load_stereocrafter` does it with the user's weights.

        Args:
            networks: With a U-Net of 9 input channels, on the device of the clips.
            settings: None is the published ones.
        """
        self._networks = networks
        self._settings = settings or StereoCrafterSettings()
        self._scheduler = svd_scheduler()

    def stream(self, clips: Iterable[WarpedClip]) -> Iterator[Tensor]:
        """Yield the repainted views."""
        return per_shot(clips, self._shot)

    def _shot(self, warped: WarpedClip) -> Tensor:
        settings, (height, width) = self._settings, warped.view.shape[2:]
        draw = torch.Generator().manual_seed(settings.seed)  # on the CPU: the same noise on every device
        size = (settings.tiling.padded_px(height), settings.tiling.padded_px(width))

        def make(one: Round, made: Tensor | None) -> Tensor:
            view = warped.view[one.start : one.stop]
            if made is not None:
                view = torch.cat((made, view[one.made :]))
            view, hole = padded(view, *size), padded(warped.hole[one.start : one.stop].float(), *size)
            latents = settings.tiling.run(
                height, width, lambda y, x: self.latents(view[..., y, x], hole[..., y, x], draw)
            )
            return self._networks.decode(latents)[..., :height, :width]

        return in_rounds(len(warped), settings.window, settings.overlap, make)

    def latents(self, view: Tensor, hole: Tensor, draw: torch.Generator) -> Tensor:
        """Denoise one round of one tile.

        Args:
            view: (F, 3, H, W) in [0, 1], sides multiples of 64.
            hole: (F, 1, H, W), 1 in holes.
            draw: Gives the noise; of the CPU.

        Returns:
            (F, 4, H / 8, W / 8), scaled.
        """
        networks, scheduler, settings = self._networks, self._scheduler, self._settings
        known = networks.encode(view)
        mask = F.interpolate(hole, scale_factor=1 / LATENT_PX, mode="nearest")
        conditions = torch.cat((known, mask.to(known)), 1)
        embedding = networks.embed(view[:1])
        nothing = torch.zeros_like(conditions), torch.zeros_like(embedding)
        scheduler.set_timesteps(settings.steps, device=view.device)
        latents = torch.randn(known.shape, generator=draw).to(known.device) * scheduler.init_noise_sigma
        for timestep in scheduler.timesteps:
            given = scheduler.scale_model_input(latents, timestep)
            guided = networks.velocity(given, conditions, timestep, embedding, settings.numbers).float()
            free = networks.velocity(given, nothing[0], timestep, nothing[1], settings.numbers).float()
            latents = scheduler.step(free + settings.guidance * (guided - free), timestep, latents).prev_sample
        return latents


def load_stereocrafter(device: torch.device, settings: StereoCrafterSettings | None = None) -> StereoCrafter:
    """The method with the user's copies of StereoCrafter's U-Net and of SVD's VAE and image encoder.

    Raises:
        OptionError: diffusers is not installed.
        WeightsError: A checkpoint is not here, or is another one.
    """
    network = diffusers().UNetSpatioTemporalConditionModel
    checkpoint = CHECKPOINTS["stereocrafter"]
    subfolder = "unet_diffusers" if (Path(checkpoint.place()) / "unet_diffusers").is_dir() else ""
    unet = load_part(network, checkpoint, device, working_dtype(device), subfolder)
    return StereoCrafter(SvdNetworks(unet, load_vae(device), load_image_encoder(device)), settings)
