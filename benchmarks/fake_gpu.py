"""A GPU that is not there, for counting memory: tensors with the device `cuda` and no values, and a meter for them."""

from __future__ import annotations

import contextlib
import importlib
import types
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from spatialme.report import StageClock

MAKING = "networks"
GPU_BYTES = 80_000_000_000
KERNELS = (
    "spatialme.warp.splat_triton",
    "spatialme.inpaint.polyline_triton",
    "spatialme.inpaint.trace_triton",
    "spatialme.inpaint.background_triton",
    "spatialme.depth.median_triton",
)


class Meter(TorchDispatchMode):
    """Adds up the storages that are alive on the GPU, by the stage that made them."""

    def __init__(self, clock: Stages) -> None:
        super().__init__()
        self.now: Counter[str] = Counter()
        self.peak: Counter[str] = Counter()
        self.peak_bytes = 0
        self.at_peak = ""
        self._total = 0
        self._clock = clock
        self._alive: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, operation: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
        if operation is torch.ops.aten.max_pool2d.default:  # makes indices besides, which a GPU allocates
            with self:
                return operation.decompose(*args, **(kwargs or {}))
        if operation is torch.ops.aten._local_scalar_dense.default and self._clock.current == MAKING:
            return 0  # without consequence there; where frames flow it is an error
        result = operation(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor) and value.device.type == "cuda":
                self._note(value.untyped_storage())
        return result

    def _note(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._alive:
            return
        stage, size = self._clock.current, storage.nbytes()

        def dropped(_: object) -> None:
            del self._alive[key]
            self.now[stage] -= size
            self._total -= size

        self._alive[key] = weakref.ref(storage, dropped)
        self.now[stage] += size
        self._total += size
        if self._total > self.peak_bytes:
            self.peak_bytes, self.peak, self.at_peak = self._total, self.now.copy(), stage


class Stages(StageClock):
    """A clock that knows which stage is at work."""

    def __init__(self) -> None:
        super().__init__()
        self._names = [MAKING]

    @property
    def current(self) -> str:
        return self._names[-1]

    @contextlib.contextmanager
    def charge(self, name: str) -> Iterator[None]:
        self._names.append(name)
        try:
            yield
        finally:
            self._names.pop()


class _NoKernel:
    """Stands for a Triton kernel, and does nothing."""

    def __getitem__(self, grid: object) -> Any:
        return lambda *args, **kwargs: None


@contextlib.contextmanager
def pretended_gpu() -> Iterator[None]:
    """Have PyTorch, and whoever asks it, believe in a GPU; new tensors have no values."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    there = types.SimpleNamespace(total_memory=GPU_BYTES)
    patches = [
        mock.patch("torch.cuda.device_count", return_value=1),
        # fake tensors would start CUDA where this is the count (PYTORCH_NVML_BASED_CUDA_CHECK, which Lightning sets)
        mock.patch("torch.cuda.is_available", return_value=False),
        mock.patch("torch.cuda.get_device_properties", return_value=there),
        mock.patch("torch.cuda.device", return_value=contextlib.nullcontext()),
        mock.patch("torch.cuda.amp.common.amp_definitely_not_available", return_value=False),
    ]
    # fake tensors can be neither copied as objects nor changed where they are
    patches.append(mock.patch("spatialme.refine.copy", types.SimpleNamespace(deepcopy=lambda network: network)))
    patches.append(mock.patch("torch.nn.Module._apply", _replace_tensors))
    patches += [mock.patch(path, stand_in) for path, stand_in in _stand_ins()]
    with contextlib.ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        stack.enter_context(torch.backends.cudnn.flags(enabled=False))  # its sampler does not know fake tensors
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        yield


def _replace_tensors(module: torch.nn.Module, change: Callable[[Tensor], Tensor]) -> torch.nn.Module:
    """In place of `Module._apply`."""
    for part in module.modules():
        for name, value in part._parameters.items():
            if value is not None:
                part._parameters[name] = torch.nn.Parameter(change(value), requires_grad=False)
        for name, value in part._buffers.items():
            if value is not None:
                part._buffers[name] = change(value)
    return module


def _stand_ins() -> Iterator[tuple[str, Any]]:
    import triton

    for name in KERNELS:
        module = importlib.import_module(name)
        for each, value in vars(module).items():
            if isinstance(value, triton.runtime.JITFunction):
                yield f"{name}.{each}", _NoKernel()
    yield "spatialme_propainter.shot._Facts", _EverythingOpen
    yield "spatialme_propainter.painter.plan_windows", _all_windows
    yield "spatialme_propainter.painter.decode_tiles", _decode_all


class _EverythingOpen:
    """In place of `shot._Facts`: every tile and window has a hole that no neighbour fills."""

    def __init__(self, holes: Tensor, unfilled: Tensor, small_holes: Tensor) -> None:
        from spatialme_propainter.decoding import tiles_with_holes
        from spatialme_propainter.window_plan import windows_with_holes

        self.is_open = [True] * len(holes)
        self.tiles = torch.empty(tiles_with_holes(holes).shape, dtype=torch.bool)
        self.windows = torch.empty(windows_with_holes(small_holes)[0].shape, dtype=torch.bool)


def _all_windows(with_holes: Tensor, grid: tuple[int, int], device: torch.device) -> Any:
    from spatialme_propainter.window_plan import WindowPlan, _window_positions

    own, near, padded_grid = _window_positions(*grid, device)
    number = torch.arange(with_holes.numel(), device=device)
    return WindowPlan(padded_grid, own, near, number * 0, number, number[:0], number[:0])


def _decode_all(decoder: Any, features: Tensor, tiles: Tensor, colours: Any) -> list[Tensor]:
    from spatialme_propainter import decoding

    place = torch.zeros(decoding.TILES_AT_ONCE, dtype=torch.long)
    painted = [colour.clone() for colour in colours]
    decoding._decode(decoder, features, place, place, place)  # one portion is like another
    return painted
