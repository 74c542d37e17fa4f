"""Motion between a training picture and the one after it, and where it is to be trusted."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from spatialme.depth import motion

FLOW_SHORT_SIDE = 96  # px of the grid on which motion is measured, as in `depth.temporal`
RETURN_PX = 0.75  # of that grid, by which the way there and back may miss its start
COLOUR_TOLERANCE = 0.06  # mean difference of aligned colours (of 1)


@torch.no_grad()
def motion_between(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Flow from the first pictures to the second.

    Args:
        first: (B, 3, H, W) RGB in [0, 1].
        second: (B, 3, H, W).

    Returns:
        (B, 2, H, W) px and (B, 1, H, W) bool: both directions agree, and so do the colours.
    """
    height, width = first.shape[-2:]
    scale = min(1.0, FLOW_SHORT_SIDE / min(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    grey, grey_after = (
        F.interpolate(images.mean(1, keepdim=True), size=size, mode="bilinear", antialias=True, align_corners=False)
        for images in (first, second)
    )
    there, back = motion.flow(grey, grey_after), motion.flow(grey_after, grey)
    miss = (there + motion.sample(back, there)).square().sum(1, keepdim=True).sqrt()
    agreed = (miss <= RETURN_PX) & (motion.inside(there) > 0)
    flow = motion.resize_flow(there, (height, width))
    colours = (motion.sample(second, flow) - first).abs().mean(1, keepdim=True)
    agreed = F.interpolate(agreed.float(), size=(height, width), mode="nearest") > 0
    return flow, agreed & (motion.box(colours, 1) <= COLOUR_TOLERANCE)
