"""How good, how fast and how steady depth is, as Markdown tables.

    python benchmarks/depth.py --networks tiny,dino.safetensors --set prepared/depth --clips a.mp4,b.mp4

Held-out pictures of a depth set (`spatialme prepare-depth`): mean absolute error over the truth's range after the best
affine map, and correlation, by source. Clips: flicker, the second difference of nearness in percent of its range,
where nothing moves and along the motion elsewhere, of per-frame min-max scaling and of this project's stabilisation,
both at the network's size; how much of the slope at depth edges the stabilisation keeps; and frames per second. Speed:
processor time of one thread per frame (of 1280x720, and of each clip at 720 rows at most), and from it what two cores
reach. The network `first-tiny` needs `--first FOLDER`.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from collections import defaultdict
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from spatialme.depth import open_depth, temporal, tiny
from spatialme.depth.flicker import aligned_second_difference, second_difference, still_parts
from spatialme.depth.network import DepthNetwork, NetworkDepth, fit_size
from spatialme.shots import to_tensor
from spatialme.training.depth_scores import depth_score
from spatialme.training.depth_set import read_index, read_picture
from spatialme.types import Clip
from spatialme.video.reader import open_source

EDGE_SLOPE = 0.06  # nearness per px of the unfiltered map, from which on there is a depth edge
EDGE_REACH = 3  # px around it
CORES, ROUNDS = 2, 7
FIRST, FIRST_SHORT_SIDE = "first-tiny", 256


def held_out_table(names: list[str], folder: Path, size: int | None, first: Path | None) -> None:
    entries = [entry for entry in read_index(folder) if entry.split == "validation" and entry.labelled]
    figures: dict[str, dict[str, list[tuple[float, float]]]] = {name: defaultdict(list) for name in names}
    for name in names:
        network = find_network(name, size, first)
        for entry in entries:
            picture = read_picture(folder, entry.name)
            answer = network(to_tensor([picture.rgb], "cpu"))
            full = F.interpolate(answer, size=picture.label.shape, mode="bilinear", align_corners=False)
            score = depth_score(full[0, 0].numpy(), picture.label)
            if not np.isnan(score.error):
                figures[name][entry.source].append(score)
    sources = sorted(figures[names[0]])
    print("\n| source (pictures) | " + " | ".join(f"{name}: error, correlation" for name in names) + " |")
    print("|---" * (1 + len(names)) + "|")
    means: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for source in sources:
        cells = []
        for name in names:
            error, correlation = np.mean(figures[name][source], 0)
            means[name].append((error, correlation))
            cells.append(f"{error:.3f}, {correlation:.2f}")
        print(f"| {source} ({len(figures[names[0]][source])}) | " + " | ".join(cells) + " |")
    totals = [np.mean(means[name], 0) for name in names]
    print(
        "| mean over the sources | "
        + " | ".join(f"{error:.3f}, {correlation:.2f}" for error, correlation in totals)
        + " |"
    )


def clip_table(
    names: list[str], clips: list[Path], frames: int, size: int | None, first: Path | None, answers: Path | None
) -> None:
    print(
        "\n| clip | network | still: per frame | steadied | times less | moving: per frame | steadied | edges kept | "
        f"fps on {CORES} cores: network | depth stage |"
    )
    print("|---" * 10 + "|")
    for path in clips:
        pictures = read_frames(path, frames)
        for name in names:
            kept = answers / f"{path.stem}_{Path(name).stem}_{frames}.pt" if answers else None
            network = Recorder(find_network(name, size, first), kept)
            if path == clips[0]:
                run_stage(Recorder(network.network), pictures[:3])  # compiles
            rest = run_stage(network, pictures) - network.seconds
            alone = network.finish()
            cells = steadiness(torch.cat(network.answers), pictures)
            cells += [f"{CORES * len(pictures) / spent:.1f}" for spent in (alone, alone + rest)]
            print(f"| {path.stem} | {Path(name).stem} | {' | '.join(cells)} |", flush=True)


class Recorder:
    """A network that keeps its answers and the processor time of its thread, in a file if one is named."""

    def __init__(self, network: DepthNetwork, kept: Path | None = None):
        self.network, self.name, self.device, self.kept = network, network.name, network.device, kept
        self.answers: list[Tensor] = []
        self.seconds = 0.0
        self.known: list[Tensor] = torch.load(kept)["answers"] if kept and kept.is_file() else []

    def __call__(self, frames: Tensor) -> Tensor:
        begun = time.thread_time()
        answered = len(self.answers)
        self.answers.append(self.known[answered] if self.known else self.network(frames))
        self.seconds += time.thread_time() - begun
        return self.answers[-1]

    def finish(self) -> float:
        """Processor time of the network, that of the run that answered if answers were kept; keep them now."""
        if self.known:
            assert self.kept is not None
            return float(torch.load(self.kept)["seconds"])
        if self.kept:
            torch.save({"answers": self.answers, "seconds": self.seconds}, self.kept)
        return self.seconds


def run_stage(network: Recorder, pictures: Tensor) -> float:
    """Processor time of the whole depth stage in one thread, without reading the film."""
    clip = Clip(pictures, tuple(range(len(pictures))), 0, 0, True, True)
    begun = time.process_time()
    for _ in NetworkDepth(network).stream([clip]):
        pass
    return time.process_time() - begun


def find_network(name: str, size: int | None, first: Path | None) -> DepthNetwork:
    if name == FIRST:
        if first is None:
            raise SystemExit(f"{FIRST} needs --first FOLDER, with its depth_tiny.py and depth_tiny_pilot.pth")
        return FirstTiny(first, size or FIRST_SHORT_SIDE)
    return open_depth(name, input_size=size).network  # type: ignore[attr-defined]


class FirstTiny:
    """`tiny` as it was before 20 November 2026: another definition, at 256 rows."""

    name, device = FIRST, torch.device("cpu")

    def __init__(self, folder: Path, short_side: int):
        spec = importlib.util.spec_from_file_location("first_tiny", folder / "depth_tiny.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self.model, self.short_side = module.TinyDepth().eval(), short_side
        state = torch.load(folder / "depth_tiny_pilot.pth", weights_only=True)
        self.model.load_state_dict({name: value.float() for name, value in state.items()}, strict=False)
        tiny.fold_batch_norms(self.model)

    def __call__(self, frames: Tensor) -> Tensor:
        size = fit_size(frames.shape[-2:], self.short_side, tiny.SIDE_MULTIPLE)
        images = F.interpolate(frames, size=size, mode="bilinear", antialias=True, align_corners=False)
        return self.model(images).float()


def read_frames(path: Path, count: int) -> Tensor:
    """(T, 3, H, W), of 720 rows at most: more is not needed to see flicker."""
    found: list[Tensor] = []
    with closing(open_source(path)) as source:
        for picture in source:
            frame = to_tensor([picture.rgb()], "cpu")
            scale = min(1.0, 720 / min(frame.shape[-2:]))
            found.append(
                F.interpolate(frame, scale_factor=scale, mode="bilinear", antialias=True) if scale < 1 else frame
            )
            if len(found) == count:
                break
    return torch.cat(found)


def steadiness(raw: Tensor, pictures: Tensor) -> list[str]:
    """What flickers, and what is left of the edges, of a network's answers, (T, 1, h, w)."""
    small = F.interpolate(pictures, size=raw.shape[-2:], mode="bilinear", antialias=True, align_corners=False)
    clip = Clip(small, tuple(range(len(small))), 0, 0, True, True)
    related = temporal.relate(clip, raw, before=None)
    stable = temporal.stabilise(related, slice(0, len(raw)))
    low, high = raw.amin((1, 2, 3), keepdim=True), raw.amax((1, 2, 3), keepdim=True)
    alone = (raw - low) / (high - low)
    still = still_parts(small)
    cells = []
    per_frame, stabilised = (mean_over(second_difference(maps), still) for maps in (alone, stable))
    cells += [f"{100 * per_frame:.2f} %", f"{100 * stabilised:.2f} %", f"{per_frame / stabilised:.1f}"]
    for maps in (alone, stable):
        change, trusted = aligned_second_difference(maps, small)
        cells.append(f"{100 * mean_over(change, trusted * (1 - still)):.2f} %")
    cells.append(f"{100 * edges_kept(raw, stable):.1f} %")
    return cells


