"""OpenCV's two still-image inpaintings, frame by frame on 8-bit pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
import torch
from torch import Tensor

from spatialme.shots import to_arrays, to_tensor
from spatialme.types import WarpedClip

RADIUS_PX = 3.0  # as in OpenCV's own examples


class OpenCvInpainting:
    """Fills holes by `cv2.inpaint`; known pixels are kept to the bit."""

    needs_motion = False

    def __init__(self, algorithm: int):
        """Choose ``cv2.INPAINT_TELEA`` (fast marching, Telea 2004) or ``cv2.INPAINT_NS`` (Bertalmio et al. 2001)."""
        self._algorithm = algorithm

    def stream(self, clips: Iterable[WarpedClip]) -> Iterator[Tensor]:
        """Yield the inpainted views."""
        for clip in clips:
            masks = clip.hole[:, 0].byte().cpu().numpy()
            pictures = zip(to_arrays(clip.view, np.uint8), masks)
            filled = [cv2.inpaint(picture, mask, RADIUS_PX, self._algorithm) for picture, mask in pictures]
            yield torch.where(clip.hole, to_tensor(filled, clip.view.device), clip.view)
