"""SIoU, the stereo agreement score of Mono2Stereo (corrected form): do edges and displaced areas coincide?"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spatialme.evaluation.sample import Sample, Scored

CANNY_THRESHOLDS = (100, 200)
DISPLACED_ABOVE = 5  # levels of 255 by which a pixel differs from the left view
EDGE_SHARE = 0.75  # of the score; the displaced areas have the rest

Picture = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def stereo_iou(sample: Sample, frames: slice) -> Scored:
    """0.75 IoU of the edges + 0.25 IoU of the areas that differ from the left view, per frame, on 8-bit pictures."""
    rows = zip(sample.prediction[frames], sample.truth[frames], sample.left[frames])
    scores = [_score(_eight_bit(prediction), _eight_bit(truth), _eight_bit(left)) for prediction, truth, left in rows]
    return Scored(whole=torch.tensor(scores, dtype=torch.float64, device=sample.prediction.device))


def _score(prediction: Picture, truth: Picture, left: Picture) -> float:
    edges = _iou(_edges(prediction), _edges(truth))
    displaced = _iou(_displaced(prediction, left), _displaced(truth, left))
    return EDGE_SHARE * edges + (1 - EDGE_SHARE) * displaced


def _eight_bit(picture: Tensor) -> Picture:
    levels = (picture.clamp(0, 1) * 255).round().to(torch.uint8)
    return np.ascontiguousarray(levels.permute(1, 2, 0).cpu().numpy())


def _grey(picture: Picture) -> Picture:
    """Grey with red's and blue's weights swapped, as published: the authors give RGB to OpenCV's BGR conversion."""
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), dtype=np.uint8)


def _edges(picture: Picture) -> Mask:
    return np.asarray(cv2.Canny(_grey(picture), *CANNY_THRESHOLDS)) > 0


def _displaced(view: Picture, left: Picture) -> Mask:
    # signed arithmetic: the published 8-bit subtraction wraps around
    difference = np.abs(view.astype(np.int16) - left.astype(np.int16)).astype(np.uint8)
    return _grey(difference) > DISPLACED_ABOVE


def _iou(first: Mask, second: Mask) -> float:
    """Intersection over union; 0 where both are empty."""
    union = np.count_nonzero(first | second)
    return float(np.count_nonzero(first & second) / union) if union else 0.0
