"""From a depth network to stabilised nearness at frame size: the stage that all networks share.

frames -> network -> RawDepth -> stabilise (window of the shot) -> sharpen, upsample -> outlines -> DepthClip
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from typing import Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from spatialme.depth import edges, outlines, temporal
from spatialme.depth.temporal import RawDepth
from spatialme.levels import awake, resting
from spatialme.stream import Window, windows
from spatialme.types import Clip, DepthClip, cut

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
GPU_BATCH = 4  # frames per call; the last batch of a clip is padded to it, so that the kernels never change

Result = TypeVar("Result")


class DepthNetwork(Protocol):
    """Turns frames into raw inverse depth, frame by frame, with no memory of other frames."""

    name: str
    device: torch.device

    def __call__(self, frames: Tensor) -> Tensor:
        """(T, 3, H, W) RGB in [0, 1] -> (T, 1, h, w) float32, larger = nearer, arbitrary scale and offset."""
        ...


class NetworkDepth:
    """Runs a network over a stream of clips and stabilises what it says within each shot; a `DepthEstimator`.

    Holds `lookahead` frames at full size, and `lookback + lookahead` at network size.
    """

    lookback = temporal.LOOKBACK
    lookahead = temporal.LOOKAHEAD

    def __init__(self, network: DepthNetwork, notices: Iterable[str] = ()):
        self.network = network
        self.name = network.name
        self.notices = list(notices)

    def stream(self, clips: Iterable[Clip]) -> Iterator[DepthClip]:
        """Yield each clip with its nearness, one for one and in order, `lookahead` frames late."""
        waiting: deque[Clip] = deque()
        workers = torch.get_num_threads()
        with SingleThreaded(workers) if self.network.device.type == "cpu" else nullcontext() as pool:
            raw = self._measured(clips, waiting, pool)
            for window in windows(
                raw, lookback=self.lookback, lookahead=self.lookahead, clip_of=lambda value: value.clip
            ):
                yield _at_frame_size(window, awake(waiting.popleft()), pool)

    def _measured(self, clips: Iterable[Clip], waiting: deque[Clip], pool: SingleThreaded | None) -> Iterator[RawDepth]:
        """Every clip's raw depth and its relation to the frame before, each computed once."""
        before: RawDepth | None = None
        for clip in clips:
            waiting.append(resting(clip))
            inverse = self._infer(clip.frames, pool)
            small = F.interpolate(
                clip.frames, size=inverse.shape[-2:], mode="bilinear", antialias=True, align_corners=False
            )
            guide = replace(clip, frames=small)
            raw = temporal.relate(guide, inverse, before=None if clip.starts_shot else before, each=pool)
            before = cut(raw, len(clip) - 1, len(clip))
            del clip  # not to be held while the next one is decoded
            yield raw

    def _infer(self, frames: Tensor, pool: SingleThreaded | None) -> Tensor:
        if pool is not None:
            return torch.cat(pool.map(lambda i: self.network(frames[i : i + 1]), len(frames)))
        batches = []
        for start in range(0, len(frames), GPU_BATCH):
            batch = frames[start : start + GPU_BATCH]
            batches.append(self.network(_padded(batch))[: len(batch)])
        return torch.cat(batches).to(frames.device)


def _padded(batch: Tensor) -> Tensor:
    """Up to `GPU_BATCH` frames, the last one repeated; copies unless there is one or enough of them."""
    if len(batch) == 1:
        return batch.expand(GPU_BATCH, -1, -1, -1)
    missing = GPU_BATCH - len(batch)
    return torch.cat((batch, batch[-1:].expand(missing, -1, -1, -1))) if missing else batch


def _at_frame_size(window: Window[RawDepth], clip: Clip, pool: SingleThreaded | None) -> DepthClip:
    joined = window.joined()
    small = _stabilised(joined, window.core, pool)
    aligned = edges.upsample(small, joined.clip.frames[window.core], clip.frames)
    return DepthClip(clip, outlines.extend(aligned, clip.frames))


def _stabilised(raw: RawDepth, core: slice, pool: SingleThreaded | None) -> Tensor:
    if pool is None:
        return temporal.stabilise(raw, core)
    frames = range(core.start, core.stop)
    return torch.cat(pool.map(lambda i: temporal.stabilise(raw, slice(frames[i], frames[i] + 1)), len(frames)))


class SingleThreaded:
    """Runs frames side by side, each in one thread of its own.

    As fast as sharing every convolution among the threads, and the result no longer depends on how many there are:
    oneDNN splits the sums of some convolutions by the number of threads.
    """

    def __init__(self, workers: int):
        # In OpenMP the number of threads belongs to the calling thread, but torch also hands the last one set to
        # threads that start later: each worker therefore sets its own, and the caller's number is set again after.
        self._pool = ThreadPoolExecutor(workers, "depth", initializer=torch.set_num_threads, initargs=(1,))
        self._threads = torch.get_num_threads()

    def __enter__(self) -> SingleThreaded:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def map(self, function: Callable[[int], Result], count: int) -> list[Result]:
        """``[function(0), ..., function(count - 1)]``, in the caller's inference mode."""
        inference = torch.is_inference_mode_enabled()

        def call(index: int) -> Result:
            with torch.inference_mode(inference):
                return function(index)

        results = list(self._pool.map(call, range(count)))
        torch.set_num_threads(self._threads)
        return results


def fit_size(size: torch.Size | tuple[int, int], short_side: int, multiple: int) -> tuple[int, int]:
    """(height, width) with the short side near `short_side`, both rounded to `multiple`, aspect kept as well as can be.

    Args:
        size: (height, width) of the frames.
        short_side: Wanted length of the shorter side, in pixels.
        multiple: What both sides must be divisible by.
    """
    scale = short_side / min(size)
    height, width = (max(multiple, round(side * scale / multiple) * multiple) for side in size)
    return height, width
