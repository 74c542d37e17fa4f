"""Cut detection: a stream of pictures becomes clips that never cross a cut."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import cv2
import numpy as np
import torch
from scenedetect.detectors import AdaptiveDetector

from spatialme.transfer import Download, to_device
from spatialme.types import Clip
from spatialme.video import float_kernels

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

    @staticmethod
    def rows_read(height: int, width: int) -> Array:
        """Numbers of the rows that `feed` looks at in frames of this size; the others may hold anything."""
        if width <= DETECTION_WIDTH:
            return np.arange(height)
        small = max(1, round(height * DETECTION_WIDTH / width))
        centre = (np.arange(small) + 0.5) * (height / small) - 0.5
        # OpenCV reads the two rows around each centre; which ones, where a centre lies on a row, is up to rounding
        around = np.floor(centre + np.array([[-0.01], [0.01]])).astype(np.int64)
        return np.unique(np.clip([around, around + 1], 0, height - 1))

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
    frames_of: Callable[[Sequence[Picture]], torch.Tensor] | None = None,
) -> Iterator[Clip]:
    """Cut a stream of pictures into clips of at most `clip_length` frames, none of which crosses a cut.

    Args:
        pictures: Native pictures in order; they travel along in `Clip.pictures`.
        rgb_of: Gives a picture's pixels, (H, W, 3) RGB, uint8 or uint16 over the whole range; with `frames_of`, only
            those that `CutDetector.rows_read` names need be right.
        clip_length: Frames per clip, at most.
        device: Where the clips' frames go.
        first_index: Number of the first picture in the source.
        frames_of: Makes a clip's frames of its pictures; None: of the pixels that `rgb_of` gave.

    Holds at most ``clip_length + CutDetector.lookahead + 1`` pictures at a time.
    """
    batch: list[tuple[Picture, Array]] = []  # of one shot
    index = first_index  # of the next picture
    shot = 0
    starts_shot = True

    def emit(*, ends_shot: bool) -> Clip:
        nonlocal shot, starts_shot
        natives = tuple(picture for picture, _ in batch)
        frames = to_tensor([rgb for _, rgb in batch], device) if frames_of is None else frames_of(natives)
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
    planar = to_device(stacked, device).permute(0, 3, 1, 2)
    return planar.to(torch.float32, memory_format=torch.contiguous_format).div_(top)


def to_arrays(view: torch.Tensor, dtype: np.dtype | type) -> list[Array]:
    """The inverse of `to_tensor`: T images (H, W, 3), rounded; waits for a GPU."""
    return Departing(view, dtype).arrays()


class Departing:
    """Images on their way to the host; see `to_arrays`."""

    def __init__(self, view: torch.Tensor, dtype: np.dtype | type) -> None:
        """Round and send (T, 3, H, W), without waiting."""
        self._dtype = dtype
        if view.device.type == "cpu":
            self._download = Download(_interleaved(view, dtype))
            return
        levels = view.clamp(0, 1).mul(float(np.iinfo(dtype).max)).add_(0.5)
        # torch has few uint16 operations; int32 holds every level
        whole = levels.to(torch.uint8 if dtype == np.uint8 else torch.int32)
        self._download = Download(whole.permute(0, 2, 3, 1).contiguous())

    def arrays(self) -> list[Array]:
        """The images, once they are there."""
        return list(self._download.wait().numpy().astype(self._dtype, copy=False))


def _interleaved(view: torch.Tensor, dtype: np.dtype | type) -> torch.Tensor:
    """(T, 3, H, W) on the CPU to (T, H, W, 3) integers, rounded: what `Departing` does on a GPU, bit for bit."""
    images = np.empty((len(view), *view.shape[2:], 3), dtype)
    for planes, image in zip(view.float().contiguous().numpy(), images):
        float_kernels.from_planes(planes, np.float32(np.iinfo(dtype).max), image)
    return torch.from_numpy(images)
