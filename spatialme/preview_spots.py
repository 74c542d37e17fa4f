"""Spots of a film: a few frames here and there, warped in small, and how hard each is on the filling of holes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import torch

from spatialme.errors import InputError
from spatialme.pipeline import Converter
from spatialme.refine import compose
from spatialme.shots import to_arrays, to_tensor
from spatialme.types import Clip, WarpedClip
from spatialme.video.picture import Picture
from spatialme.video.reader import Source, open_source

Array = np.ndarray

SPOTS = 16
SPOT_FRAMES = 4  # consecutive, from a key picture on
SHORT_SIDE = 288  # of the frames that are judged; hole shares and disparities in percent do not depend on it
LONGEST_PASS = 600  # pictures of a film that is read as a whole; longer ones are sought in, where that can be


@dataclass(frozen=True)
class Spot:
    """Consecutive frames of one place in a film."""

    seconds: float  # of the first one, from the film's start
    frames: list[Array]  # (h, w, 3) uint8 RGB, small


@dataclass(frozen=True)
class JudgedSpot:
    """What converting a spot showed."""

    seconds: float
    hole_share: float  # mean over its frames, of 1
    change_percent: float  # mean change of disparity from frame to frame, in percent of the width
    frame: Array  # (h, w, 3) uint8 RGB, as are the others: its first frame,
    nearness: Array  # (h, w) uint8, 255 = nearest
    warped: Array  # the other eye with its holes left open,
    hole: Array  # (h, w) bool, where they are,
    filled: Array  # and the other eye as the poly branch fills it


def read_spots(path: Path) -> list[Spot]:
    """Sample a film, evenly and where it has key pictures, so that it is quick however long the film is.

    Raises:
        InputError: It cannot be read.
    """
    with open_source(path) as source:
        duration, frames = source.info.duration_seconds, source.info.frame_estimate
        if source.kind != "video" or duration is None or (frames is not None and frames <= LONGEST_PASS):
            return _in_one_pass(source)
        origin = source.origin_seconds
    starts = _key_seconds(path, origin, [(number + 0.5) / SPOTS * duration for number in range(SPOTS)])
    spots = []
    for start in starts:
        try:
            with open_source(path, start_seconds=start, keep_going=True) as source:
                spots.append(_spot(source, start, itertools.islice(source, SPOT_FRAMES)))
        except InputError:  # damaged here: the others tell enough
            continue
    if spots:
        return spots
    with open_source(path) as source:
        return _in_one_pass(source)


def judge(spots: Sequence[Spot], converter: Converter) -> list[JudgedSpot]:
    """Warp each spot, as a shot of its own, with the converter's depth and disparity."""
    with torch.inference_mode():
        clips = (_clip(number, spot, converter.device) for number, spot in enumerate(spots))
        return [_judged(spot, warped, converter) for spot, warped in zip(spots, converter.warped(clips))]


def hardest(judged: Sequence[JudgedSpot], count: int) -> list[JudgedSpot]:
    """The spots with the largest holes and, in turn, those with the strongest changes, in the film's order."""
    by_holes = sorted(judged, key=lambda spot: -spot.hole_share)
    by_change = sorted(judged, key=lambda spot: -spot.change_percent)
    chosen: dict[float, JudgedSpot] = {}
    for spot in itertools.chain.from_iterable(zip(by_holes, by_change)):
        if len(chosen) < count:
            chosen.setdefault(spot.seconds, spot)
    return [chosen[seconds] for seconds in sorted(chosen)]


def _key_seconds(path: Path, origin: Fraction, wanted: Sequence[float]) -> list[float]:
    """Times of the key pictures at or before the wanted times, each once; the wanted time where no seek leads."""
    found = set()
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        assert stream is not None, "opened before"
        time_base = stream.time_base or Fraction(1, 1_000_000)
        for seconds in wanted:
            start = Fraction(seconds)
            try:
                container.seek(round((start + origin) / time_base), stream=stream)
                packet = next((p for p in container.demux(stream) if p.is_keyframe and p.pts is not None), None)
            except av.FFmpegError:
                packet = None
            if packet is not None and packet.pts is not None:
                start = min(start, max(Fraction(0), packet.pts * time_base - origin))
            found.add(float(start))
    return sorted(found)


def _in_one_pass(source: Source) -> list[Spot]:
    """Spots of what is short or cannot be sought in: read from the start, and no further than LONGEST_PASS."""
    total = min(source.info.frame_estimate or LONGEST_PASS, LONGEST_PASS)
    step = max(SPOT_FRAMES, total // SPOTS)
    spots = []
    pictures = itertools.islice(source, total)
    while first := next(pictures, None):
        seconds = float((first.pts - source.first_pts) * source.info.time_base)
        rest = itertools.islice(pictures, step - 1)
        spots.append(_spot(source, seconds, itertools.chain([first], itertools.islice(rest, SPOT_FRAMES - 1))))
        for _ in rest:
            pass
    return spots


def _spot(source: Source, seconds: float, pictures: Iterator[Picture]) -> Spot:
    scale = min(1.0, SHORT_SIDE / min(source.info.width, source.info.height))
    size = round(source.info.width * scale), round(source.info.height * scale)
    return Spot(seconds, [_small(picture.rgb(), size) for picture in pictures])


def _small(rgb: Array, size: tuple[int, int]) -> Array:
    eight_bit = rgb if rgb.dtype == np.uint8 else (rgb >> 8).astype(np.uint8)
    return cv2.resize(eight_bit, size, interpolation=cv2.INTER_AREA)


def _clip(number: int, spot: Spot, device: torch.device) -> Clip:
    frames = to_tensor(spot.frames, device)
    return Clip(frames, tuple(spot.frames), number * SPOT_FRAMES, number, starts_shot=True, ends_shot=True)


def _judged(spot: Spot, warped: WarpedClip, converter: Converter) -> JudgedSpot:
    disparity = warped.source_disparity
    change = disparity.diff(dim=0).abs().mean() if len(disparity) > 1 else disparity.new_zeros(())
    (filled,) = converter.branches[0].stream([warped])
    view = compose(warped.view[:1], warped.hole[:1], filled.view[:1])
    assert warped.range_px is not None, "the warper sets it"
    far, near = warped.range_px[0]
    nearness = (disparity[:1] - far) / (near - far)
    return JudgedSpot(
        seconds=spot.seconds,
        hole_share=float(warped.hole.float().mean()),
        change_percent=float(change) / disparity.shape[-1] * 100,
        frame=spot.frames[0],
        nearness=to_arrays(nearness, np.uint8)[0][..., 0],
        warped=to_arrays(warped.view[:1], np.uint8)[0],
        hole=warped.hole[0, 0].cpu().numpy(),
        filled=to_arrays(view, np.uint8)[0],
    )
