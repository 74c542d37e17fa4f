"""`spatialme compare` at work: every method on every clip, judged against the real right view.

pairs -> checks -> disparity (cached) -> each method -> metrics -> rows -> results.csv, results.md, report.html
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spatialme.errors import InputError, SpatialmeError
from spatialme.evaluation.baselines import method_spec
from spatialme.evaluation.checks import check_distinct, check_eye_order, check_rectified
from spatialme.evaluation.comfort import measure_comfort
from spatialme.evaluation.dists import Dists
from spatialme.evaluation.external import Tool, next_view
from spatialme.evaluation.matching import Engine, Matched, match_cached, read_maps, sgbm
from spatialme.evaluation.metrics import measure
from spatialme.evaluation.pairs import ClipSource, StereoPair, read_pieces
from spatialme.evaluation.parallax import cut_shared, median_shift
from spatialme.evaluation.perceptual import Lpips
from spatialme.evaluation.protocols import Protocol
from spatialme.evaluation.results import Row, Shown
from spatialme.evaluation.run_method import MethodRunner, motion_of, warped_clips
from spatialme.flow import FlowEstimator
from spatialme.shots import to_arrays
from spatialme.types import Motion, join
from spatialme.weights import find

LOGGER = logging.getLogger(__name__)

SHOWN_CLIPS = 12  # the report's page keeps pictures of the first ones
COMFORT_FRAMES = 2  # of each piece: alignment and depth change slowly, and looking for them takes as long as a method
VGG16 = "vgg16"  # as `spatialme.weights` lists it


@dataclass(frozen=True)
class Material:
    """One piece of a clip as every method gets it, and what judges their views. All on the CPU."""

    pair: StereoPair
    disparity: Tensor  # (T, 1, H, W) px of the left view
    right_disparity: Tensor  # (T, 1, H, W) px of the base warp, meaningless in its holes
    hole: Tensor  # (T, 1, H, W) bool, of the base warp
    motion: Motion | None  # of the right view
    shift_px: int  # by which the eyes have been shifted against each other
    scored: list[int]  # frames of the piece


@dataclass
class _Account:
    """One method on one clip, piece by piece."""

    frames: int = 0
    seconds: float | None = None
    peak_memory_mb: float | None = None
    error: str = ""
    parts: list[tuple[int, dict[str, float | None]]] = field(default_factory=list)  # frames scored, their means

    def row(self, source: ClipSource, method: str) -> Row:
        if self.error:
            return Row(source.name, method, error=self.error, group=source.group)
        per_frame = None if self.seconds is None else self.seconds / self.frames
        values = _mean_of_parts(self.parts)
        return Row(source.name, method, self.frames, values, per_frame, self.peak_memory_mb, group=source.group)


class Comparer:
    """Judges methods on one clip at a time; holds the methods, their networks and one piece of a clip."""

    def __init__(
        self,
        methods: Sequence[str],
        tools: Sequence[Tool],
        *,
        protocol: Protocol,
        matcher: tuple[str, Engine] | Path,
        cache: Path,
        device: torch.device,
        flow: FlowEstimator,
    ):
        """Load the methods; one that cannot be loaded fails on every clip.

        Args:
            methods: As `method_spec` knows them.
            tools: Others whose files are judged beside them.
            protocol: What of the clips is compared.
            matcher: Gives the real pairs' disparity: an engine with its name, or a folder of maps.
            cache: Where an engine's maps are kept.
            device: Where methods and metrics run.
            flow: For the methods that want it, and for the metrics over time.
        """
        self.protocol = protocol
        self._tools = {tool.name: tool for tool in tools}
        self._matcher, self._cache, self._device, self._flow = matcher, cache, device, flow
        self._networks: dict[str, Any] = {"lpips": Lpips(device=device)}
        vgg16 = find(VGG16)
        if vgg16 is not None:
            self._networks["lpips_vgg"] = Lpips(vgg16_weights=vgg16, device=device)
            self._networks["dists"] = Dists(vgg16, device=device)
        self._runners: dict[str, MethodRunner | SpatialmeError] = {}
        for name in methods:
            try:
                self._runners[name] = MethodRunner(name, device, flow)
            except SpatialmeError as error:
                self._runners[name] = error

    @property
    def names(self) -> list[str]:
        """All that get a row, in order."""
        return [*self._runners, *self._tools]

    def clip(self, source: ClipSource, *, show: bool) -> tuple[list[Row], Shown | None]:
        """Rows of one clip, one for each of `names`; and its picture in the middle of the first piece if `show`."""
        accounts = {name: _Account() for name in self.names}
        shown: Shown | None = None
        try:
            frames = {name: tool.frames(source, self.protocol) for name, tool in self._tools.items()}
            for material in self._materials(source):
                views = {name: self._judged(name, accounts[name], material, frames) for name in accounts}
                if show and shown is None:
                    shown = _shown(material, {name: view for name, view in views.items() if view is not None})
        except SpatialmeError as error:
            LOGGER.warning("%s", error)
            accounts = {name: _Account(error=_one_line(error)) for name in accounts}
        return [account.row(source, name) for name, account in accounts.items()], shown

    def _materials(self, source: ClipSource) -> Iterator[Material]:
        shift = None
        for pair in read_pieces(source, self.protocol):
            if shift is None:
                check_distinct(pair)
                check_rectified(pair)
            matched = self._matched(pair)
            if shift is None:
                if pair.disparity is None:  # a pair made of one picture has its eyes in order
                    check_eye_order(pair, matched)
                shift = median_shift(matched.agreed) if self.protocol.parallax == "centred" else 0
            yield self._material(pair, matched, shift)

    def _matched(self, pair: StereoPair) -> Matched:
        if pair.disparity is not None:
            return Matched(pair.disparity, pair.disparity)
        if isinstance(self._matcher, Path):
            return read_maps(self._matcher, pair, self.protocol)
        name, engine = self._matcher
        return match_cached(pair, engine, name, self._cache)

    def _material(self, pair: StereoPair, matched: Matched, shift: int) -> Material:
        every = self.protocol.score_every
        left, right, disparity = cut_shared(pair.left, pair.right, matched.filled, shift)
        warped = join(list(warped_clips(left, disparity)))
        motion = motion_of(right.to(self._device), self._flow) if every == 1 and len(pair) > 1 else None
        scored = [frame for frame in range(len(pair)) if (pair.first_index + frame) % every == 0]
        cut = replace(pair, left=left, right=right, disparity=None)
        return Material(cut, disparity, warped.disparity, warped.hole, motion, shift, scored)

    def _judged(
        self, name: str, account: _Account, material: Material, frames: dict[str, Iterator[np.ndarray]]
    ) -> Tensor | None:
        """Run and measure one method; what goes wrong is its row's affair alone."""
        if account.error:
            return None
        try:
            view, hole = self._view(name, account, material, frames)
            account.frames += len(material.pair)
            if material.scored:
                account.parts.append((len(material.scored), self._measured(name, view, hole, material)))
            return view
        except Exception as error:  # whatever it is: the other methods go on
            account.error = _one_line(error)
            LOGGER.warning("%s, %s: %s", material.pair.name, name, account.error)
            return None

    def _view(
        self, name: str, account: _Account, material: Material, frames: dict[str, Iterator[np.ndarray]]
    ) -> tuple[Tensor, Tensor | None]:
        """A method's view, and the holes by which its regions are told: an external tool has holes of its own."""
        pair = material.pair
        if name in self._tools:
            tool = self._tools[name]
            view = next_view(tool, frames[name], pair, material.shift_px)
            account.seconds, account.peak_memory_mb = tool.seconds(pair.name), tool.peak_memory_mb(pair.name)
            return view, None
        runner = self._runners[name]
        if isinstance(runner, SpatialmeError):
            raise runner
        run = runner(pair.left, material.disparity)
        account.seconds = (account.seconds or 0.0) + run.seconds
        account.peak_memory_mb = max(account.peak_memory_mb or 0.0, run.peak_memory_mb)
        return run.view, material.hole

    def _measured(self, name: str, view: Tensor, hole: Tensor | None, material: Material) -> dict[str, float | None]:
        pair, scored = material.pair, material.scored
        prediction, truth, left = (eye[scored].to(self._device) for eye in (view, pair.right, pair.left))
        holes = None if hole is None else hole[scored].to(self._device)
        keeps_warp = name not in self._tools and method_spec(name).keeps_warp
        disparity = material.right_disparity[scored].to(self._device) if keeps_warp else None
        found = measure(prediction, truth, left, holes, flow=material.motion, disparity=disparity, **self._networks)
        return found | _comfort(view, material, keeps_warp=keeps_warp)


