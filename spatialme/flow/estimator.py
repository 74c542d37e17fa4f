"""The flow stage: both directions between neighbouring source frames, each pair computed once."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from spatialme.flow.consistency import forward_backward_valid
from spatialme.levels import to_colours
from spatialme.stream import windows
from spatialme.transfer import to_device
from spatialme.types import Clip, Motion, WarpedClip

Value = TypeVar("Value")


class PairFlow(Protocol):
    """An optical flow method. It sees one pair at a time, so that no result depends on a batch."""

    def prepare(self, frame: Tensor) -> Any:
        """Bring a frame, (3, H, W) RGB in [0, 1], into the form that `both_ways` takes."""

    def both_ways(self, first: Any, second: Any) -> tuple[Tensor, Tensor]:
        """Flow from the first to the second and back: (2, h, w) float32 each, px of their own grid."""

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the flow for frames of that size."""


@dataclass(frozen=True)
class PairMotion:
    """Flow between two neighbouring frames, with its forward-backward check."""

    flows: Tensor  # (2, 2, h, w): there, and back
    valid: Tensor  # (2, 1, h, w) bool


class FlowEstimator:
    """Finds the motion of clips. Holds one clip, the frame after it, and one pair's flow."""

    lookback = 1
    lookahead = 1

    def __init__(self, method: PairFlow):
        self.method = method

    def stream(self, clips: Iterable[WarpedClip]) -> Iterator[WarpedClip]:
        """Yield every clip with its source eye's `motion`.

        Raises:
            ValueError: The stream ends inside a shot.
        """
        for clip, motion in self.with_motion(clips, lambda clip: clip.clip):
            yield replace(clip, motion=motion)

    def on_view(self, clips: Iterable[WarpedClip]) -> Iterator[tuple[WarpedClip, Motion]]:
        """Yield every clip with the motion of its synthesised view, holes and all; else as `stream`."""
        return self.with_motion(clips, lambda clip: replace(clip.clip, frames=clip.view))

    def with_motion(
        self, values: Iterable[Value], frames_of: Callable[[Value], Clip]
    ) -> Iterator[tuple[Value, Motion]]:
        """Yield every value with the motion of its frames.

        Args:
            values: Anything, in order.
            frames_of: Gives a value's frames, as a clip with its shot's marks.

        Raises:
            ValueError: The stream ends inside a shot.
        """
        waiting: deque[Value] = deque()

        def clips() -> Iterator[Clip]:
            for value in values:
                waiting.append(value)
                yield frames_of(value)

        first: Any = None  # the coming clip's first frame, prepared, while the shot goes on
        entering: PairMotion | None = None  # the pair of the coming clip's first frame and the one before
        for window in windows(clips(), lookback=0, lookahead=1, clip_of=lambda clip: clip):
            frames = [clip.frames[0] for clip in window.frames]
            goes_on = len(frames) > window.core.stop
            if first is None:
                first = self.method.prepare(to_colours(frames[0]))
            prepared = [first] + [self.method.prepare(to_colours(frame)) for frame in frames[1:]]
            device = frames[0].device
            pairs = [self._pair(*pair, device) for pair in itertools.pairwise(prepared)]
            around = [entering, *pairs] if goes_on else [entering, *pairs, None]
            yield waiting.popleft(), self._motion(frames[0], around)
            first, entering = (prepared[-1], pairs[-1]) if goes_on else (None, None)

    def _pair(self, first: Any, second: Any, device: torch.device) -> PairMotion:
        flows = to_device(torch.stack(self.method.both_ways(first, second)), device)
        return PairMotion(flows, forward_backward_valid(flows, flows.flip(0)))

    def _motion(self, frame: Tensor, pairs: list[PairMotion | None]) -> Motion:
        """Sort T + 1 pairs, one before each frame and one after the last, by frame; None stands at a shot's ends."""
        height, width = self.method.grid(*frame.shape[1:])
        no_flow = frame.new_zeros((2, height, width), dtype=torch.float32)
        nowhere = frame.new_zeros((1, height, width), dtype=torch.bool)
        before, after = pairs[:-1], pairs[1:]
        return Motion(
            forward=torch.stack([no_flow if pair is None else pair.flows[0] for pair in after]),
            backward=torch.stack([no_flow if pair is None else pair.flows[1] for pair in before]),
            forward_valid=torch.stack([nowhere if pair is None else pair.valid[0] for pair in after]),
            backward_valid=torch.stack([nowhere if pair is None else pair.valid[1] for pair in before]),
        )
