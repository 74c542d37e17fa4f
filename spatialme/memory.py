"""How much memory a conversion takes, by count of the frames that its stages hold; and clips that fit a GPU.

Counted are bytes per pixel of what travels from stage to stage. Measured against the live tensors of whole conversions
at 320x180 with the GPU's kernels run on a CPU (draft): 391 bytes per pixel with clips of one frame, 1156 with four; the
count says 391 and 1180.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from spatialme.errors import OptionError

# Native and RGB pixels of a picture, float RGB, one map, a warped clip, a branch's answer, and what a temporal branch
# keeps of each frame in its window.
PICTURE_BYTES, FRAME_BYTES, MAP_BYTES, WARPED_BYTES, FILLED_BYTES, WINDOW_BYTES = 6, 12, 4, 33, 13, 25
ENCODER_BYTES = 150  # per source pixel: some 40 packed frames in x264's look-ahead and threads
LIBRARIES_BYTES = 1_800_000_000  # PyTorch's GPU build, compiled kernels, `tiny`; a 64x48 clip peaks at 1.2 to 1.6 GB
PASSING_BYTES = 25  # per pixel of a clip: what a stage makes and drops while it works
REFINER_BYTES = 384  # per pixel of one frame or band: the small MHFU's features, measured at 32 bits
REFINED_PIXELS = 2_600_000  # at once: `refine.regions.BAND_PIXELS` and what the network sees around a band
# A batch of 8 through the depth network: `tiny` takes 0.24 GB, larger ones are estimated. It is given back when the
# kernels of poly and propagation want up to 0.3 GB and 140 bytes per pixel of one frame to work in.
DEPTH_BYTES = 1_000_000_000
CUDA_BYTES = 700_000_000  # estimated: the CUDA context and compiled kernels, which PyTorch's allocator does not count


@dataclass(frozen=True)
class Reach:
    """How many frames the stages of a converter look back and ahead."""

    cuts: int  # look-ahead of the cut detector,
    depth: int  # of the depth stage,
    warper: int  # of the warp,
    flow: int  # and of the flow; 0 without
    branches: Sequence[tuple[int, int]]  # look-back and look-ahead of each
    eyes: int  # synthesised: 1 or 2
    trained_refiner: bool = False


def host_bytes(reach: Reach, clip_length: int, pixels: int) -> int:
    """Most memory of a conversion on the CPU, whatever the video's length.

    Networks larger than `tiny` (Depth Anything, ProPainter) come on top.

    Args:
        reach: Of the converter's stages.
        clip_length: Frames per clip.
        pixels: Of a frame.
    """
    native = PICTURE_BYTES * _travelling(reach, clip_length)
    return LIBRARIES_BYTES + reach.eyes * pixels * (_held(reach, clip_length) + native + ENCODER_BYTES)


def gpu_bytes(reach: Reach, clip_length: int, pixels: int) -> int:
    """Most GPU memory of a conversion, ProPainter apart; arguments as for `host_bytes`."""
    refiner = REFINER_BYTES * min(pixels, REFINED_PIXELS) if reach.trained_refiner else 0
    per_pixel = _held(reach, clip_length, on_gpu=True) + PASSING_BYTES * clip_length
    return CUDA_BYTES + DEPTH_BYTES + refiner + reach.eyes * pixels * per_pixel


def longest_clip(reach: Reach, pixels: int, longest: int, budget_bytes: float) -> int:
    """The most frames per clip, up to `longest`, with which a conversion stays inside a budget of GPU memory.

    Raises:
        OptionError: Not even clips of one frame do.
    """
    for length in range(longest, 0, -1):
        if gpu_bytes(reach, length, pixels) <= budget_bytes:
            return length
    least = gpu_bytes(reach, 1, pixels)
    raise OptionError(
        f"--max-vram {budget_bytes / 1e9:g} is too little for these settings at {pixels / 1e6:.1f} megapixels, which "
        f"take {least / 1e9:.1f} GB; allow that, or use --quality draft, --device cpu or a smaller video"
    )


def clip_for_gpu(reach: Reach, pixels: int, longest: int, device: torch.device) -> int:
    """The most frames per clip that nine tenths of a GPU's memory hold; one where none do, for the count may err."""
    budget_bytes = 0.9 * torch.cuda.get_device_properties(device).total_memory
    fitting = (length for length in range(longest, 0, -1) if gpu_bytes(reach, length, pixels) <= budget_bytes)
    return next(fitting, 1)


def limit_gpu_memory(device: torch.device, budget_bytes: float) -> None:
    """Have PyTorch refuse, by its `OutOfMemoryError`, what goes beyond the budget; nothing on a CPU.

    Raises:
        OptionError: The budget does not hold what CUDA itself takes.
    """
    if budget_bytes <= CUDA_BYTES:
        raise OptionError(
            f"--max-vram {budget_bytes / 1e9:g} is less than CUDA itself takes ({CUDA_BYTES / 1e9:.1f} GB); allow more"
        )
    if device.type == "cuda":
        there = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, (budget_bytes - CUDA_BYTES) / there), device)


def _handed_over(clip_length: int) -> int:
    return 2 * clip_length  # every stage holds a clip it was given and one it makes


def _travelling(reach: Reach, clip_length: int) -> int:
    """Frames between the decoder and the last stage, each with its native picture."""
    ahead = max(lookahead for _, lookahead in reach.branches)
    stages = reach.depth + reach.warper + reach.flow + ahead + 2 * _handed_over(clip_length)
    return reach.cuts + 3 * clip_length + stages


def _held(reach: Reach, clip_length: int, *, on_gpu: bool = False) -> int:
    """Bytes per pixel of the tensors that all stages hold together."""
    handed_over = _handed_over(clip_length)
    ahead = max(lookahead for _, lookahead in reach.branches)
    undecided = 0 if on_gpu else reach.cuts  # pictures go to the GPU once their shot is known
    windows = sum(back + forth + handed_over for back, forth in reach.branches if forth)
    return (
        (undecided + 3 * clip_length) * FRAME_BYTES
        + (reach.depth + handed_over) * (FRAME_BYTES + MAP_BYTES)
        + (reach.warper + reach.flow + ahead + handed_over) * WARPED_BYTES
        + windows * WINDOW_BYTES
        + (len(reach.branches) + 3) * handed_over * FILLED_BYTES
    )
