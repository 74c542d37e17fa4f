"""Labels from a real pair: matched both ways by RAFT, kept where the two eyes agree."""

from __future__ import annotations

from typing import Any, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spatialme.evaluation.matching import agreed

MULTIPLE = 8  # RAFT works at an eighth of the resolution
LARGEST_VERTICAL_PX = 2.0  # a rectified pair's points keep their row; what is found farther off is a false match
Picture = NDArray[np.uint8]
Label = NDArray[np.float32]


class BothWays(Protocol):
    """Optical flow between two pictures, there and back; `flow.raft.Raft` is one."""

    def encode(self, image: Tensor) -> Any:
        """(1, 3, h, w) in [-1, 1] -> what `both_ways` takes."""
        ...

    def both_ways(self, first: Any, second: Any) -> tuple[Tensor, Tensor]:
        """Two encoded pictures -> flows (2, h, w) in px."""
        ...


def match_eyes(left: Picture, right: Picture, flow: BothWays, device: torch.device) -> tuple[Label, Label]:
    """Inverse depth of both eyes, up to one scale and offset: disparity in px.

    Args:
        left: (H, W, 3) RGB of a rectified pair.
        right: The same size.
        flow: What finds the way from eye to eye.
        device: Where it runs.

    Returns:
        (H, W) for the left and for the right eye; NaN where the two do not agree or the match leaves its row.
    """
    there, back = flow.both_ways(*(flow.encode(_prepared(picture, device)) for picture in (left, right)))
    seen_left, seen_right = (_disparity(found, sign, left.shape) for found, sign in ((there, -1), (back, 1)))
    from_left = agreed(seen_left, seen_right)
    # the mirrored right eye is the left eye of the mirrored scene
    from_right = agreed(seen_right[:, ::-1], seen_left[:, ::-1])[:, ::-1]
    return from_left, from_right


def _prepared(picture: Picture, device: torch.device) -> Tensor:
    height, width = (max(16, round(side / MULTIPLE)) * MULTIPLE for side in picture.shape[:2])
    fitted = np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR))
    return torch.from_numpy(fitted).to(device).permute(2, 0, 1)[None].float() / 127.5 - 1


def _disparity(flow: Tensor, sign: int, size: tuple[int, ...]) -> Label:
    """Signed horizontal px at the picture's size, NaN where the match is in another row."""
    across, down = (part.float().cpu().numpy() for part in flow)
    across = np.where(np.abs(down) <= LARGEST_VERTICAL_PX, sign * across, np.nan)
    height, width = size[:2]
    grown = np.asarray(cv2.resize(across, (width, height), interpolation=cv2.INTER_NEAREST))
    return (grown * np.float32(width / across.shape[1])).astype(np.float32)
