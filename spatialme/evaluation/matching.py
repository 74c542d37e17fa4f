"""Disparity of a real pair, by matching its two eyes: once per clip, kept on disk, the same for every method.

eyes -> coarse match: the range -> match from either eye -> what both agree on -> the background continued over the rest
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spatialme.disk import appearing
from spatialme.errors import InputError, OptionError, WeightsError
from spatialme.evaluation.pairs import StereoPair, file_stem, fit_disparity
from spatialme.evaluation.protocols import Protocol
from spatialme.flow.estimator import PairFlow
from spatialme.shots import to_arrays

VERSION = "1"  # of the results; part of the cache's keys
COARSE_WIDTH = 320  # px, of the pictures in which the range is looked for
COARSE_REACH = 64  # px of them, to either side
RANGE_MARGIN = 0.01  # of the width, beyond the range found
AGREEMENT_PX = 1.0  # by which the two eyes' matches may differ
BLOCK_PX = 3  # 5 and 7 blur borders: of motorcycle_cc0, 6.1, 6.7 and 7.4 % of the agreed pixels are off by 1 px
LEAST_MATCHED = 0.05  # of the pixels
SPECKLE_PIXELS, SPECKLE_STEP_PX = 100, 1
UNKNOWN = np.float32(np.nan)

Array = NDArray[np.float32]
Picture = NDArray[np.uint8]


class Matched(NamedTuple):
    """Disparity of one clip's left view, (T, 1, H, W) px."""

    agreed: Tensor  # NaN where the eyes do not agree
    filled: Tensor  # with the background continued there


Engine = Callable[[Tensor, Tensor], Array]  # the eyes of one frame, (3, H, W) each -> (H, W) px, NaN where unknown


def match(pair: StereoPair, engine: Engine) -> Matched:
    """Match every frame by itself.

    Raises:
        InputError: Next to nothing matches.
    """
    maps = [engine(left, right) for left, right in zip(pair.left, pair.right)]
    _check_known(pair, maps)
    return _matched(maps)


def match_cached(pair: StereoPair, engine: Engine, name: str, folder: Path) -> Matched:
    """`match`, or what it gave for the same pixels before; see it for what is raised."""
    key = hashlib.sha256(f"{VERSION} {name} {tuple(pair.left.shape)}".encode())
    for eye in (pair.left, pair.right):
        key.update(np.ascontiguousarray(eye.numpy()).data)
    path = folder / f"{file_stem(pair.name)}-{key.hexdigest()[:16]}.npy"
    if path.is_file():
        return _matched(list(np.load(path)))
    found = match(pair, engine)
    folder.mkdir(parents=True, exist_ok=True)
    with appearing(path) as partial, partial.open("wb") as file:
        np.save(file, found.agreed[:, 0].numpy())
    return found


def read_maps(folder: Path, pair: StereoPair, protocol: Protocol) -> Matched:
    """Disparity that somebody else computed: ``NAME.npy`` or ``NAME.npz``, (H, W) or (T, H, W) px of the left view.

    One map per frame that the protocol picks, at the size of the source; NaN and infinity are unknown.

    Raises:
        InputError: No such file, or one that does not fit the clip.
    """
    path = next(
        (folder / f"{pair.name}{end}" for end in (".npy", ".npz") if (folder / f"{pair.name}{end}").is_file()), None
    )
    if path is None:
        raise InputError(f"{folder} has no {pair.name}.npy or .npz, expected the left view's disparity in px; add it")
    try:
        content = np.load(path)
        maps = np.asarray(content if path.suffix == ".npy" else content[content.files[0]], dtype=np.float32)
    except (ValueError, OSError, IndexError) as error:
        raise InputError(f"{path} cannot be read as an array of disparities ({error}); save it with numpy") from error
    maps = maps.reshape(-1, *maps.shape[-2:])[pair.first_index : pair.first_index + len(pair)]
    fitted = [fit_disparity(np.where(np.isfinite(one), one, UNKNOWN), protocol) for one in maps]
    if len(fitted) != len(pair) or fitted[0].shape != tuple(pair.left.shape[2:]):
        raise InputError(f"{path} does not fit its clip; expected one map per frame at the size of the source")
    _check_known(pair, fitted)
    return _matched(fitted)


def sgbm(left: Tensor, right: Tensor) -> Array:
    """Semi-global matching by OpenCV, from either eye; what the two agree on."""
    left_picture, right_picture = (to_arrays(eye[None], np.uint8)[0] for eye in (left, right))
    low, high = _range_px(left_picture, right_picture)
    seen_left = _semi_global(left_picture, right_picture, low, high)
    # the mirrored right eye is the left eye of the mirrored scene
    seen_right = _semi_global(right_picture[:, ::-1], left_picture[:, ::-1], low, high)[:, ::-1]
    return agreed(seen_left, seen_right)


class FlowMatcher:
    """Matching by optical flow from eye to eye, whose horizontal part is the disparity."""

    def __init__(self, method: PairFlow):
        self._method = method

    def __call__(self, left: Tensor, right: Tensor) -> Array:
        """Match one frame; an `Engine`."""
        there, back = self._method.both_ways(self._method.prepare(left), self._method.prepare(right))
        size = left.shape[2], left.shape[1]
        seen_left, seen_right = (_enlarged(sign * flow[0], size) for sign, flow in ((-1, there), (1, back)))
        return agreed(seen_left, seen_right)


