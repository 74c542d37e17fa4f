"""What the GPU's checks and measurements look at: made of seeded noise, the same everywhere."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from spatialme.inpaint.trace import Step
    from spatialme.types import Clip, WarpedClip
    from spatialme.video.convert_pixels import YuvEncoding

    Clips = Iterator[Clip]


def smooth(count: int, height: int, width: int) -> Tensor:
    """Frames (T, 3, H, W) of a soft texture that moves, with brighter discs that move otherwise."""
    draw = torch.Generator().manual_seed(0)
    large = F.interpolate(torch.rand(1, 3, 24, 40, generator=draw), (height + 64, width + 128), mode="bicubic")
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    frames = []
    for t in range(count):
        picture = 0.5 * large[0, :, t % 64 : t % 64 + height, 2 * t % 128 : 2 * t % 128 + width].clamp(0, 1)
        for n in range(6):
            x, y = (n + 0.5) / 6 * width + 3 * t * (-1) ** n, height * (0.3 + 0.4 * (n % 2))
            inside = (row - y) ** 2 + (column - x) ** 2 < (height * (0.08 + 0.03 * n)) ** 2
            picture = torch.where(inside, 0.55 + 0.08 * n - 0.2 * picture, picture)
        frames.append(picture)
    return torch.stack(frames)


def rough() -> tuple[Tensor, Tensor]:
    """Two frames of noise, and a disparity that stretches, folds, tears, ties and leaves the frame."""
    draw = torch.Generator().manual_seed(1)
    frames = torch.rand(2, 3, 48, 200, generator=draw)
    wander = torch.randn(2, 1, 12, 200, generator=draw).cumsum(-1)
    steps = 24 * torch.rand(2, 1, 12, 25, generator=draw).repeat_interleave(8, -1) - 12
    halves = torch.randint(-6, 6, (2, 1, 12, 200), generator=draw) / 2
    return frames, torch.cat([wander, steps, halves, 2 * torch.randn(2, 1, 12, 200, generator=draw)], 2)


def encoding() -> YuvEncoding:
    """What an eye becomes for the usual 8-bit video: BT.709 in limited range, 4:2:0."""
    from spatialme.video.convert_pixels import Coding, yuv_encoding

    bt709 = Coding(0.2126, 0.0722, luma_zero=16, luma_span=219, chroma_zero=128, chroma_span=224, maximum=255)
    return yuv_encoding(bt709, (1, 1), 255)


def clip_of(frames: Tensor) -> Clip:
    """A whole shot."""
    from spatialme.types import Clip

    return Clip(frames, (None,) * len(frames), first_index=0, shot=0, starts_shot=True, ends_shot=True)


def warped(device: torch.device) -> WarpedClip:
    """A clip warped by its brightness."""
    from spatialme.types import WarpedClip
    from spatialme.warp.splat import forward_warp_torch

    frames = smooth(5, 72, 160)
    disparity = (20 * (frames.mean(1, keepdim=True) > 0.42).float() - 4).to(device)
    frames = frames.to(device)
    result = forward_warp_torch(frames, disparity)
    return WarpedClip(clip_of(frames), disparity, result.view, result.disparity, result.hole)


def steps(device: torch.device) -> tuple[Tensor, Tensor, list[Step]]:
    """Hole and disparity of the last of some frames, and the walk back through the others."""
    from spatialme.inpaint.trace import Step
    from spatialme.levels import to_levels, to_steps

    clip = warped(device)
    draw = torch.Generator().manual_seed(3)
    made = []
    for t in range(len(clip) - 2, -1, -1):
        flow = (torch.tensor([0.9, 0.4])[:, None, None] + 0.3 * torch.rand(2, 36, 80, generator=draw)).to(device)
        trusted = (torch.rand(2, 1, 36, 80, generator=draw) < 0.97).to(device)
        maps = to_levels(clip.view[t]), clip.hole[t], to_steps(clip.disparity[t])
        made.append(Step(flow, trusted[0], -flow, trusted[1], *maps))
    return clip.hole[-1], clip.disparity[-1], made


def endless(height: int, width: int, clip_length: int, device: torch.device, *, goes_on: Callable[[], bool]) -> Clips:
    """Clips of one shot, sent from 8-bit images on the host, until it is not to go on."""
    from spatialme.shots import to_tensor
    from spatialme.types import Clip

    levels = (smooth(clip_length, height, width) * 255).byte()
    images = list(levels.permute(0, 2, 3, 1).contiguous().numpy())
    for number in itertools.count():
        ends = not goes_on()
        frames = to_tensor(images, device)
        yield Clip(frames, (None,) * clip_length, number * clip_length, 0, number == 0, ends_shot=ends)
        if ends:
            return
