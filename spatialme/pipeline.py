"""The converter: every stage in order, as one lazy stream.

    clips -> depth -> disparity -> warp (-> flow) -+-> branch 1 -+-> refine, compose -> eyes
                                                   +-> branch 2 -+
                                                   +-> branch 3 -+

Nothing runs until the result is asked for, and each stage holds only the frames its look-back and look-ahead name.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from spatialme.depth import DepthEstimator, open_depth
from spatialme.depth.flicker import FlickerMeter
from spatialme.depth.network import GPU_BATCH
from spatialme.device import pick_device
from spatialme.flow import open_flow
from spatialme.inpaint import BRANCHES, Branch, propainter_ready
from spatialme.levels import awake, awake_warp, resting_warp
from spatialme.memory import Reach, clip_for_gpu, host_bytes, limit_gpu_memory, longest_clip
from spatialme.networks import COMPILER_BYTES, compiled
from spatialme.refine import Refiner, compose
from spatialme.report import Tally
from spatialme.settings import ConverterSettings, plan_branches
from spatialme.shots import CutDetector, tag_shots, to_arrays
from spatialme.stream import fan_out
from spatialme.types import Clip, DepthClip, FilledView, StereoClip, WarpedClip, mirror
from spatialme.warp import AutoConvergence, DisparityParams, Warper

LOGGER = logging.getLogger(__name__)
Array = np.ndarray
Item = TypeVar("Item")

# A clip's frames together: enough to amortise the calls, few enough for memory, of which every stage holds some clips.
CLIP_PIXELS = {"cpu": 2 * 1280 * 720, "cuda": 4 * 1920 * 1080}
LONGEST_CLIP = 16
SIDE_BY_SIDE = 4  # frames that the depth stage can use at once on a CPU, one per thread;
LARGE_PIXELS = 2560 * 1440  # not above this size, where the depth network is a small part and a frame costs 0.4 GB
PERIOD_FRAMES = 10  # ProPainter's windows and pieces begin at every so many frames of a shot; other stages have none


class Converter:
    """Turns clips of one eye into stereo pairs.

    Holds the networks and no state: any number of streams may run through it, one after another.
    """

    def __init__(self, settings: ConverterSettings | None = None, *, depth: DepthEstimator | None = None):
        """Load what the settings name.

        Args:
            settings: The user's choices; the defaults when None.
            depth: An estimator to use instead of the one that the settings name.

        Raises:
            OptionError: A value out of range, or choices that contradict each other.
            WeightsError: Weights that the settings insist on are missing.
        """
        self.settings = settings or ConverterSettings()
        self.device = pick_device(self.settings.device)
        if self.settings.max_vram is not None:
            limit_gpu_memory(self.device, self.settings.max_vram * 1e9)
        self.warper = _warper(self.settings)
        licence = self.settings.licence
        self._plan = plan_branches(
            self.settings, propainter_ready=propainter_ready(licence), gpu=self.device.type == "cuda"
        )
        self.branches: list[Branch] = [BRANCHES[name](self.device, licence) for name in self._plan.names]
        self.flow = open_flow("auto", self.device) if any(b.needs_motion for b in self.branches) else None
        self.refiner: Refiner | None = None
        if self._plan.refined:
            self.refiner = Refiner.load(self.settings.refiner, device=self.device, licence=licence)
        self.depth = depth or open_depth(
            self.settings.depth, device=self.device, input_size=self.settings.depth_size, licence=licence
        )
        if self.settings.compile:
            stages = compiled((self.depth, self.flow, self.branches, self.refiner), self.device)
            self.depth, self.flow, self.branches, self.refiner = stages

    @property
    def lookahead(self) -> int:
        """Frames that the converter reads ahead of the one it yields, beside whole clips in flight."""
        stages = self.depth.lookahead + self.warper.lookahead + (self.flow.lookahead if self.flow else 0)
        return CutDetector.lookahead + stages + max(branch.lookahead for branch in self.branches)

    @property
    def lookback(self) -> int:
        """Frames of its shot before a frame that its result may depend on."""
        stages = self.depth.lookback + self.warper.lookback + (self.flow.lookback if self.flow else 0)
        return CutDetector.lookback + stages + max(branch.lookback for branch in self.branches)

    def context_start(self, first_index: int, shot_start: int) -> int:
        """Where to begin a stream of clips so that from `first_index` on it gives what the whole film would give.

        Args:
            first_index: Number of the first frame that is wanted.
            shot_start: Number of the first frame of its shot.
        """
        earliest = first_index - self.lookback - shot_start
        return shot_start + max(0, earliest // PERIOD_FRAMES * PERIOD_FRAMES)

    def memory_bound_bytes(self, width: int, height: int) -> int:
        """Most memory that a conversion on the CPU takes, whatever the video's length, by count of frames held.

        Networks larger than `tiny` (Depth Anything, ProPainter) come on top.
        """
        compiler = COMPILER_BYTES if self.settings.compile else 0
        return compiler + host_bytes(self.reach, self.clip_length(width, height), width * height)

    @property
    def reach(self) -> Reach:
        """How far its stages look, by which memory is counted."""
        return Reach(
            cuts=CutDetector.lookahead,
            depth=self.depth.lookahead,
            warper=self.warper.lookahead,
            flow=self.flow.lookahead if self.flow else 0,
            branches=[(branch.lookback, branch.lookahead) for branch in self.branches],
            eyes=2 if self.settings.eye == "both" else 1,
            trained_refiner=self.refiner is not None and self.refiner.trained,
            propainters=sum(branch.name.startswith("propainter") for branch in self.branches),
        )

    @property
    def written(self) -> str:
        """What the synthesised eye shows, in words for the report."""
        names = ", ".join(self._plan.names)
        if not self._plan.refined:
            return f"branch {names}"
        assert self.refiner is not None
        blend = "fused by the untrained refiner's initial blend"
        how = f"refined by {self.refiner.name}" if self.refiner.trained else blend
        return f"{names} {how}, in {'the holes' if self.settings.refine == 'holes' else 'the whole picture'}"

    def clip_length(self, width: int, height: int) -> int:
        """Frames per clip at this size."""
        pixels = width * height
        shortest = 1
        if self.device.type == "cpu" and pixels <= LARGE_PIXELS:
            shortest = min(SIDE_BY_SIDE, torch.get_num_threads())
        length = max(shortest, min(LONGEST_CLIP, CLIP_PIXELS[self.device.type] // pixels))
        if self.device.type != "cuda":
            return length
        if length > GPU_BATCH:
            length -= length % GPU_BATCH  # a batch that is filled up costs as much as a full one
        budget = self.settings.max_vram
        if budget is None:
            fitting = clip_for_gpu(self.reach, pixels, length, self.device)
            why = "the GPU's memory"
        else:
            fitting, why = longest_clip(self.reach, pixels, length, budget * 1e9), f"--max-vram {budget:g}"
        if fitting < length:
            LOGGER.info("%s: %dx%d in clips of %d frames, not %d", why, width, height, fitting, length)
        return fitting

    def stream(self, frames: Iterable[Array]) -> Iterator[tuple[Array, Array]]:
        """Convert (H, W, 3) RGB arrays, uint8 or uint16 over the whole range; yield (left, right) pairs of such arrays.

        Pairs come `lookahead` frames late, one for each frame and in order. Cuts are found on the way.
        """
        frames = iter(frames)
        try:
            first = next(frames)
        except StopIteration:
            return
        length = self.clip_length(first.shape[1], first.shape[0])
        clips = tag_shots(itertools.chain([first], frames), lambda frame: frame, clip_length=length, device=self.device)
        tally = Tally()
        for stereo in self.stereo(clips, tally=tally):
            left, right = (_eye_arrays(eye, stereo.clip.pictures, first.dtype) for eye in (stereo.left, stereo.right))
            tally.check_disparity()
            yield from zip(left, right)

    def stereo(
        self,
        clips: Iterable[Clip],
        *,
        tally: Tally | None = None,
        on_depth: Callable[[DepthClip], None] | None = None,
    ) -> Iterator[StereoClip]:
        """Yield one stereo clip per clip, in order; see `StereoClip` for what None means.

        Args:
            clips: Clips of whole shots, as `tag_shots` makes them; they may be `levels.resting`.
            tally: Counts what passes and where the time goes.
            on_depth: Called with each stabilised depth clip, in order, before it is warped.
        """
        run = _Run(self, tally or Tally())
        return _entered(self._inference, run.stereo(clips, on_depth))

    def warped(self, clips: Iterable[Clip]) -> Iterator[WarpedClip]:
        """Yield each clip's right view with its holes open: what a preview looks at."""
        return _entered(self._inference, self.warper.stream(self.depth.stream(map(awake, clips))))

    @contextlib.contextmanager
    def _inference(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            if self.device.type == "cuda":
                stack.enter_context(torch.cuda.device(self.device))  # Triton launches on the current one
                stack.enter_context(torch.autocast("cuda", dtype=torch.float16))
            yield


@dataclass(frozen=True)
class _Run:
    """One stream through the converter."""

    converter: Converter
    tally: Tally

    def stereo(self, clips: Iterable[Clip], on_depth: Callable[[DepthClip], None] | None) -> Iterator[StereoClip]:
        depth = self.converter.depth
        depth_clips = self.counted(self.tally.clock.timed("depth", depth.stream(map(awake, clips))), on_depth)
        eye = self.converter.settings.eye
        if eye == "both":
            for_left, for_right = fan_out(depth_clips, 2)
            lefts = self.left_views(for_left, share=0.5)
            rights = self.right_views(for_right, share=0.5)
            for (clip, left), (_, right) in zip(lefts, rights):
                yield StereoClip(clip, left, right)
        elif eye == "right":
            for clip, left in self.left_views(depth_clips, share=1.0):
                yield StereoClip(clip, left, None)
        else:
            for clip, right in self.right_views(depth_clips, share=1.0):
                yield StereoClip(clip, None, right)

    def left_views(self, depth_clips: Iterable[DepthClip], share: float) -> Iterator[tuple[Clip, Tensor]]:
        """A left view is a right view of mirrored frames, mirrored."""
        for clip, view in self.right_views(map(_mirrored, depth_clips), share):
            yield replace(clip, frames=mirror(clip.frames)), mirror(view)

    def right_views(self, depth_clips: Iterable[DepthClip], share: float) -> Iterator[tuple[Clip, Tensor]]:
        converter, clock = self.converter, self.tally.clock
        # a branch's look-ahead is what the others' clips wait for
        warped = clock.timed("warp", map(self.at_rest, converter.warper.stream(depth_clips, share=share)))
        if converter.flow:
            warped = clock.timed("flow", converter.flow.stream(warped))
        # every branch answers each clip with one of the same frames, so their streams stay in step
        base, *copies = fan_out(warped, 1 + len(converter.branches))
        filled = [clock.timed(b.name, b.stream(copy)) for b, copy in zip(converter.branches, copies)]
        return clock.timed("refine", map(self.finish, base, *filled))

    def at_rest(self, warped: WarpedClip) -> WarpedClip:
        """The clip as it shall wait; whether its disparity was finite cannot be seen afterwards."""
        self.tally.watch_disparity(warped.source_disparity)
        return resting_warp(warped)

    def finish(self, warped: WarpedClip, *filled: FilledView) -> tuple[Clip, Tensor]:
        """Fuse the branches and compose them into the warped view."""
        self.tally.count_holes(warped.hole)
        warped = awake_warp(warped)
        refiner = self.converter.refiner
        if refiner is None:
            return warped.clip, compose(warped.view, warped.hole, filled[0].view)
        poly, dl, de = (answer.view for answer in filled)
        mode = self.converter.settings.refine
        return warped.clip, refiner(warped, poly=poly, expansion=de, dl=dl, mode=mode)

    def counted(
        self, depth_clips: Iterable[DepthClip], on_depth: Callable[[DepthClip], None] | None
    ) -> Iterator[DepthClip]:
        flicker = self.tally.depth_flicker = self.tally.depth_flicker or FlickerMeter()
        flicker.restart()
        for depth_clip in depth_clips:
            flicker.feed(depth_clip)
            self.tally.frames += len(depth_clip)
            self.tally.shots += depth_clip.clip.starts_shot
            if on_depth:
                on_depth(depth_clip)
            yield depth_clip
            del depth_clip  # not to be held while the next one is made


def _warper(settings: ConverterSettings) -> Warper:
    if settings.convergence == "auto":
        return Warper(DisparityParams(settings.max_disparity), auto_convergence=AutoConvergence())
    return Warper(DisparityParams(settings.max_disparity, settings.convergence))


def _eye_arrays(eye: Tensor | None, natives: Sequence[Array], dtype: np.dtype) -> Sequence[Array]:
    """An eye's frames as arrays; None stands for the source pictures, which are arrays already."""
    return natives if eye is None else to_arrays(eye, dtype)


def _entered(context: Callable[[], AbstractContextManager[None]], items: Iterable[Item]) -> Iterator[Item]:
    """Produce each item inside a context that the consumer, running between two items, never sees."""
    source = iter(items)
    while True:
        with context():
            try:
                item = next(source)
            except StopIteration:
                return
        yield item
        del item


def _mirrored(depth_clip: DepthClip) -> DepthClip:
    clip = replace(depth_clip.clip, frames=mirror(depth_clip.clip.frames))
    return DepthClip(clip, mirror(depth_clip.nearness))
