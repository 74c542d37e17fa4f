"""How much memory a conversion takes, by count of the frames that its stages hold; and clips that fit a GPU.

Counted are bytes per pixel of what travels from stage to stage. `benchmarks/gpu_memory.py` holds the count for a GPU
against the live tensors of whole conversions, with no GPU at hand; docs/benchmarks.md has the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from spatialme.errors import OptionError

# Native and RGB pixels of a picture, float RGB, one map, a warped clip, a branch's answer, and what a temporal branch
# keeps of each frame in its window.
PICTURE_BYTES, FRAME_BYTES, MAP_BYTES, WARPED_BYTES, FILLED_BYTES, WINDOW_BYTES = 6, 12, 4, 33, 13, 21
ENCODER_BYTES = 150  # per source pixel: some 40 packed frames in x264's look-ahead and threads
LIBRARIES_BYTES = 1_800_000_000  # PyTorch's GPU build, compiled kernels, `tiny`; a 64x48 clip peaks at 1.2 to 1.6 GB

# What waits on a GPU takes 16 bits (`levels`): source frames, a warped clip, and what a window keeps of it.
RESTING_FRAME_BYTES, RESTING_WARPED_BYTES, RESTING_WINDOW_BYTES = 6, 17, 9
FLOW_BYTES = 18  # of a frame's motion, both ways, per pixel of its grid,
FLOW_PIXELS = 960 * 540  # which has a quarter of the frame's pixels, and at most about so many;
RAFT_BYTES = 240  # and per such pixel what RAFT's stage keeps of every frame of the clip at hand, as measured
NETWORKS_BYTES = 120_000_000  # weights of Depth Anything V2 Small, RAFT and the refiner
# What a stage makes and drops while it works, of which the largest counts: Depth Anything V2 Small on its batch of
# four frames, to which clips are filled up; a clip's depth brought to its edges; polylines; the expansion of a clip's
# disparity; a frame whose holes are filled, in bands where it is large; and the small refiner's features, likewise.
DEPTH_BYTES, BATCH_BYTES, ALIGNING_BYTES = 430_000_000, 48, 95
POLYLINE_BYTES, EXPANDING_BYTES = 65, 115
FILLING_BYTES, FILLED_BAND_BYTES, FILLED_PIXELS = 32, 230, 2_100_000
REFINER_BYTES, REFINED_PIXELS = 200, 2_600_000
# Of one ProPainter branch: what its networks hold of some hundred frames, and what they make and drop where every
# window and tile has a hole: the transformer's maps, and what is made in portions of a size of its own.
PROPAINTER_BYTES, PROPAINTING_BYTES, PORTION_BYTES = 1620, 1050, 700_000_000
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
    propainters: int = 0  # how many of the branches are ProPainter's


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
    """Most GPU memory of a conversion; arguments as for `host_bytes`."""
    held = pixels * _held_on_gpu(reach, clip_length) + _motion_bytes(reach, clip_length, pixels)
    return CUDA_BYTES + NETWORKS_BYTES + _working_on_gpu(reach, clip_length, pixels) + reach.eyes * held


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


def _held(reach: Reach, clip_length: int) -> int:
    """Bytes per pixel of the tensors that all stages hold together on the CPU."""
    handed_over = _handed_over(clip_length)
    ahead = max(lookahead for _, lookahead in reach.branches)
    windows = sum(back + forth + handed_over for back, forth in reach.branches if forth)
    return (
        (reach.cuts + 3 * clip_length) * FRAME_BYTES
        + (reach.depth + handed_over) * (FRAME_BYTES + MAP_BYTES)
        + (reach.warper + reach.flow + ahead + handed_over) * WARPED_BYTES
        + windows * WINDOW_BYTES
        + (len(reach.branches) + 3) * handed_over * FILLED_BYTES
    )


def _held_on_gpu(reach: Reach, clip_length: int) -> int:
    """The same on a GPU, but for motion; pictures get there once their shot is known."""
    handed_over = _handed_over(clip_length)
    ahead = max(lookahead for _, lookahead in reach.branches)
    return (
        (reach.depth + 4 * clip_length) * RESTING_FRAME_BYTES  # two clips of these on their way from the decoder
        + (reach.warper + 2 * clip_length) * (FRAME_BYTES + MAP_BYTES)
        + (reach.flow + ahead + handed_over) * RESTING_WARPED_BYTES
        + _windows(reach, clip_length) * RESTING_WINDOW_BYTES
        + reach.propainters * PROPAINTER_BYTES
    )


def _working_on_gpu(reach: Reach, clip_length: int, pixels: int) -> int:
    """Bytes of what the stage at work makes, and of the branches' answers, which are there after the depth stage's."""
    clip_pixels = clip_length * pixels
    after_depth = [POLYLINE_BYTES * clip_pixels]
    if any(forth for _, forth in reach.branches):
        after_depth.append(EXPANDING_BYTES * clip_pixels)
        after_depth.append(FILLING_BYTES * pixels + FILLED_BAND_BYTES * min(pixels, FILLED_PIXELS))
    if reach.trained_refiner:
        after_depth.append(REFINER_BYTES * min(pixels, REFINED_PIXELS))
    if reach.propainters:
        after_depth.append(PROPAINTING_BYTES * pixels + PORTION_BYTES)
    answers = len(reach.branches) * FILLED_BYTES * clip_pixels
    network = DEPTH_BYTES + (BATCH_BYTES * pixels if clip_length > 1 else 0)
    return max(network, ALIGNING_BYTES * clip_pixels, answers + max(after_depth))


def _windows(reach: Reach, clip_length: int) -> int:
    """Frames that temporal branches keep beside the clips on their way; the first one's coming frames are those."""
    temporal = [(0 if reach.propainters else back, forth) for back, forth in reach.branches if forth]
    frames = sum(back + forth + 2 * clip_length for back, forth in temporal)
    return frames - max((forth for _, forth in temporal), default=0)


def _motion_bytes(reach: Reach, clip_length: int, pixels: int) -> int:
    """Of the source's motion on its way, and of each temporal branch's in its window (ProPainter's counts as such)."""
    if not reach.flow:
        return 0
    temporal = [] if reach.propainters else [(back, forth) for back, forth in reach.branches if forth]
    carried = sum(back + forth + 2 * clip_length for back, forth in temporal)
    frames = max(lookahead for _, lookahead in reach.branches) + 3 * clip_length + carried
    return (frames * FLOW_BYTES + clip_length * RAFT_BYTES) * min(pixels // 4, FLOW_PIXELS)
