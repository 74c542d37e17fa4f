"""The `propainter` branch: learned video inpainting (Zhou et al., ICCV 2023) with the user's own copy of the weights.

```
motion of the source eye --carry--> motion of the synthesised eye (or RAFT on the warped frames)
     -> flow completed inside holes -> pixels copied along the flow -> windows painted by the network
```

A shot is a video of its own. This is the only module that imports `spatialme_propainter`.
"""

from __future__ import annotations

import functools
import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from spatialme.errors import WeightsError
from spatialme.flow import FlowEstimator, carry_motion
from spatialme.flow.pairs import with_next_frame
from spatialme.inpaint.expansion_branch import Expansion
from spatialme.inpaint.propainter_flow import FullSizeRaft
from spatialme.inpaint.propainter_input import prepare_input
from spatialme.levels import to_colours
from spatialme.types import FilledView, Motion, WarpedClip
from spatialme.weights import COMPANIONS, WEIGHTS, Licence, allowed, find

if TYPE_CHECKING:
    from spatialme_propainter import Networks, ShotFrame

NETWORKS = ("propainter", "propainter-flow-completion")
RAFT = "raft-things"
FlowSource = Literal["carried", "raft"]


class Propainter:
    """Fills holes with ProPainter.

    Holds ``lookahead + 1`` views and fewer than 100 frames of what networks take and make of them, for a shot of any
    length: in half precision at 1920x1080 3.4 GB, and up to 2.7 GB more while it paints a window that is all holes
    (`memory.PROPAINTER_BYTES`).
    """

    name = "propainter"

    def __init__(self, networks: Networks, *, raft: FlowEstimator | None = None, exact: bool = False):
        """Compose the branch; `open_propainter` does it with the weights of this machine.

        Args:
            networks: On the device of the clips.
            raft: Estimates flow on the warped frames, as published; none carries the source eye's motion over.
            exact: The published order for comparisons: references from the whole shot up to 80 frames, pieces of 80
                frames, flow completed at frame size, nothing skipped, windows blended in 8 bits.
        """
        from spatialme_propainter import PUBLISHED, Schedule

        self.networks = networks
        self.raft = raft
        self.exact = exact
        self.needs_motion = raft is None
        self._schedule = PUBLISHED if exact else Schedule()
        # carrying and estimating look at one neighbour on each side
        self.lookback, self.lookahead = self._schedule.lookback + 1, self._schedule.lookahead + 1

    def stream(self, clips: Iterable[WarpedClip]) -> Iterator[FilledView]:
        """Yield one filled view per clip; its hole mask is the warp's.

        Raises:
            ValueError: A clip has no motion though it is carried, or the stream ends inside a shot.
        """
        moving = self._with_motion(clips)
        for first in moving:
            yield from self._fill_shot(itertools.chain([first], moving))

    def _with_motion(self, clips: Iterable[WarpedClip]) -> Iterator[tuple[WarpedClip, Motion]]:
        """Every clip with the motion of its synthesised view."""
        if self.raft is not None:
            yield from self.raft.on_view(clips)
            return
        before: Tensor | None = None
        for clip, following in with_next_frame(clips):
            yield clip, carry_motion(clip, before, None if following is None else following.source_disparity)
            before = None if following is None else clip.source_disparity[-1:]

    def _fill_shot(self, moving: Iterator[tuple[WarpedClip, Motion]]) -> Iterator[FilledView]:
        """Fill clips up to the shot's last; leaves the iterator at the next shot."""
        from spatialme_propainter import inpaint_shot

        waiting: deque[tuple[Tensor, Tensor]] = deque()  # view and hole of clips that are not painted yet
        frames = self._shot_frames(moving, waiting)
        painted = inpaint_shot(frames, self.networks, self._schedule, as_published=self.exact)
        for first in painted:
            view, hole = waiting[0]
            colours = torch.stack([first, *itertools.islice(painted, len(view) - 1)])
            waiting.popleft()
            yield FilledView(_compose(view, hole, colours), hole)

    def _shot_frames(
        self, moving: Iterator[tuple[WarpedClip, Motion]], waiting: deque[tuple[Tensor, Tensor]]
    ) -> Iterator[ShotFrame]:
        """The networks' input up to the shot's end; notes in `waiting` what their answers go into."""
        from spatialme_propainter import ShotFrame

        dtype = next(self.networks.generator.parameters()).dtype
        for clip, motion in moving:
            waiting.append((clip.view, clip.hole))
            prepared = prepare_input(clip, motion, dtype=dtype, flow_at_frame_size=self.exact)
            maps = prepared.colour, prepared.hole, prepared.flow_forward, prepared.flow_backward, prepared.flow_hole
            yield from (ShotFrame(*frame) for frame in zip(*maps))
            if clip.clip.ends_shot:
                return


