"""Paints a shot window by window. Every frame is encoded once, whichever windows it serves."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .decoding import decode_tiles
from .generator import InpaintGenerator
from .schedule import REFERENCE_REACH, WINDOW_STEP, Schedule, neighbours, references
from .window_plan import plan_windows

ENCODED_PIXELS = 6_300_000  # encoded together, three frames of 1920x1080; 240 bytes each in half precision


@dataclass(frozen=True)
class UpdatedFrame:
    """A frame after image propagation."""

    colour: Tensor  # (3, H, W) in [-1, 1], holes filled as far as neighbours show them
    hole: Tensor  # (1, H, W) bool
    unfilled: Tensor  # (1, H, W) bool
    small_masks: Tensor  # (2, h, w) at feature size: hole, unfilled
    small_flows: Tensor | None  # (2, 2, h, w): to the next frame and back from it, pixels of the feature grid
    is_open: bool  # something is unfilled
    tiles: Tensor  # (rows, columns) bool, on the CPU: which of `decoding`'s tiles have a hole
    windows: Tensor  # (windows,) bool, on the CPU: which attention windows have a hole


class Blend(Protocol):
    """Makes one frame of what several windows painted."""

    def add(self, colour: Tensor, distance: int) -> None:
        """Take (3, H, W) in [-1, 1] from a window whose centre is so many frames away."""

    def result(self) -> Tensor:
        """(3, H, W) float32 in [0, 1]."""


class WeightedMean:
    """Mean in float32; a window's weight falls in a straight line, from 6 at its centre to 1 for its outermost frame.

    So no window enters or leaves with a jump, and frames that a window sees from both sides count most.
    """

    def __init__(self) -> None:
        self._total: Tensor | None = None
        self._weight = 0.0

    def add(self, colour: Tensor, distance: int) -> None:
        weight = WINDOW_STEP + 1.0 - distance
        weighted = weight * colour.float()
        self._total = weighted if self._total is None else self._total + weighted
        self._weight += weight

    def result(self) -> Tensor:
        assert self._total is not None
        return (self._total / self._weight + 1) / 2


class PublishedBlend:
    """Half old, half new, cut to 8 bits each time. It depends on the order; published figures were made with it."""

    def __init__(self) -> None:
        self._value: Tensor | None = None

    def add(self, colour: Tensor, distance: int) -> None:
        new = ((colour.float() + 1) / 2 * 255).floor()
        self._value = new if self._value is None else (0.5 * self._value + 0.5 * new).floor()

    def result(self) -> Tensor:
        assert self._value is not None
        return self._value / 255


def paint_windows(
    frames: Iterable[UpdatedFrame], generator: InpaintGenerator, schedule: Schedule, *, as_published: bool = False
) -> Iterator[Tensor]:
    """Paint the holes of a shot.

    A window all of whose holes image propagation has filled keeps that filling, and only tiles that have holes are
    decoded; unless `as_published`, when every window is painted whole.

    Args:
        frames: The whole shot, in order.
        generator: On the frames' device.
        schedule: Decides on the references.
        as_published: See above; blends by `PublishedBlend` instead of `WeightedMean`.

    Yields:
        (3, H, W) float32 in [0, 1] per frame, right inside holes only.
    """
    shot = _Shot(frames, generator, schedule.whole_up_to)
    blends: dict[int, Blend] = {}
    for centre in itertools.count(0, WINDOW_STEP):
        local, others = shot.window(centre)
        if not local:
            break
        painted = (
            _paint_whole(generator, shot, local, others) if as_published else _paint(generator, shot, local, others)
        )
        for index, colour in zip(local, painted):
            blend = blends.setdefault(index, PublishedBlend() if as_published else WeightedMean())
            blend.add(colour, abs(index - centre))
        finished = [index for index in blends if index < centre]  # the next window begins at this one's centre
        yield from (blends.pop(index).result() for index in finished)
        shot.leave(centre)
    yield from (blend.result() for blend in blends.values())


def _paint_whole(generator: InpaintGenerator, shot: _Shot, local: range, others: Sequence[int]) -> list[Tensor]:
    """Colours (3, H, W) in [-1, 1] of the local frames."""
    return list(generator.decode(_paint_features(generator, shot, local, others)[None])[0])


def _paint(generator: InpaintGenerator, shot: _Shot, local: range, others: Sequence[int]) -> list[Tensor]:
    """As `_paint_whole` where holes are, and no work where none are."""
    frames = [shot.frames[index] for index in local]
    colours = [frame.colour for frame in frames]
    if not any(frame.is_open for frame in frames):
        return colours
    features = _paint_features(generator, shot, local, others)
    return decode_tiles(generator.decoder, features, torch.stack([frame.tiles for frame in frames]), colours)


def _paint_features(generator: InpaintGenerator, shot: _Shot, local: range, others: Sequence[int]) -> Tensor:
    """What is to be decoded for the local frames: (L, 128, h, w)."""
    shot.encode([*local, *others])
    frames = [shot.frames[index] for index in local]
    features = torch.stack([shot.features[index] for index in local])[None]
    masks = torch.stack([frame.small_masks for frame in frames])[None]
    feature_size = (features.shape[3], features.shape[4])
    flows = [frame.small_flows for frame in frames[:-1] if frame.small_flows is not None]
    between = torch.stack(flows, dim=1) if flows else masks.new_zeros((2, 0, 2, *feature_size))
    features = generator.propagate(features, masks, between[:1], between[1:])
    tokens = generator.tokenise(features)
    if others:
        tokens = torch.cat((tokens, shot.tokens_of(others)[None]), dim=1)
    with_holes = torch.stack([frame.windows for frame in frames]).any(dim=0, keepdim=True)
    plan = plan_windows(with_holes, (tokens.shape[2], tokens.shape[3]), tokens.device)
    added = generator.transform(tokens, plan, feature_size=feature_size, num_local_frames=len(local))
    return (features + added)[0]


class _Shot:
    """The frames of a shot that windows still need, and what is known of each: features, and references' tokens.

    Frames are taken from the stream when a window asks for them, and encoded once. Held are the frames, with their
    features once they are encoded, from the window's first to its last reference, and before that the tokens of every
    fifth frame; of a shot so short that references come from everywhere, all of it.
    """

    def __init__(self, frames: Iterable[UpdatedFrame], generator: InpaintGenerator, whole_up_to: int) -> None:
        self.frames: dict[int, UpdatedFrame] = {}
        self.features: dict[int, Tensor] = {}  # (128, h, w)
        self._tokens: dict[int, Tensor] = {}  # (rows, columns, 512)
        self._source = iter(frames)
        self._generator = generator
        self._whole_up_to = whole_up_to
        self._num_taken = 0
        self._num_frames: int | None = None  # known once the stream has ended

    def window(self, centre: int) -> tuple[range, list[int]]:
        """Neighbours and references; no neighbours if the centre lies behind the shot's end."""
        self._take(max(*neighbours(centre), *references(centre), self._whole_up_to))
        if self._num_frames is not None and centre >= self._num_frames:
            return range(0), []
        return neighbours(centre, self._num_frames), references(centre, self._num_frames, whole=self._is_whole)

    @property
    def _is_whole(self) -> bool:
        return self._num_frames is not None and self._num_frames <= self._whole_up_to

    def encode(self, indices: Sequence[int]) -> None:
        """Encode those of these frames that are not encoded yet, as many together as `ENCODED_PIXELS` allows."""
        new = [index for index in indices if index not in self.features and index not in self._tokens]
        at_once = max(1, ENCODED_PIXELS // self.frames[indices[0]].hole.numel())
        for first in range(0, len(new), at_once):
            portion = new[first : first + at_once]
            frames = [self.frames[index] for index in portion]
            parts = ([getattr(frame, name) for frame in frames] for name in ("colour", "hole", "unfilled"))
            encoded = self._generator.encode(*map(torch.stack, parts))
            # a part would keep the batch
            self.features.update((index, each.clone()) for index, each in zip(portion, encoded))

    def tokens_of(self, indices: Sequence[int]) -> Tensor:
        """(R, rows, columns, 512) of encoded frames."""
        new = [index for index in indices if index not in self._tokens]
        if new:
            features = torch.stack([self.features[index] for index in new])
            tokens = self._generator.tokenise(features[None])[0]
            self._tokens.update((index, each.clone()) for index, each in zip(new, tokens))
        return torch.stack([self._tokens[index] for index in indices])

    def leave(self, centre: int) -> None:
        """Drop what no window after this one needs."""
        for index in [each for each in self.frames if each < centre]:
            may_be_reference = index % WINDOW_STEP == 0 and (
                self._is_whole or index >= centre + WINDOW_STEP - REFERENCE_REACH
            )
            if may_be_reference and index in self.features:
                self.tokens_of([index])
            self.features.pop(index, None)
            if not may_be_reference or index in self._tokens:
                del self.frames[index]
        if not self._is_whole:
            for index in [each for each in self._tokens if each < centre + WINDOW_STEP - REFERENCE_REACH]:
                del self._tokens[index]

    def _take(self, last: int) -> None:
        while self._num_frames is None and self._num_taken <= last:
            frame = next(self._source, None)
            if frame is None:
                self._num_frames = self._num_taken
            else:
                self.frames[self._num_taken] = frame
                self._num_taken += 1
