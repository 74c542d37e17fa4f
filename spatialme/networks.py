"""The networks that stages hold: found, and compiled for `--compile`."""

from __future__ import annotations

import copy
import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn

from spatialme.errors import OptionError

Stages = TypeVar("Stages", bound=tuple)


@dataclass(frozen=True)
class Part:
    """What is compiled as one program."""

    module: str  # its class
    method: str = "forward"
    any_size: bool = False  # one program for inputs of all sizes; else one for each size, which is faster


# A network's class -> its parts. Any other is one part: of a film, all frames have the same size.
PARTS = {
    # as one part, its updates would be unrolled, to a program that takes minutes to compile
    "RAFT": (Part("FeatureEncoder"), Part("UpdateBlock"), Part("MaskPredictor")),
    "MHFU": (Part("MHFU", "estimate", any_size=True),),  # sees rectangles around holes, and bands
    # the rest depends on which windows and tiles have holes, or gained nothing
    "InpaintGenerator": (Part("Encoder", any_size=True), Part("DeformableAlignment")),
    "FlowCompletion": (Part("DeformableAlignment"),),
}
COMPILER_BYTES = 300_000_000  # of PyTorch's compiler in this process; measured 150 to 220 MB
MOST_PROGRAMS = 64  # of one function, for sizes and networks that share it; PyTorch's 8 are too few for ProPainter


def held_networks(value: Any) -> Iterator[nn.Module]:
    """The networks that an object of ours holds, or those that it holds, each once."""
    return _held(value, set())


def _held(value: Any, seen: set[int]) -> Iterator[nn.Module]:
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, nn.Module):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _held(item, seen)
    elif type(value).__module__.startswith("spatialme"):
        for item in getattr(value, "__dict__", {}).values():
            yield from _held(item, seen)


def compiled(stages: Stages, device: torch.device) -> Stages:
    """The same stages, copies of those that hold networks, whose networks run through `torch.compile`.

    Weights are shared, and the originals stay as they are. Compiling takes seconds to minutes, at a network's first
    call for a size. Results differ from the originals' in the last bits; what was compiled before does not matter.

    Args:
        stages: Objects of ours, or lists of such; those that share a network go on sharing it.
        device: Where they run.

    Raises:
        OptionError: What PyTorch compiles with is missing.
    """
    _check_compiler(device)
    weights = (tensor for network in held_networks(stages) for tensor in (*network.parameters(), *network.buffers()))
    without = (stage for stage in stages if next(held_networks(stage), None) is None)
    copied = copy.deepcopy(stages, {id(kept): kept for kept in (*weights, *without)})
    for network in held_networks(copied):
        name = type(network).__name__
        for part, module in itertools.product(PARTS.get(name, (Part(name),)), list(network.modules())):
            if type(module).__name__ == part.module:
                method = getattr(module, part.method)
                vars(module)[part.method] = _Compiled(method, any_size=part.any_size)
    return copied


class _Compiled:
    """A function through `torch.compile`.

    One thread at a time calls it with a size that is new, so that no two compile the same; with that size afterwards
    any number side by side, unless it is for any size.
    """

    def __init__(self, function: Callable[..., Any], *, any_size: bool) -> None:
        self._function = torch.compile(function, dynamic=any_size)
        self._any_size = any_size
        self._ready: set[tuple[torch.Size, ...]] = set()
        self._compiling = threading.Lock()

    def __call__(self, *values: Any, **named: Any) -> Any:
        sizes = tuple(value.shape for value in (*values, *named.values()) if value is not None)
        if sizes in self._ready:
            return self._function(*values, **named)
        with self._compiling, torch._dynamo.config.patch(recompile_limit=MOST_PROGRAMS):
            result = self._function(*values, **named)
        if not self._any_size:
            self._ready.add(sizes)
        return result


def _check_compiler(device: torch.device) -> None:
    """Compile something small.

    Raises:
        OptionError: That failed.
    """
    try:
        torch.compile(torch.sin)(torch.zeros(16, device=device))
    except Exception as error:  # a missing compiler, Triton or header shows in a dozen unrelated types
        needed = "Triton and a C compiler" if device.type == "cuda" else "a C++ compiler"
        reason = str(getattr(error, "inner_exception", error)).partition("\n")[0]
        raise OptionError(f"--compile needs {needed} ({reason}); install it or leave --compile out") from None
