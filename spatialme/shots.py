"""Cut detection: a stream of pictures becomes clips that never cross a cut."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import cv2
import numpy as np
import torch
from scenedetect.detectors import AdaptiveDetector

from spatialme.types import Clip

Picture = TypeVar("Picture")
Array = np.ndarray

DETECTION_WIDTH = 256  # PySceneDetect's own choice: its thresholds are tuned for frames of about this width
SHORTEST_SHOT = 4  # frames; less would take strobes and camera flashes for cuts


class CutDetector:
    """PySceneDetect's adaptive detector, fed frame by frame.

    A frame is a cut when it differs from the one before both by much (HSV content) and by far more than its
    neighbours do, so that fast camera motion is not taken for a cut. Decides `lookahead` frames late. Fed from the
    middle of a shot, it finds the same cuts as one fed from the beginning, `lookback` frames after the first.
    """

    lookback = SHORTEST_SHOT
    lookahead = 2

    def __init__(self) -> None:
        self._detector = AdaptiveDetector(min_scene_len=SHORTEST_SHOT, window_width=self.lookahead)
        self._fed = 0

    def feed(self, rgb: Array) -> set[int]:
        """Take the next frame, (H, W, 3) uint8 or uint16; return the numbers of frames now known to start a shot."""
        height, width = rgb.shape[:2]
        small = rgb
        if width > DETECTION_WIDTH:
            size = (DETECTION_WIDTH, max(1, round(height * DETECTION_WIDTH / width)))
            small = cv2.resize(rgb, size, interpolation=cv2.INTER_LINEAR)
        if small.dtype == np.uint16:
            small = (small >> 8).astype(np.uint8)
        cuts = self._detector.process_frame(self._fed, np.ascontiguousarray(small[..., ::-1]))
        self._fed += 1
        return set(cuts)


def find_cuts(pictures: Iterable[Picture], rgb_of: Callable[[Picture], Array]) -> Iterator[tuple[Picture, Array, bool]]:
    """Yield each picture with its pixels and whether it starts a shot, `CutDetector.lookahead` pictures late.

    Args:
        pictures: Native pictures in order; the first starts a shot.
        rgb_of: Gives a picture's pixels, (H, W, 3) RGB, uint8 or uint16 over the whole range.

    Holds at most ``CutDetector.lookahead + 1`` pictures at a time.
    """
    detector = CutDetector()
    pending: deque[tuple[Picture, Array]] = deque()  # fed to the detector, not yet decided
    cuts = {0}
    decided = 0  # pictures that have left `pending`
    for picture in pictures:
        rgb = rgb_of(picture)
        cuts |= detector.feed(rgb)
        pending.append((picture, rgb))
        if len(pending) > detector.lookahead:
            yield *pending.popleft(), decided in cuts
            cuts.discard(decided)
            decided += 1
    while pending:
        yield *pending.popleft(), decided in cuts
        decided += 1


def tag_shots(
    pictures: Iterable[Picture],
    rgb_of: Callable[[Picture], Array],
    *,
    clip_length: int,
    device: torch.device | str = "cpu",
    first_index: int = 0,
) -> Iterator[Clip]:
    """Cut a stream of pictures into clips of at most `clip_length` frames, none of which crosses a cut.

    Args:
        pictures: Native pictures in order; they travel along in `Clip.pictures`.
        rgb_of: Gives a picture's pixels, (H, W, 3) RGB, uint8 or uint16 over the whole range.
        clip_length: Frames per clip, at most.
        device: Where the clips' frames go.
        first_index: Number of the first picture in the source.

    Holds at most ``clip_length + CutDetector.lookahead + 1`` pictures at a time.
    """
    batch: list[tuple[Picture, Array]] = []  # of one shot
    index = first_index  # of the next picture
    shot = 0
    starts_shot = True

    def emit(*, ends_shot: bool) -> Clip:
        nonlocal shot, starts_shot
        frames = to_tensor([rgb for _, rgb in batch], device)
        natives = tuple(picture for picture, _ in batch)
        clip = Clip(frames, natives, index - len(batch), shot, starts_shot, ends_shot)
        batch.clear()
        starts_shot = ends_shot
        shot += ends_shot
        return clip

    for picture, rgb, is_cut in find_cuts(pictures, rgb_of):
        if batch and (is_cut or len(batch) == clip_length):
            yield emit(ends_shot=is_cut)
        batch.append((picture, rgb))
        index += 1
    if batch:
        yield emit(ends_shot=True)


def to_tensor(images: list[Array], device: torch.device | str) -> torch.Tensor:
    """Stack (H, W, 3) uint8 or uint16 images to a (T, 3, H, W) float tensor in [0, 1] on the device."""
    top = float(np.iinfo(images[0].dtype).max)
    stacked = torch.from_numpy(np.stack(images))
    planar = stacked.to(device, non_blocking=True).permute(0, 3, 1, 2)
    return planar.to(torch.float32, memory_format=torch.contiguous_format).div_(top)


def to_arrays(view: torch.Tensor, dtype: np.dtype | type) -> list[Array]:
    """The inverse of `to_tensor`: T images (H, W, 3), rounded, one transfer to the host."""
    top = float(np.iinfo(dtype).max)
    levels = view.clamp(0, 1).mul(top).add_(0.5)
    if dtype == np.uint8:
        packed = levels.to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
    else:  # torch has few uint16 operations; int32 holds every level
        packed = levels.to(torch.int32).permute(0, 2, 3, 1).contiguous().cpu().numpy().astype(np.uint16)
    return list(packed)
