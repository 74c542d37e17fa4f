"""Real-looking stereo clips whose disparity is known, as arrays and as files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch

import spatialme.evaluation.compare as compare_module
from spatialme.shots import to_arrays
from tests.scenes import Layer, LayeredScene, Texture

Array = np.ndarray


def crowd(
    *, frames: int = 1, width: int = 256, height: int = 192, velocity: float = 0.0, max_disparity_percent: float = 6.25
) -> LayeredScene:
    """A dozen squares and discs of two distances before a plane, all of clearly different colours, finely textured.

    Disparities are 0 for the plane, and 8 and 16 px (of 256 wide) for the rest.
    """
    layers = [Layer(0.0, Texture(seed=1, colour=(0.3, 0.35, 0.3), finest_px=3.0))]
    colours = ((0.75, 0.35, 0.3), (0.3, 0.4, 0.75), (0.7, 0.7, 0.3))
    for index in range(12):
        column, row = index % 4, index // 4
        layers.append(
            Layer(
                0.5 if index % 2 else 1.0,
                Texture(seed=10 + index, colour=colours[index % 3], finest_px=3.0),
                shape="disc" if index % 3 == 0 else "square",
                centre=(width * (0.16 + 0.24 * column), height * (0.17 + 0.33 * row)),
                size=height * 0.2,
                velocity=(velocity, 0.0),
            )
        )
    return LayeredScene(width, height, frames, tuple(layers), max_disparity_percent, convergence=0.0)


def arrays(eye: torch.Tensor) -> list[Array]:
    """(T, 3, H, W) as T pictures (H, W, 3) uint8."""
    return to_arrays(eye, np.uint8)


def write_image(path: Path, picture: Array) -> Path:
    """Lossless, whatever the suffix allows: (H, W, 3) RGB."""
    assert cv2.imwrite(str(path), np.ascontiguousarray(picture[..., ::-1]))
    return path


def write_video(path: Path, pictures: Sequence[Array], *, rate: int = 10) -> Path:
    """Lossless (FFV1 in RGB): (H, W, 3) each."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=rate)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "bgr0"
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            container.mux(stream.encode(frame.reformat(format="bgr0")))
        container.mux(stream.encode(None))
    return path


def write_pair(folder: Path, name: str, scene: LayeredScene) -> None:
    """``NAME_left.png`` and ``NAME_right.png``, or ``NAME_sbs.mkv`` of a scene with several frames."""
    left, right = arrays(scene.left), arrays(scene.right)
    if scene.frames == 1:
        write_image(folder / f"{name}_left.png", left[0])
        write_image(folder / f"{name}_right.png", right[0])
        return
    write_video(folder / f"{name}_sbs.mkv", [np.concatenate(eyes, axis=1) for eyes in zip(left, right)])


def measure_psnr_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `compare` take no other figure, for tests of what goes on around the metrics."""

    def psnr(view, truth, left, hole, **networks):
        return {"psnr": float(-10 * torch.log10((view - truth).square().mean((1, 2, 3)) + 1e-10).mean())}

    monkeypatch.setattr(compare_module, "measure", psnr)
    monkeypatch.setattr(compare_module, "Lpips", lambda device: None)