def open_matcher(name: str, device: torch.device) -> tuple[str, Engine]:
    """The engine of a name (``auto``: RAFT where its weights are on this machine, else SGBM) and what it is called.

    Raises:
        WeightsError: RAFT is asked for and has no weights.
        OptionError: An unknown name.
    """
    if name not in ("auto", "raft", "sgbm"):
        raise OptionError(f"--disparity {name} is neither auto, raft, sgbm nor a folder of maps")
    from spatialme.flow import WEIGHT_NAMES
    from spatialme.weights import find

    weights = next((path for known in WEIGHT_NAMES if (path := find(known)) is not None), None)
    if name == "sgbm" or (name == "auto" and weights is None):
        return "sgbm", sgbm
    if weights is None:
        raise WeightsError(
            f"none of {', '.join(WEIGHT_NAMES)} is on this machine; run `spatialme weights fetch {WEIGHT_NAMES[0]}` or "
            "use --disparity sgbm"
        )
    from spatialme.evaluation.stereo_raft import StereoRaft

    return "raft", FlowMatcher(StereoRaft(weights, device))


def agreed(seen_left: Array, seen_right: Array) -> Array:
    """Disparity of the left view where the right view's, followed back, is the same to `AGREEMENT_PX`; else NaN.

    Args:
        seen_left: (H, W) px of the left view, NaN where unknown.
        seen_right: (H, W) px of the right view.
    """
    width = seen_left.shape[1]
    there = np.arange(width) - np.nan_to_num(seen_left)
    column = np.rint(there).astype(np.int64)
    inside = (column >= 0) & (column < width)
    back = np.take_along_axis(seen_right, column.clip(0, width - 1), 1)
    with np.errstate(invalid="ignore"):
        same = inside & (np.abs(back - seen_left) <= AGREEMENT_PX)  # False for NaN
    return np.where(same, seen_left, UNKNOWN)


def fill_from_background(disparity: Array) -> Array:
    """Give each unknown pixel the smaller disparity of the next known ones in its row, (H, W).

    What one eye alone sees lies beside a nearer surface and belongs to the farther one. A row of which nothing is
    known is a copy of the nearest that is; a map of which nothing is known becomes 0.
    """
    known = np.isfinite(disparity)
    rows = np.flatnonzero(known.any(1))
    if not len(rows):
        return np.zeros_like(disparity)
    nearest_row = rows[np.abs(np.arange(len(disparity))[:, None] - rows).argmin(1)]
    disparity, known = disparity[nearest_row], known[nearest_row]
    width = disparity.shape[1]
    column = np.arange(width)
    before = np.maximum.accumulate(np.where(known, column, -1), axis=1)
    after = np.minimum.accumulate(np.where(known, column, width)[:, ::-1], axis=1)[:, ::-1]
    first = np.where(before < 0, np.inf, np.take_along_axis(disparity, before.clip(0), 1))
    second = np.where(after == width, np.inf, np.take_along_axis(disparity, after.clip(max=width - 1), 1))
    return np.minimum(first, second).astype(np.float32)


def _check_known(pair: StereoPair, maps: list[Array]) -> None:
    share = float(np.isfinite(maps).mean())
    if share < LEAST_MATCHED:
        raise InputError(
            f"{pair.name}: {100 * share:.1f} % of the left eye is found in the right one; "
            "expected two views of one scene"
        )


def _matched(maps: list[Array]) -> Matched:
    stacked = [np.stack(kind)[:, None] for kind in (maps, [fill_from_background(one) for one in maps])]
    return Matched(*(torch.from_numpy(np.ascontiguousarray(kind, dtype=np.float32)) for kind in stacked))


def _range_px(left: Picture, right: Picture) -> tuple[int, int]:
    """Lowest and highest disparity to look for: the bulk of a match of reduced pictures, and a margin."""
    height, width = left.shape[:2]
    scale = min(1.0, COARSE_WIDTH / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = [np.asarray(cv2.resize(eye, size, interpolation=cv2.INTER_AREA), dtype=np.uint8) for eye in (left, right)]
    reach = min(COARSE_REACH, size[0] // 3)
    there = _semi_global(small[0], small[1], -reach, reach)
    back = _semi_global(small[1][:, ::-1], small[0][:, ::-1], -reach, reach)[:, ::-1]
    found = agreed(there, back)
    found = found[np.isfinite(found)]
    low, high = np.percentile(found, (0.5, 99.5)) if len(found) else (-reach, reach)
    margin = 1 / scale + RANGE_MARGIN * width
    return int(np.floor(low / scale - margin)), int(np.ceil(high / scale + margin))


def _semi_global(left: Picture, right: Picture, low: int, high: int) -> Array:
    """Disparity of the first picture, NaN where none is found.

    Both are widened, for OpenCV gives no answer where the search would leave the picture.
    """
    steps = -(-(high - low + 1) // 16) * 16
    before, after = max(0, low + steps), max(0, -low)
    padded = [cv2.copyMakeBorder(eye, 0, 0, before, after, cv2.BORDER_REPLICATE) for eye in (left, right)]
    matcher = cv2.StereoSGBM.create(
        minDisparity=low,
        numDisparities=steps,
        blockSize=BLOCK_PX,
        P1=8 * 3 * BLOCK_PX**2,
        P2=32 * 3 * BLOCK_PX**2,
        uniquenessRatio=5,
        speckleWindowSize=SPECKLE_PIXELS,
        speckleRange=SPECKLE_STEP_PX,
        mode=cv2.STEREO_SGBM_MODE_SGBM_3WAY,
    )
    sixteenths = matcher.compute(*padded)[:, before : before + left.shape[1]]
    found = sixteenths.astype(np.float32) / 16
    return np.where(found < low, UNKNOWN, found)


def _enlarged(values: Tensor, size: tuple[int, int]) -> Array:
    """Horizontal px of a small grid at the size (width, height) of the picture."""
    small = values.float().cpu().numpy()
    grown = cv2.resize(small, size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(grown, dtype=np.float32) * np.float32(size[0] / small.shape[1])
