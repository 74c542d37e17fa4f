"""The GPU's kernels and ways against what the CPU computes, on small inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import gpu_scenes
import torch
from torch import Tensor

EXACT = 0.0


@dataclass(frozen=True)
class Check:
    """One comparison: the largest difference that is allowed, and how many values may differ more."""

    name: str
    largest: float
    share: float  # of the values that may differ by more
    answers: Callable[[torch.device], list[Tensor]]


def run_checks(device: torch.device) -> bool:
    """Print a table; whether all is well."""
    good = True
    print("| check | largest difference | share beyond | allowed | |\n|---|---|---|---|---|")
    for check in CHECKS:
        try:
            largest, share = _compare(check, device)
            well = share <= check.share
            row = f"{largest:.3g} | {share:.2g} | {check.largest:g}, {check.share:g} | {'ok' if well else 'WRONG'}"
        except Exception as error:  # the other checks shall still be made
            well, row = False, f"- | - | - | {type(error).__name__}: {str(error).splitlines()[0][:200]}"
        print(f"| {check.name} | {row} |", flush=True)
        good &= well
    return good


def _compare(check: Check, device: torch.device) -> tuple[float, float]:
    largest, beyond, count = 0.0, 0, 0
    for wanted, found in zip(check.answers(torch.device("cpu")), check.answers(device), strict=True):
        difference = (wanted.double() - found.cpu().double()).abs()
        difference = torch.where(wanted.isnan() | found.cpu().isnan(), torch.inf, difference)
        largest = max(largest, float(difference.max()))
        beyond += int((difference > check.largest).sum())
        count += difference.numel()
    return largest, beyond / count


def _on_gpu(device: torch.device) -> bool:
    return device.type != "cpu"


def planes(device: torch.device) -> list[Tensor]:
    from spatialme.colour_torch import rgb_to_yuv

    return list(rgb_to_yuv(gpu_scenes.rough()[0].to(device), gpu_scenes.encoding()))


def warp(device: torch.device) -> list[Tensor]:
    from spatialme.warp import forward_warp
    from spatialme.warp.splat import forward_warp_torch

    frames, disparity = (part.to(device) for part in gpu_scenes.rough())
    return list((forward_warp if _on_gpu(device) else forward_warp_torch)(frames, disparity))


def polylines(device: torch.device) -> list[Tensor]:
    from spatialme.inpaint import polyline_torch
    from spatialme.inpaint.polyline import PLATEAU_HALF_WIDTH_PX, rasterise_polylines

    frames, disparity = (part.to(device) for part in gpu_scenes.rough())
    if _on_gpu(device):
        return list(rasterise_polylines(frames, disparity))
    return list(polyline_torch.sample_polylines(frames, disparity[:, 0], PLATEAU_HALF_WIDTH_PX, 4))


def expansion(device: torch.device) -> list[Tensor]:
    from spatialme.warp.expansion_torch import expand_disparity_torch

    _, disparity = gpu_scenes.rough()
    disparity = disparity.to(device)
    ends = torch.full((len(disparity),), 12.0, dtype=torch.float64, device=device)
    return [expand_disparity_torch(disparity, -ends, ends, 2, 1.0)]


def median(device: torch.device) -> list[Tensor]:
    from spatialme.depth import edges
    from spatialme.device import computes_with_triton

    values = gpu_scenes.rough()[0][:, :1].to(device)
    if computes_with_triton(device):
        from spatialme.depth.median_triton import median as kernel

        return [kernel(values, edges.MEDIAN_SIDE)]
    return [edges.median_torch(values)]


def depth_edges(device: torch.device) -> list[Tensor]:
    from spatialme.depth import edges

    frames, disparity = gpu_scenes.rough()
    small = torch.nn.functional.interpolate(disparity / 24 + 0.5, scale_factor=0.25).clamp(0, 1).to(device)
    guide = torch.nn.functional.interpolate(frames, scale_factor=0.25).to(device)
    return [edges.joint_torch(small, guide, frames.to(device), edges.PIXEL_RADIUS)]


def background(device: torch.device) -> list[Tensor]:
    from spatialme.inpaint.background_torch import fill_background_torch

    warped = gpu_scenes.warped(device)
    return [fill_background_torch(warped.view[0], warped.hole[0], warped.disparity[0])]


def walks(device: torch.device) -> list[Tensor]:
    """The background's memory: where each hole pixel was found, and its colour."""
    from spatialme.device import computes_with_triton
    from spatialme.inpaint import trace_torch

    hole, disparity, steps = gpu_scenes.steps(device)
    if computes_with_triton(device):
        from spatialme.inpaint import trace_triton

        surface, (found,) = trace_triton.walk(disparity, hole, [steps])
        return [surface * hole, found.steps, found.colour]
    points = trace_torch.background_points(disparity, hole)
    found = trace_torch.walk(points, steps)
    surface, number = torch.zeros_like(disparity), torch.zeros_like(hole[0], dtype=torch.int32)
    colour = torch.zeros(3, *hole.shape[1:], device=device)
    surface[0, points.row, points.column] = points.surface
    number[points.row, points.column] = found.steps.int()
    colour[:, points.row, points.column] = found.colour.T
    return [surface, number, colour]


