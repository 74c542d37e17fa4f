"""What aligning depth steps to the picture's edges is worth: a picture, and figures where the truth is known.

    python benchmarks/depth_edges.py --crops 'a.mp4:60:300,80,200 b.mp4:12:40,40,160' --picture docs/images/edges.jpg
    python benchmarks/depth_edges.py --pair left.png,right.png,disparity.npz --scenes 12

Picture: one row per crop, `FILE:FRAME:LEFT,TOP,SIDE` in px: the frame, nearness interpolated plainly (bilinear)
and aligned (`depth/edges.py`), and the right view warped with each, holes magenta. Figures: true disparity brought
down to the network's size and up again both ways and with outlines (`depth/outlines.py`), its own answer fitted to
it, or the truth with its steps moved inside near surfaces; near true depth edges, how far nearness is off, and how near
the warped view comes to the true right eye outside the holes; and around holes, filled by the poly branch.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from spatialme.data.sample import draw_budget
from spatialme.data.scenes import draw_scene
from spatialme.depth import edges, open_depth, outlines
from spatialme.depth.network import DepthNetwork
from spatialme.inpaint.polyline import rasterise_polylines
from spatialme.shots import to_tensor
from spatialme.video.reader import open_source
from spatialme.warp import DisparityParams, forward_warp, to_disparity

STEP_SHARE = 0.1  # of the range: a true step between neighbouring pixels
REACH_PX = 8  # on both sides of a step
HALO_SHARE = 0.1  # of the range: a pixel so far off belongs to the wrong surface, or to none
INSIDE_PX = 2  # by which steps are moved inside near surfaces
RAMP_SIGMA = 1.0  # network px: about the ramp in which a network crosses an outline
SCENE_SIZE = 540, 960
TILE, PERCENT = 220, 3.0  # px of the picture; disparity of its views, in percent of the width
HOLE_COLOUR = torch.tensor([1.0, 0, 1]).view(3, 1, 1)
Picture = NDArray[np.uint8]
Upsampling = Callable[[Tensor, Tensor, Tensor], Tensor]


def plain(nearness: Tensor, guide: Tensor, frames: Tensor) -> Tensor:
    """`edges.upsample` without looking at the picture."""
    return F.interpolate(nearness, size=frames.shape[-2:], mode="bilinear", align_corners=False)


def outlined(nearness: Tensor, guide: Tensor, frames: Tensor) -> Tensor:
    """What conversions do."""
    return outlines.extend(edges.upsample(nearness, guide, frames), frames)


PICTURED: dict[str, Upsampling] = {"plain": plain, "aligned": edges.upsample}
UPSAMPLINGS = {**PICTURED, "with outlines": outlined}


class TruePair(NamedTuple):
    """A stereo pair and its disparity."""

    left: Tensor  # (1, 3, H, W)
    right: Tensor
    disparity: Tensor  # (1, 1, H, W) px, NaN where unknown


def shrunk(values: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(values, size=like.shape[-2:], mode="bilinear", antialias=True, align_corners=False)


def unit(inverse: Tensor) -> Tensor:
    low, high = inverse.quantile(0.01), inverse.quantile(0.99)
    return ((inverse - low) / (high - low)).clamp(0, 1)


def read_frame(path: Path, index: int) -> Tensor:
    with closing(open_source(path)) as source:
        return to_tensor([next(picture.rgb() for number, picture in enumerate(source) if number == index)], "cpu")


def read_crop(text: str, network: DepthNetwork) -> list[Picture]:
    path, index, box = text.rsplit(":", 2)
    left, top, side = (int(value) for value in box.split(","))
    frames = read_frame(Path(path), int(index))
    nearness = unit(network(frames))
    cells = [frames]
    maps = [upsample(nearness, shrunk(frames, nearness), frames) for upsample in PICTURED.values()]
    cells += [coloured(found) for found in maps]
    params = DisparityParams(max_disparity_percent=PERCENT, convergence=0.5)
    for found in maps:
        warped = forward_warp(frames, to_disparity(found, params))
        cells.append(torch.where(warped.hole, HOLE_COLOUR, warped.view))
    return [tile(cell[0, :, top : top + side, left : left + side]) for cell in cells]


def coloured(nearness: Tensor) -> Tensor:
    grey = (nearness[0, 0].numpy() * 255).astype(np.uint8)
    return to_tensor([np.ascontiguousarray(cv2.applyColorMap(grey, cv2.COLORMAP_INFERNO)[..., ::-1])], "cpu")


def tile(crop: Tensor) -> Picture:
    rgb = (crop.permute(1, 2, 0).numpy() * 255).round().clip(0, 255).astype(np.uint8)
    return np.asarray(cv2.resize(rgb, (TILE, TILE), interpolation=cv2.INTER_CUBIC), np.uint8)


def draw_picture(crops: list[str], path: Path, network: DepthNetwork) -> None:
    rows = [np.concatenate(read_crop(text, network), 1) for text in crops]
    cv2.imwrite(str(path), np.concatenate(rows)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])


def read_pair(text: str) -> TruePair:
    left, right, disparity = text.split(",")
    left_eye, right_eye = (read_frame(Path(path), 0) for path in (left, right))
    with np.load(disparity) as content:
        values = next(iter(content.values())).astype(np.float32)
    values[~np.isfinite(values)] = np.nan
    return TruePair(left_eye, right_eye, torch.from_numpy(values)[None, None])


def draw_pairs(count: int) -> Iterator[TruePair]:
    for number in range(count):
        random = np.random.default_rng(number)
        pair = draw_scene(random, draw_budget(random, min(SCENE_SIZE)), height=SCENE_SIZE[0], width=SCENE_SIZE[1])
        yield TruePair(*(part[None] for part in pair))


def filled(values: Tensor) -> Tensor:
    """Unknown pixels take the value of the nearest known one."""
    plane = values[0, 0].numpy()
    unknown = np.isnan(plane)
    _, labels = cv2.distanceTransformWithLabels(
        unknown.astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    by_label = np.zeros(labels.max() + 1, np.float32)
    by_label[labels[~unknown]] = plane[~unknown]
    return torch.from_numpy(by_label[labels])[None, None]


def near_steps(nearness: Tensor, known: Tensor) -> Tensor:
    """(1, 1, H, W) bool: within `REACH_PX` of a step between known neighbours, and known."""
    side = 2 * REACH_PX + 1
    change = F.max_pool2d(nearness, 3, 1, 1) + F.max_pool2d(-nearness, 3, 1, 1)
    surely = -F.max_pool2d(-known.float(), 3, 1, 1) > 0
    step = (change > STEP_SHARE) & surely
    return (F.max_pool2d(step.float(), side, 1, REACH_PX) > 0) & known


def fitted(answer: Tensor, truth: Tensor) -> Tensor:
    """A network's answer in the truth's units, by least squares."""
    gain = ((answer - answer.mean()) * (truth - truth.mean())).mean() / answer.var(unbiased=False)
    return (gain * (answer - answer.mean()) + truth.mean()).clamp(0, 1)


def measure(pair: TruePair, network: DepthNetwork) -> Iterator[tuple[str, str, list[float]]]:
    """What was brought up, how, and its figures."""
    known = pair.disparity.isfinite()
    low, high = pair.disparity[known].quantile(0.01), pair.disparity[known].quantile(0.99)
    truth = ((filled(pair.disparity) - low) / (high - low)).clamp(0, 1)
    answer = network(pair.left)
    small = shrunk(truth, answer)
    blurred = torch.from_numpy(cv2.GaussianBlur(small[0, 0].numpy(), (0, 0), RAMP_SIGMA))[None, None]
    near = near_steps(truth, known)
    target = forward_warp(pair.left, low + (high - low) * truth)
    seen = ~target.hole
    right_near = near_steps((target.disparity - low) / (high - low), seen)
    guide = shrunk(pair.left, answer)
    sources = {
        source: {name: upsample(nearness, guide, pair.left) for name, upsample in UPSAMPLINGS.items()}
        for source, nearness in (
            ("truth, shrunk", small),
            ("the same, blurred", blurred),
            (network.name, fitted(answer, small)),
        )
    }
    inside = narrower(truth)
    sources[f"truth, {INSIDE_PX} px inside"] = {"as it is": inside, "with outlines": outlines.extend(inside, pair.left)}
    for source, maps in sources.items():
        disparity = {name: low + (high - low) * found for name, found in maps.items()}
        warped = {name: forward_warp(pair.left, values) for name, values in disparity.items()}
        hole = torch.stack([view.hole for view in (target, *warped.values())]).any(0)
        compared = right_near & ~hole
        around = F.max_pool2d(hole.float(), 2 * REACH_PX + 1, 1, REACH_PX) > 0
        around[..., -int(high) - REACH_PX :] = False  # what the left eye does not see of the scene's end
        for name, found in maps.items():
            off = (found - truth).abs()[near]
            poly, _ = rasterise_polylines(pair.left, disparity[name])
            filled_view = torch.where(warped[name].hole, poly, warped[name].view)
            errors = (
                (view - pair.right).square().mean(1, keepdim=True)[part].mean()
                for view, part in ((warped[name].view, compared), (filled_view, around))
            )
            halo = 100 * float((off > HALO_SHARE).float().mean())
            yield source, name, [100 * float(off.mean()), halo, *map(float, errors)]


def narrower(nearness: Tensor) -> Tensor:
    """Near surfaces without their outermost columns."""
    return -F.max_pool2d(-nearness, (1, 2 * INSIDE_PX + 1), 1, (0, INSIDE_PX))


def print_figures(title: str, pairs: Iterator[TruePair], network: DepthNetwork) -> None:
    rows: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    for pair in pairs:
        for source, name, figures in measure(pair, network):
            rows[source, name].append(figures)
    halo = f"share off by {100 * HALO_SHARE:.0f} %"
    print(f"\n| {title} | upsampling | off, % of the range | {halo} | right view, dB | filled, around holes, dB |")
    print("|---|---|---|---|---|---|")
    for (source, name), found in rows.items():
        off, share, *wrong = np.mean(found, 0)
        seen, filled_in = -10 * np.log10(wrong)
        print(f"| {source} | {name} | {off:.1f} | {share:.1f} % | {seen:.2f} | {filled_in:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="tiny")
    parser.add_argument("--crops", default="")
    parser.add_argument("--picture", type=Path, default=Path("edges.jpg"))
    parser.add_argument("--pair", help="left picture, right picture and .npz of the left one's disparity")
    parser.add_argument("--scenes", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with torch.inference_mode():
        network: DepthNetwork = open_depth(options.network).network  # type: ignore[attr-defined]
        if options.crops:
            draw_picture(options.crops.split(), options.picture, network)
        if options.pair:
            print_figures(Path(options.pair.split(",")[0]).stem, iter([read_pair(options.pair)]), network)
        if options.scenes:
            print_figures(f"{options.scenes} layered scenes", draw_pairs(options.scenes), network)


if __name__ == "__main__":
    main()
