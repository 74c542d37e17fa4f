"""Check the published video-completion figures with your own copy of ProPainter's weights: PSNR and SSIM per video.

    python benchmarks/propainter_davis.py --frames DAVIS/JPEGImages/480p --masks test_masks [--size 432x240]

Both folders hold one folder of numbered pictures per video; a mask's white is removed and painted anew. Pictures are
resized, RAFT runs on the complete frames, ProPainter in its published order (exact mode), and the result is compared
in 8 bits over whole frames, as published. Fetch the weights first:

    spatialme weights fetch propainter --accept-licence
    spatialme weights fetch propainter-flow-completion --accept-licence
    spatialme weights fetch raft-things
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from skimage.metrics import structural_similarity
from spatialme_propainter import PUBLISHED, Networks, ShotFrame, inpaint_shot
from torch import Tensor

from spatialme.inpaint.propainter import load_networks, weights_path
from spatialme.inpaint.propainter_flow import FullSizeRaft

Pictures = NDArray[np.uint8]


def read_video(frames: Path, masks: Path, size: tuple[int, int], dilation: int) -> tuple[Pictures, Pictures]:
    """Frames (T, H, W, 3) RGB and masks (T, H, W), 1 = to be removed; a single mask serves all frames."""
    pictures, holes = [], []
    mask_paths = sorted(path for path in masks.iterdir() if path.suffix in (".png", ".jpg"))
    for n, path in enumerate(sorted(frames.glob("*.[jp][pn]g"))):
        picture = cv2.resize(cv2.imread(str(path)), size, interpolation=cv2.INTER_CUBIC)
        pictures.append(picture[..., ::-1])
        mask = cv2.imread(str(mask_paths[min(n, len(mask_paths) - 1)]), cv2.IMREAD_GRAYSCALE)
        mask = (cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST) > 0).astype(np.uint8)
        cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
        holes.append(cv2.dilate(mask, cross, iterations=dilation) if dilation else mask)
    return np.stack(pictures), np.stack(holes)


def shot_frames(pictures: Pictures, holes: Pictures, raft: FullSizeRaft, device: torch.device) -> list[ShotFrame]:
    """What the networks take, with RAFT's flow on the complete frames."""
    colours = torch.from_numpy(pictures).to(device).permute(0, 3, 1, 2).float() / 255
    hole = torch.from_numpy(holes).to(device)[:, None] > 0
    prepared = [raft.prepare(frame) for frame in colours]
    pairs = [raft.both_ways(first, second) for first, second in itertools.pairwise(prepared)]
    none = torch.zeros_like(colours[0, :2])
    forward: list[Tensor] = [*(there for there, _ in pairs), none]
    backward: list[Tensor] = [none, *(back for _, back in pairs)]
    return [ShotFrame(c * ~h, h, f, b, h) for c, h, f, b in zip(colours * 2 - 1, hole, forward, backward)]


def inpaint(
    pictures: Pictures, holes: Pictures, networks: Networks, raft: FullSizeRaft, device: torch.device
) -> Pictures:
    """The frames with the masked pixels painted anew, in 8 bits."""
    frames = shot_frames(pictures, holes, raft, device)
    painted = torch.stack(list(inpaint_shot(frames, networks, PUBLISHED, as_published=True)))
    in_8_bits = (painted * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return np.where(holes[..., None] > 0, in_8_bits, pictures)


def compare(found: Pictures, truth: Pictures) -> tuple[float, float]:
    """Means over frames of PSNR, dB, and of SSIM with scikit-image's 7x7 window, of 8-bit RGB."""
    errors = np.square(found.astype(np.float64) - truth).mean(axis=(1, 2, 3))
    psnr = 10 * np.log10(255**2 / np.maximum(errors, 1e-10))
    ssim = [structural_similarity(one, other, channel_axis=2, data_range=255) for one, other in zip(found, truth)]
    return float(psnr.mean()), float(np.mean(ssim))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=Path, required=True)
    parser.add_argument("--masks", type=Path, required=True)
    parser.add_argument("--size", default="432x240", help="multiples of 8, at least 128")
    parser.add_argument("--dilation", type=int, default=0, help="px that masks are widened by")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()

    device = torch.device(options.device)
    width, height = map(int, options.size.split("x"))
    networks = load_networks(device, licence="any", half=False)
    raft = FullSizeRaft(weights_path("raft-things", "any"), device)
    figures = []
    for video in sorted(path for path in options.frames.iterdir() if path.is_dir()):
        pictures, holes = read_video(video, options.masks / video.name, (width, height), options.dilation)
        with torch.inference_mode():
            figures.append(compare(inpaint(pictures, holes, networks, raft, device), pictures))
        print(f"{video.name}: PSNR {figures[-1][0]:.2f} dB, SSIM {figures[-1][1]:.4f}", flush=True)
    psnr, ssim = np.mean(figures, axis=0)
    print(f"mean of {len(figures)} videos: PSNR {psnr:.2f} dB, SSIM {ssim:.4f}")


if __name__ == "__main__":
    main()
