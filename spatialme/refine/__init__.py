"""From three fillings to one finished view."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from spatialme.disk import appearing
from spatialme.errors import OptionError, WeightsError
from spatialme.refine.compose import compose
from spatialme.refine.mhfu import MHFU, SIZES, MHFUSize, initial_blend
from spatialme.refine.regions import BAND_PIXELS, bands, hole_regions
from spatialme.settings import RefineMode
from spatialme.types import WarpedClip
from spatialme.weights import WEIGHTS, Licence, allowed, find

__all__ = ["Refiner", "compose"]

METADATA_KEY = "spatialme_mhfu"
DEFAULTS: dict[str, str] = {}  # size -> packaged weights, which may be used commercially
BLEND = "blend"  # in place of weights: the untrained refiner


class Refiner:
    """The MHFU with its weights; holds no state between calls and one frame's features at a time."""

    def __init__(self, network: MHFU, *, trained: bool, name: str = "", device: torch.device | str = "cpu") -> None:
        """Take a copy of the network, so that one in training stays as it is; `name` is for reports."""
        frozen = copy.deepcopy(network).eval().requires_grad_(False)
        # channels last takes a third less time on a CPU at these channel counts
        self.network = frozen.to(device).to(memory_format=torch.channels_last)
        self.trained, self.name = trained, name

    @classmethod
    def untrained(cls, size: str = "small", *, device: torch.device | str = "cpu") -> Refiner:
        """The refiner before training, which is its initial blend: a quarter poly and expansion each, half dl."""
        return cls(MHFU(SIZES[size]), trained=False, name=BLEND, device=device)

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        *,
        size: str | None = None,
        device: torch.device | str = "cpu",
        licence: Licence = "any",
    ) -> Refiner:
        """Read weights: the packaged ones, or a file written by `save`.

        Args:
            path: A safetensors file, whose metadata say which size it holds, a name of `spatialme weights list`, or
                `BLEND`; None: the packaged weights of the size, or the untrained refiner where there are none.
            size: A name of `SIZES`. Without a path the size to load (small when None); with one, the size it must be.
            device: Where the network runs.
            licence: What named weights must allow.

        Raises:
            OptionError: Unknown size.
            WeightsError: The file is missing, damaged, no refiner, or of another size; or its licence does not allow.
        """
        if size is not None and size not in SIZES:
            raise OptionError(f"refiner size {size!r} is not known; use {' or '.join(SIZES)}")
        if path is None:
            path = DEFAULTS.get(size or "small")
        if path is None or str(path) == BLEND:
            return cls.untrained(size or "small", device=device)
        file = _named(str(path), licence) if str(path) in WEIGHTS else Path(path).expanduser()
        network = _read(file)
        if size is not None and network.size != SIZES[size]:
            raise WeightsError(f"{path} holds a refiner of {network.size}, expected {size!r}; leave the size out")
        return cls(network, trained=True, name=Path(path).name, device=device)

    @property
    def digest(self) -> str:
        """A hash of the weights, in hexadecimal digits."""
        digest = hashlib.sha256()
        for tensor in self.network.state_dict().values():
            digest.update(tensor.float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def save(self, path: str | Path) -> None:
        """Write the weights, with the network's size in the metadata, as one safetensors file."""
        tensors = {name: value.contiguous().cpu() for name, value in self.network.state_dict().items()}
        with appearing(Path(path)) as partial:
            save_file(tensors, partial, {METADATA_KEY: json.dumps(dataclasses.asdict(self.network.size))})

    def __call__(
        self,
        warped: WarpedClip,
        poly: Tensor,
        expansion: Tensor,
        dl: Tensor,
        *,
        mode: RefineMode = "holes",
    ) -> Tensor:
        """Fuse three branches and compose them into the warped view, in mode ``holes`` with soft seams.

        Args:
            warped: The base warp; its holes are those that count.
            poly: (T, 3, H, W), the polyline branch's view.
            expansion: (T, 3, H, W), the disparity-expansion branch's view.
            dl: (T, 3, H, W), the video-inpainting branch's view.
            mode: See `compose`.

        Returns:
            (T, 3, H, W), the finished right view.
        """
        if not self.trained:  # the blend is what the network would return, without running it
            fused = initial_blend(poly, expansion, dl)
        else:
            # finding the holes' regions would make the host wait for a GPU, which has time for whole frames
            on_cpu = warped.hole.device.type == "cpu"
            run = self._fuse_bands if not on_cpu else self._fuse_whole if mode == "everywhere" else self._fuse_holes
            # frame by frame: bounds the memory, and a convolution's last bits may depend on the size of its batch
            views = (view.split(1) for view in (poly, expansion, dl, warped.hole))
            fused = torch.cat([run(*frame) for frame in zip(*views)])
        return compose(warped.view, warped.hole, fused, mode=mode, soft=True)

    def _fuse_whole(self, poly: Tensor, expansion: Tensor, dl: Tensor, hole: Tensor) -> Tensor:
        return self.network(poly, expansion, dl, hole).fused

    def _fuse_bands(self, poly: Tensor, expansion: Tensor, dl: Tensor, hole: Tensor) -> Tensor:
        """`_fuse_whole`, large frames in parts, whose features take less memory."""
        size = self.network.size
        height, width = poly.shape[-2:]
        fused = torch.empty_like(poly)
        for inner, outer in bands(height, width, most_pixels=BAND_PIXELS, reach_px=size.reach_px, step_px=size.step_px):
            rows, columns = outer.slices
            part = self._fuse_whole(*(view[..., rows, columns] for view in (poly, expansion, dl, hole)))
            wanted_rows, wanted_columns = inner.within(outer)
            fused[..., inner.slices[0], :] = part[..., wanted_rows, wanted_columns]
        return fused

    def _fuse_holes(self, poly: Tensor, expansion: Tensor, dl: Tensor, hole: Tensor) -> Tensor:
        """`_fuse_whole` inside one frame's holes; outside them as `poly`, for nobody looks there."""
        size = self.network.size
        fused = poly.clone()
        for inner, outer in hole_regions(hole[0, 0].numpy(), reach_px=size.reach_px, step_px=size.step_px):
            rows, columns = outer.slices
            part = self._fuse_whole(*(view[..., rows, columns] for view in (poly, expansion, dl, hole)))
            wanted_rows, wanted_columns = inner.within(outer)
            rows, columns = inner.slices
            fused[..., rows, columns] = part[..., wanted_rows, wanted_columns]
        return fused


def _named(name: str, licence: Licence) -> Path:
    if not allowed(name, licence):
        instead = " or ".join(DEFAULTS.values()) or "a file of your own"
        raise WeightsError(f"the refiner {name} forbids commercial use ({WEIGHTS[name].licence}); use {instead}")
    path = find(name)
    if path is None:
        raise WeightsError(f"the refiner {name} is not here; run `spatialme weights fetch {name}`")
    return path


def _read(path: Path) -> MHFU:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except FileNotFoundError:
        raise WeightsError(
            f"{path} does not exist, expected a file of refiner weights, a name of `spatialme weights list`, or {BLEND}"
        ) from None
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
