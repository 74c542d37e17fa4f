"""The flow stage: both directions between neighbouring source frames, each pair computed once."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from spatialme.flow.consistency import forward_backward_valid
from spatialme.flow.pairs import with_next_frame
from spatialme.types import Motion, WarpedClip


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
    """Adds the source eye's motion to warped clips. Holds one clip, the frame after it, and one pair's flow."""

    lookback = 1
    lookahead = 1

    def __init__(self, method: PairFlow):
        self.method = method

    def stream(self, clips: Iterable[WarpedClip]) -> Iterator[WarpedClip]:
        """Yield every clip with its `motion`.

        Raises:
            ValueError: The stream ends inside a shot.
        """
        first: Any = None  # the coming clip's first frame, prepared, while the shot goes on
        entering: PairMotion | None = None  # the pair of the coming clip's first frame and the one before
        for clip, following in with_next_frame(clips):
            frames = list(clip.clip.frames) + ([] if following is None else [following.clip.frames[0]])
            if first is None:
                first = self.method.prepare(frames[0])
            prepared = [first] + [self.method.prepare(frame) for frame in frames[1:]]
            pairs = [self._pair(*pair) for pair in itertools.pairwise(prepared)]
            around = [entering, *pairs] if following is not None else [entering, *pairs, None]
            yield replace(clip, motion=self._motion(clip, around))
            first, entering = (None, None) if following is None else (prepared[-1], pairs[-1])

    def _pair(self, first: Any, second: Any) -> PairMotion:
        flows = torch.stack(self.method.both_ways(first, second))
        return PairMotion(flows, forward_backward_valid(flows, flows.flip(0)))

    def _motion(self, clip: WarpedClip, pairs: list[PairMotion | None]) -> Motion:
        """Sort T + 1 pairs, one before each frame and one after the last, by frame; None stands at a shot's ends."""
        frames = clip.clip.frames
        height, width = self.method.grid(*frames.shape[2:])
        no_flow = frames.new_zeros((2, height, width), dtype=torch.float32)
        nowhere = frames.new_zeros((1, height, width), dtype=torch.bool)
        before, after = pairs[:-1], pairs[1:]
        return Motion(
            forward=torch.stack([no_flow if pair is None else pair.flows[0] for pair in after]),
            backward=torch.stack([no_flow if pair is None else pair.flows[1] for pair in before]),
            forward_valid=torch.stack([nowhere if pair is None else pair.valid[0] for pair in after]),
            backward_valid=torch.stack([nowhere if pair is None else pair.valid[1] for pair in before]),
        )
