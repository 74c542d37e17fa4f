"""How good, how fast and how steady depth is, as Markdown tables.

    python benchmarks/depth.py --networks tiny,dino.safetensors --set prepared/depth --clips a.mp4,b.mp4

Held-out pictures of a depth set (`spatialme prepare-depth`): mean absolute error over the truth's range after the best
affine map, and correlation, by source. Clips: flicker, the second difference of nearness in percent of its range,
where nothing moves and along the motion elsewhere, of per-frame min-max scaling and of this project's stabilisation,
both at the network's size; and how much of the slope at depth edges the stabilisation keeps. Speed: processor time of
one thread per frame of 1280x720, and from it what two cores reach.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from spatialme.depth import open_depth, temporal
from spatialme.depth.flicker import aligned_second_difference, second_difference, still_parts
from spatialme.shots import to_tensor
from spatialme.training.depth_scores import depth_score
from spatialme.training.depth_set import read_index, read_picture
from spatialme.types import Clip
from spatialme.video.reader import open_source

EDGE_SLOPE = 0.06  # nearness per px of the unfiltered map, from which on there is a depth edge
EDGE_REACH = 3  # px around it
CORES = 2


def held_out_table(names: list[str], folder: Path, size: int | None) -> None:
    entries = [entry for entry in read_index(folder) if entry.split == "validation" and entry.labelled]
    figures: dict[str, dict[str, list[tuple[float, float]]]] = {name: defaultdict(list) for name in names}
    for name in names:
        network = open_depth(name, input_size=size).network  # type: ignore[attr-defined]
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


def clip_table(names: list[str], clips: list[Path], frames: int, size: int | None) -> None:
    print("\n| clip | network | still: per frame | steadied | times less | moving: per frame | steadied | edges kept |")
    print("|---|---|---|---|---|---|---|---|")
    for path in clips:
        pictures = read_frames(path, frames)
        for name in names:
            network = open_depth(name, input_size=size).network  # type: ignore[attr-defined]
            print(f"| {path.stem} | {Path(name).stem} | {steadiness(network, pictures)} |", flush=True)


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


def steadiness(network, pictures: Tensor) -> str:
    raw = torch.cat([network(pictures[i : i + 1]) for i in range(len(pictures))])
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
    return " | ".join(cells)


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


def speed_table(names: list[str], size: int | None) -> None:
    print(f"\n| network | ms of one thread per frame, 1280x720 | fps on {CORES} cores |")
    print("|---|---|---|")
    frame = torch.rand(1, 3, 720, 1280, generator=torch.Generator().manual_seed(0))
    for name in names:
        network = open_depth(name, input_size=size).network  # type: ignore[attr-defined]
        network(frame)
        spent = []
        for _ in range(7):
            begun = time.thread_time()
            network(frame)
            spent.append(time.thread_time() - begun)
        seconds = statistics.median(spent)
        print(f"| {Path(name).stem} | {1000 * seconds:.1f} | {CORES / seconds:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="tiny")
    parser.add_argument("--set", type=Path)
    parser.add_argument("--clips", default="")
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--size", type=int, help="short side of what the networks see")
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = options.networks.split(",")
    with torch.inference_mode():
        speed_table(names, options.size)
        if options.set:
            held_out_table(names, options.set, options.size)
        if options.clips:
            clip_table(names, [Path(clip) for clip in options.clips.split(",")], options.frames, options.size)


if __name__ == "__main__":
    main()
