"""From nearness to signed disparity: the one strength knob, and where the screen stands."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from spatialme.errors import OptionError
from spatialme.types import DepthClip

SUBJECT_QUANTILE = 0.7  # of the middle of the frame: a subject that fills 30 % of it reaches the screen, not beyond
PLANE_RANGE = (0.2, 0.8)  # always leaves some depth both before and behind the screen


@dataclass(frozen=True)
class DisparityParams:
    """Depth budget and screen plane; raises OptionError for values out of range."""

    max_disparity_percent: float = 2.5  # of the frame's width, in (0, 20]: disparity between nearness 0 and 1
    convergence: float = 0.5  # in [0, 1]: the nearness that lies on the screen; 0 puts everything in front of it

    def __post_init__(self) -> None:
        if not 0 < self.max_disparity_percent <= 20:
            raise OptionError(
                f"maximum disparity is {self.max_disparity_percent} % of the width, expected more than 0 and at most "
                "20; 2.5 is a comfortable start"
            )
        if not 0 <= self.convergence <= 1:
            raise OptionError(
                f"convergence is {self.convergence}, expected 0 (all in front) to 1 (all behind); try 0.5"
            )

    def budget_px(self, width: int, share: float = 1.0) -> float:
        """Disparity between nearness 0 and 1, in pixels of a frame `width` wide."""
        return share * self.max_disparity_percent / 100 * width

    def range_px(self, width: int, planes: Tensor, share: float = 1.0) -> Tensor:
        """Disparity of nearness 0 and of nearness 1 for screen planes of (T,) nearness: (T, 2) pixels."""
        return self.budget_px(width, share) * torch.stack([-planes, 1 - planes], dim=1)


def to_disparity(
    nearness: Tensor, params: DisparityParams, share: float = 1.0, *, convergence: Tensor | None = None
) -> Tensor:
    """Map nearness to signed disparity in pixels.

    Args:
        nearness: (T, 1, H, W) in [0, 1]; 1 is nearest.
        params: Depth budget and screen plane.
        share: Part of the disparity that this eye takes: 1, or 0.5 when the input is the centre view.
        convergence: (T,) per-frame screen plane that replaces the one in `params`, as from `AutoConvergence`.

    Returns:
        (T, 1, H, W) pixels; positive pops out of the screen.
    """
    plane: Tensor | float = params.convergence
    if convergence is not None:
        plane = convergence.to(nearness).reshape(-1, 1, 1, 1)
    return params.budget_px(nearness.shape[-1], share) * (nearness - plane)


class AutoConvergence:
    """Chooses the screen plane per frame, smoothly within a shot: what fills the middle of the picture rests on it.

    The plane is the `SUBJECT_QUANTILE` of nearness in the middle half of the frame's width and height, kept within
    `PLANE_RANGE` and averaged over the window ``t - lookback .. t + lookahead`` of the shot with raised-cosine weights.
    Holds at most `lookahead` frames plus one incoming clip.
    """

    def __init__(self, lookback: int = 24, lookahead: int = 8) -> None:
        if lookback < 0 or lookahead < 0:
            raise ValueError(f"lookback and lookahead must not be negative, got {lookback} and {lookahead}")
        self.lookback = lookback
        self.lookahead = lookahead

    def stream(self, depth_clips: Iterable[DepthClip]) -> Iterator[tuple[DepthClip, Tensor]]:
        """Give each clip its planes, (T,) nearness, to be passed to `to_disparity`."""
        planes: list[Tensor] = []  # one per frame of the shot, from `lookback` before the first waiting frame on
        answered = 0  # how many of them belong to frames already given
        waiting: deque[DepthClip] = deque()
        for depth_clip in depth_clips:
            waiting.append(depth_clip)
            planes.extend(_subject_nearness(depth_clip.nearness))
            ended = depth_clip.clip.ends_shot
            while waiting and (ended or len(planes) >= answered + len(waiting[0]) + self.lookahead):
                ready = waiting.popleft()
                yield ready, torch.stack([self._smoothed(planes, answered + t) for t in range(len(ready))])
                surplus = max(0, answered + len(ready) - self.lookback)
                del planes[:surplus]
                answered += len(ready) - surplus
            if ended:
                planes, answered = [], 0
        if waiting:
            raise ValueError("the last clip of a stream must have ends_shot set")

    def _smoothed(self, planes: list[Tensor], frame: int) -> Tensor:
        start, stop = max(0, frame - self.lookback), min(len(planes), frame + self.lookahead + 1)
        window = torch.stack(planes[start:stop])
        before, after = frame - start, stop - 1 - frame
        weights, total = _weights(before, after, self.lookback, self.lookahead, window.device)
        return (window * weights).sum() / total


@lru_cache(maxsize=256)  # sending them anew would wait for a GPU
def _weights(before: int, after: int, lookback: int, lookahead: int, device: torch.device) -> tuple[Tensor, float]:
    """Raised-cosine weights of the frames around one, (before + 1 + after,) float32, and their sum."""
    weights = []
    for offset in range(-before, after + 1):
        reach = 1 + (lookback if offset < 0 else lookahead)
        weights.append(0.5 + 0.5 * math.cos(math.pi * offset / reach))
    return torch.tensor(weights, device=device), sum(weights)


def _subject_nearness(nearness: Tensor) -> Tensor:
    """(T, 1, H, W) -> (T,)."""
    height, width = nearness.shape[-2:]
    middle = nearness[:, 0, height // 4 : height - height // 4, width // 4 : width - width // 4]
    sparse = middle[:, :: max(1, height // 128), :: max(1, width // 128)]  # about 4000 samples; torch allows 16 million
    return sparse.flatten(1).float().quantile(SUBJECT_QUANTILE, dim=1).clamp(*PLANE_RANGE)