class PropainterExpansion(Expansion):
    """ProPainter on the expanded warp: the DE branch."""

    name = "propainter_expansion"


def open_propainter(
    device: torch.device, *, licence: Licence = "any", flow: FlowSource = "carried", exact: bool = False
) -> Propainter:
    """Make the branch with the weights on this machine; branches of one device share their networks.

    Args:
        device: Where clips are and networks run; in half precision on a GPU, unless `exact`.
        licence: ``commercial`` refuses, for the weights are non-commercial.
        flow: ``carried`` from the source eye, or ``raft`` on the warped frames, as published.
        exact: See `Propainter`.

    Raises:
        WeightsError: Weights are missing, damaged, or not allowed.
    """
    networks = load_networks(device, licence=licence, half=device.type == "cuda" and not exact)
    raft = FlowEstimator(FullSizeRaft(weights_path(RAFT, licence), device)) if flow == "raft" else None
    return Propainter(networks, raft=raft, exact=exact)


def open_propainter_expansion(device: torch.device, *, licence: Licence = "any") -> PropainterExpansion:
    """Make the DE branch; otherwise as `open_propainter`."""
    return PropainterExpansion(open_propainter(device, licence=licence))


def ready(licence: Licence) -> bool:
    """Whether ProPainter's weights are on this machine and may be used."""
    return all(allowed(name, licence) and find(name) is not None for name in NETWORKS)


def load_networks(device: torch.device, *, licence: Licence, half: bool) -> Networks:
    """Both networks, in evaluation mode; loaded once per device and precision.

    Raises:
        WeightsError: Weights are missing, damaged, or not allowed.
    """
    generator, completion = (weights_path(name, licence) for name in NETWORKS)
    return _load_networks(generator, completion, device, half=half)


def weights_path(name: str, licence: Licence) -> Path:
    """Where these weights lie.

    Raises:
        WeightsError: They are missing or not allowed; one line names every missing file, its licence and what to run.
    """
    if not allowed(name, licence):
        raise WeightsError(
            f"ProPainter's weights are {WEIGHTS[name].licence}, which --licence {licence} excludes; "
            "use `--inpaint propagation`, which needs no weights"
        )
    path = find(name)
    if path is None:
        missing = [each for each in (*NETWORKS, RAFT) if each in (*NETWORKS, name) and find(each) is None]
        files = ", ".join(f"{WEIGHTS[each].file_name} ({WEIGHTS[each].licence})" for each in missing)
        brought = {companion for each in missing for companion in COMPANIONS.get(each, ())}
        fetch = " && ".join(_fetch_command(each) for each in missing if each not in brought)
        raise WeightsError(f"ProPainter needs {files}; run `{fetch}`, or use `--inpaint propagation`")
    return path


def _fetch_command(name: str) -> str:
    return f"spatialme weights fetch {name}" + ("" if WEIGHTS[name].commercial else " --accept-licence")


@functools.lru_cache(maxsize=2)
def _load_networks(generator_path: Path, completion_path: Path, device: torch.device, *, half: bool) -> Networks:
    from spatialme_propainter import CheckpointError, Networks, load_flow_completion, load_generator

    try:
        generator, completion = load_generator(generator_path), load_flow_completion(completion_path)
    except (CheckpointError, OSError) as error:
        raise WeightsError(str(error)) from error
    if half:
        generator = generator.half().to(memory_format=torch.channels_last)
    return Networks(generator.to(device), completion.to(device))


def _compose(view: Tensor, hole: Tensor, colours: Tensor) -> Tensor:
    """The view with its holes painted: (T, 3, H, W)."""
    height, width = view.shape[2:]
    known = to_colours(view)
    return torch.where(hole, colours[..., :height, :width].to(known.dtype), known)