def carried_flow(device: torch.device) -> list[Tensor]:
    from spatialme.flow.reuse_torch import carry_flow_torch

    warped = gpu_scenes.warped(device)
    draw = torch.Generator().manual_seed(2)
    count, _, height, width = warped.view.shape
    flow = torch.randn(count, 2, height // 2, width // 2, generator=draw).to(device)
    valid = (torch.rand(count, 1, height // 2, width // 2, generator=draw) < 0.9).to(device)
    source = warped.source_disparity
    return list(carry_flow_torch(flow, valid, source, source.roll(1, 0), warped.disparity, warped.hole))


def tiny_network(device: torch.device) -> list[Tensor]:
    from spatialme.depth.tiny import TinyNetwork

    with torch.inference_mode(), torch.autocast("cuda", torch.float16, enabled=_on_gpu(device)):
        inverse = TinyNetwork(device=device)(gpu_scenes.smooth(2, 180, 320).to(device))
    spread = torch.tensor([1 / (inverse.max() - inverse.min())])
    return [inverse * spread.to(device)]


def refiner(device: torch.device) -> list[Tensor]:
    from spatialme.refine import Refiner
    from spatialme.refine.mhfu import MHFU, SIZES

    torch.manual_seed(0)
    network = MHFU(SIZES["small"])
    torch.nn.init.normal_(network.tail[-1].weight, std=0.05)
    warped = gpu_scenes.warped(device)
    with torch.inference_mode(), torch.autocast("cuda", torch.float16, enabled=_on_gpu(device)):
        run = Refiner(network, trained=True, device=device)
        others = warped.clip.frames, warped.view, warped.clip.frames.flip(-1)
        return [run(warped, *others, mode="everywhere")]


CHECKS = (
    Check("eyes to planes", EXACT, 0, planes),
    Check("forward warp", EXACT, 0, warp),
    Check("polylines", EXACT, 0, polylines),
    Check("disparity expansion", EXACT, 0, expansion),
    Check("median", EXACT, 0, median),
    # sums of 25 products, whose order is the device's
    Check("depth on the image's edges", 1e-4, 1e-4, depth_edges),
    Check("continued background", 1e-5, 0, background),
    # a point on a pixel's border may fall to either side: flow is float32 in one and float64 in the other
    Check("walk through the frames", 1e-3, 2e-3, walks),
    Check("carried flow", 1e-3, 2e-3, carried_flow),
    # half precision: 11 bits, through some sixty layers
    Check("depth network tiny, half precision", 0.02, 1e-3, tiny_network),
    Check("refiner, half precision", 0.01, 1e-3, refiner),
)
