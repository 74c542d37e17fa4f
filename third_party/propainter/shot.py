"""A shot of any length, inpainted at constant memory: three stages, each a generator that takes what it needs.

```
ShotFrame --complete flows--> LinkedFrame --propagate images--> UpdatedFrame --paint windows--> colours
```
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .decoding import tiles_with_holes
from .flow_completion import FlowCompletion
from .generator import InpaintGenerator, shrink_flows, shrink_masks
from .image_propagation import propagate_frames
from .painter import UpdatedFrame, paint_windows
from .schedule import Schedule, sub_videos
from .window_plan import windows_with_holes


@dataclass(frozen=True)
class Networks:
    """The two networks that have parameters, on one device, in evaluation mode."""

    generator: InpaintGenerator  # float32, or half precision on a GPU
    flow_completion: FlowCompletion  # float32


@dataclass(frozen=True)
class ShotFrame:
    """One frame as it enters. The flow has a grid of its own that covers the same picture, in that grid's pixels."""

    colour: Tensor  # (3, H, W) in [-1, 1] in the generator's dtype, zero in the hole; H and W multiples of 8
    hole: Tensor  # (1, H, W) bool
    flow_forward: Tensor  # (2, h, w) float32 to the next frame; h and w multiples of 8. Not read for the last frame
    flow_backward: Tensor  # (2, h, w) to the frame before. Not read for the first
    flow_hole: Tensor  # (1, h, w) bool: where no flow is known


@dataclass(frozen=True)
class LinkedFrame:
    """A frame with the completed flows between it and the next one in place of its own."""

    colour: Tensor  # as in `ShotFrame`
    hole: Tensor
    flows: Tensor | None  # (2, 2, h, w) grid pixels: to the next frame, and back from it; none for a shot's last frame


def inpaint_shot(
    frames: Iterable[ShotFrame], networks: Networks, schedule: Schedule, *, as_published: bool = False
) -> Iterator[Tensor]:
    """Inpaint one shot.

    Args:
        frames: Of one shot, in order, of one size.
        networks: On the frames' device.
        schedule: Which frames see each other. At most ``schedule.lookahead`` frames are taken ahead of a result.
        as_published: Nothing skipped, overlapping windows blended as `painter.PublishedBlend` says; see there.

    Yields:
        (3, H, W) float32 in [0, 1] for each frame; only hole pixels mean anything.
    """
    linked = complete_flows(frames, networks.flow_completion, schedule)
    updated = propagate_shot(linked, schedule)
    return paint_windows(updated, networks.generator, schedule, as_published=as_published)


def complete_flows(
    frames: Iterable[ShotFrame], flow_completion: FlowCompletion, schedule: Schedule
) -> Iterator[LinkedFrame]:
    """Replace the flow inside holes by the network's, piece by piece."""
    pairs = itertools.pairwise(itertools.chain(frames, [None]))  # the last frame comes with None
    for piece, core in sub_videos(pairs, schedule.flow_length, schedule.flow_padding):
        yield from _link_piece(piece, core, flow_completion)


def _link_piece(
    piece: Sequence[tuple[ShotFrame | None, ShotFrame | None]], core: slice, flow_completion: FlowCompletion
) -> list[LinkedFrame]:
    linked = [(first, second) for first, second in piece if first is not None and second is not None]
    flows: list[Tensor | None] = [*_complete_piece(linked, flow_completion)] if linked else []
    flows += [None] * (len(piece) - len(linked))
    return [
        LinkedFrame(first.colour, first.hole, None if flow is None else flow.clone())  # a part would keep the piece's
        for (first, _), flow in zip(piece[core], flows[core])
        if first is not None
    ]


def _complete_piece(pairs: Sequence[tuple[ShotFrame, ShotFrame]], flow_completion: FlowCompletion) -> Tensor:
    """(N, 2, 2, h, w) for N pairs of neighbours."""
    forward = torch.stack([first.flow_forward for first, _ in pairs])[None]
    backward = torch.stack([second.flow_backward for _, second in pairs])[None]
    holes = torch.stack([pairs[0][0].flow_hole, *(second.flow_hole for _, second in pairs)])[None]
    completed = flow_completion.complete(forward, backward, holes.to(forward.dtype))
    return torch.stack(completed, dim=2)[0].float()


def propagate_shot(linked: Iterable[LinkedFrame], schedule: Schedule) -> Iterator[UpdatedFrame]:
    """Copy pixels along the flow into the holes, piece by piece. Waits for the device once per piece."""
    for piece, core in sub_videos(linked, schedule.image_length, schedule.image_padding):
        yield from _propagate_piece(piece, core)


def _propagate_piece(piece: Sequence[LinkedFrame], core: slice) -> list[UpdatedFrame]:
    dtype = piece[0].colour.dtype
    holes = [each.hole[None].to(dtype) for each in piece]
    filled, unfilled = propagate_frames(
        [each.colour[None] for each in piece], holes, lambda t: _full_size_flows(piece[t])
    )
    core_holes, core_unfilled = torch.cat(holes[core]), torch.cat(unfilled[core])
    small_masks = torch.cat((shrink_masks(core_holes[None]), shrink_masks(core_unfilled[None])), dim=2)
    facts = _Facts(core_holes, core_unfilled, small_masks[:, :, :1])
    updated = []
    for n, (each, colour, still) in enumerate(zip(piece[core], filled[core], unfilled[core])):
        updated.append(
            UpdatedFrame(
                colour=colour[0],
                hole=each.hole,
                unfilled=still[0].bool(),
                small_masks=small_masks[0, n],
                small_flows=None if each.flows is None else _small_flows(each),
                is_open=bool(facts.is_open[n]),
                tiles=facts.tiles[n],
                windows=facts.windows[n],
            )
        )
    return updated


def _full_size_flows(linked: LinkedFrame) -> tuple[Tensor, Tensor]:
    """Flow to the next frame and back from it at frame size, in its pixels: (1, 2, H, W) each."""
    assert linked.flows is not None  # only a shot's last frame has none
    height, width = linked.colour.shape[-2:]
    flows, (grid_height, grid_width) = linked.flows, linked.flows.shape[-2:]
    if (grid_height, grid_width) != (height, width):
        flows = F.interpolate(flows, size=(height, width), mode="bilinear", align_corners=False)
        flows[:, 0] *= width / grid_width
        flows[:, 1] *= height / grid_height
    return flows[:1], flows[1:]


def _small_flows(linked: LinkedFrame) -> Tensor:
    """The same at feature size: (2, 2, h, w)."""
    return torch.cat([shrink_flows(flow[None])[0] for flow in _full_size_flows(linked)])


class _Facts:
    """What the host must know of each frame to plan the work, in one transfer."""

    def __init__(self, holes: Tensor, unfilled: Tensor, small_holes: Tensor) -> None:
        tiles = tiles_with_holes(holes)
        parts = (unfilled.flatten(1).any(dim=1, keepdim=True), tiles.flatten(1), windows_with_holes(small_holes)[0])
        is_open, flat_tiles, self.windows = (
            torch.cat(parts, dim=1).cpu().split([part.shape[1] for part in parts], dim=1)
        )
        self.is_open = is_open[:, 0]
        self.tiles = flat_tiles.view(tiles.shape)