def compare_all(comparer: Comparer, sources: Sequence[ClipSource]) -> tuple[list[Row], list[Shown]]:
    """Every clip.

    Raises:
        InputError: Nothing worked; it says why the first clip failed.
    """
    rows: list[Row] = []
    shown: list[Shown] = []
    for source in sources:
        of_clip, picture = comparer.clip(source, show=len(shown) < SHOWN_CLIPS)
        rows += of_clip
        shown += [picture] if picture is not None else []
    if all(row.error for row in rows):
        raise InputError(rows[0].error)
    return rows, shown


def _comfort(view: Tensor, material: Material, *, keeps_warp: bool) -> dict[str, float | None]:
    """Of some frames; the disparity is matched where it is not the one that the view was made with."""
    count = min(COMFORT_FRAMES, len(material.scored))
    chosen = [material.scored[index * len(material.scored) // count] for index in range(count)]
    left, right, disparity = material.pair.left[chosen], view[chosen].cpu(), material.disparity[chosen]
    if not keeps_warp:
        disparity = torch.stack([torch.from_numpy(sgbm(*eyes))[None] for eyes in zip(left, right)])
    return dataclasses.asdict(measure_comfort(left, right, disparity=disparity))


def _shown(material: Material, views: dict[str, Tensor]) -> Shown:
    """The scored frame in the middle."""
    frame = material.scored[len(material.scored) // 2]
    left, truth, *methods = (
        to_arrays(view[frame : frame + 1], np.uint8)[0]
        for view in (material.pair.left, material.pair.right, *views.values())
    )
    hole = material.hole[frame, 0].numpy()
    index = material.pair.first_index + frame
    return Shown(material.pair.name, index, left, truth, hole, dict(zip(views, methods)))


def _mean_of_parts(parts: Sequence[tuple[int, dict[str, float | None]]]) -> dict[str, float | None]:
    """Means over all frames out of means over pieces; pieces without a value do not count."""
    names = parts[0][1] if parts else {}
    means: dict[str, float | None] = {}
    for name in names:
        known = [(count, values[name]) for count, values in parts if values[name] is not None]
        total = math.fsum(count * value for count, value in known if value is not None)
        means[name] = total / sum(count for count, _ in known) if known else None
    return means


def _one_line(error: Exception) -> str:
    said = " ".join(str(error).split())
    return said if isinstance(error, SpatialmeError) else f"{type(error).__name__}: {said}"