def mean_over(values: Tensor, weight: Tensor) -> float:
    return float((values * weight).sum() / weight.sum()) if weight.sum() > 0 else float("nan")


def edges_kept(raw: Tensor, stable: Tensor) -> float:
    """Mean slope near depth edges, of the stabilised map over the unfiltered one in the same units."""
    fitted = torch.cat([fit(raw[t : t + 1], stable[t : t + 1]) for t in range(len(raw))])
    before, after = slope(fitted), slope(stable)
    near = F.max_pool2d((before > EDGE_SLOPE).float(), 2 * EDGE_REACH + 1, 1, EDGE_REACH)
    return mean_over(after, near) / mean_over(before, near)


def fit(source: Tensor, target: Tensor) -> Tensor:
    inside = (target > 0.01) & (target < 0.99)  # what was not clipped
    x, y = source[inside], target[inside]
    gain = ((x - x.mean()) * (y - y.mean())).mean() / x.var(unbiased=False)
    return (gain * (source - x.mean()) + y.mean()).clamp(0, 1)


def slope(maps: Tensor) -> Tensor:
    padded = F.pad(maps, (1, 1, 1, 1), mode="replicate")
    across = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    down = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    return (across.square() + down.square()).sqrt()


def speed_table(names: list[str], size: int | None, first: Path | None) -> None:
    print(f"\n| network | ms of one thread per frame, 1280x720 | fps on {CORES} cores |")
    print("|---|---|---|")
    frame = torch.rand(1, 3, 720, 1280, generator=torch.Generator().manual_seed(0))
    networks = [Recorder(find_network(name, size, first)) for name in names]
    spent: list[list[float]] = [[] for _ in names]
    for turn in range(1 + ROUNDS):  # in turn, as other work on the machine slows everything; the first only warms up
        for network, seconds in zip(networks, spent):
            network.seconds = 0.0
            network(frame)
            if turn:
                seconds.append(network.seconds)
    for name, seconds in zip(names, spent):
        middle = statistics.median(seconds)
        print(f"| {Path(name).stem} | {1000 * middle:.1f} | {CORES / middle:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="tiny")
    parser.add_argument("--set", type=Path)
    parser.add_argument("--clips", default="")
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--size", type=int, help="short side of what the networks see")
    parser.add_argument(
        "--answers", type=Path, help="folder in which to keep what networks answer to clips, or find it"
    )
    parser.add_argument("--first", type=Path, help=f"folder of the network `{FIRST}`")
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = options.networks.split(",")
    with torch.inference_mode():
        speed_table(names, options.size, options.first)
        if options.set:
            held_out_table(names, options.set, options.size, options.first)
        if options.clips:
            clips = [Path(clip) for clip in options.clips.split(",")]
            clip_table(names, clips, options.frames, options.size, options.first, options.answers)


if __name__ == "__main__":
    main()
