"""From measures to words: what is well, what to look at, what hurts.

Limits follow stereographers' practice (disparity within about 3 % of the width, vertical below 0.3 %) and real pairs:
their exposure differs by less than 4 levels, a warped view's flicker from its source's by less than a third.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from spatialme.evaluation.checks import IDENTICAL_BELOW, SWAPPED_BELOW
from spatialme.evaluation.comfort import Comfort
from spatialme.evaluation.eye_order import Votes
from spatialme.evaluation.matching import LEAST_MATCHED

Level = Literal["ok", "warning", "serious"]

RIGHT_ORDER_ABOVE = 0.6  # share of votes
DISPARITY_PERCENT = (3.0, 6.0)  # of the width: warning, serious
VERTICAL_PERCENT = (0.3, 1.0)
EXPOSURE_LEVELS = (4.0, 15.0)  # of 255
COLOUR_LEVELS = (4.0, 12.0)
WINDOW_SHARE = 0.2  # of the side borders; a warning only
FLICKER_RATIO = (1.33, 2.0)  # of the eyes' flicker
FROZEN_SHARE = 0.1  # of the steps in which one eye alone stands still: serious; any: warning
REPEATED_SHARE = 0.25  # of the steps in which both do: warning


@dataclass(frozen=True)
class Finding:
    """One line."""

    level: Level
    text: str


@dataclass(frozen=True)
class Measured:
    """What was measured in a file."""

    comfort: Comfort
    matched: float  # share of the left eye that is found in the right one
    votes: Votes
    eye_difference: float  # mean, of [0, 1]
    left_flicker: float | None
    right_flicker: float | None
    steps: int  # from a frame to the next
    frozen_eye: int  # of them, in which one eye alone stands still
    repeated: int  # in which both do


def judge(measured: Measured) -> Iterator[Finding]:
    """Yield what there is to say; nothing more where the eyes do not make a pair."""
    if measured.eye_difference < IDENTICAL_BELOW:
        yield Finding("serious", f"both eyes are the same picture ({255 * measured.eye_difference:.2f} of 255 apart)")
        return
    if measured.matched < LEAST_MATCHED:
        yield Finding(
            "serious", f"the eyes share no scene: {100 * measured.matched:.0f} % of one is found in the other"
        )
        return
    yield _eye_order(measured.votes)
    yield from _geometry(measured.comfort)
    yield from _colours(measured.comfort)
    yield from _over_time(measured)


def _eye_order(votes: Votes) -> Finding:
    share = votes.share
    if share is None:
        return Finding("ok", f"eye order could not be told ({votes.right_order + votes.swapped} half-hidden areas)")
    said = f"{100 * share:.0f} % of half-hidden areas fit left eye first"
    if share < SWAPPED_BELOW:
        return Finding("serious", f"the eyes are swapped: {said}")
    return Finding("ok", f"eye order: {said}" + ("" if share > RIGHT_ORDER_ABOVE else ", not enough to tell"))


def _geometry(comfort: Comfort) -> Iterator[Finding]:
    if comfort.disparity_p1 is not None and comfort.disparity_p99 is not None:
        widest = max(abs(comfort.disparity_p1), abs(comfort.disparity_p99))
        span = f"{comfort.disparity_p1:+.2f} to {comfort.disparity_p99:+.2f} % of the width (positive: in front)"
        yield Finding(_level(widest, DISPARITY_PERCENT), f"depth: {span}")
    if comfort.window_violation is not None:
        level: Level = "warning" if comfort.window_violation > WINDOW_SHARE else "ok"
        yield Finding(level, f"window: {100 * comfort.window_violation:.0f} % of the side borders stand in front of it")
    if comfort.vertical_offset is None:
        yield Finding("ok", "vertical offset could not be told: too few points match")
        return
    said = f"vertical offset: {comfort.vertical_offset:+.2f} % of the width (positive: right eye lower)"
    yield Finding(_level(abs(comfort.vertical_offset), VERTICAL_PERCENT), said)


def _colours(comfort: Comfort) -> Iterator[Finding]:
    exposure = comfort.exposure_difference
    yield Finding(_level(abs(exposure), EXPOSURE_LEVELS), f"brightness: right minus left {exposure:+.1f} of 255")
    colour = comfort.colour_difference
    yield Finding(_level(colour, COLOUR_LEVELS), f"colour: the eyes differ by {colour:.1f} of 255 beside brightness")


def _over_time(measured: Measured) -> Iterator[Finding]:
    left, right = measured.left_flicker, measured.right_flicker
    if left and right:
        said = f"flicker: {left:.4f} in the left eye, {right:.4f} in the right one"
        yield Finding(_level(max(left, right) / min(left, right), FLICKER_RATIO), said)
    if measured.steps:
        frozen = measured.frozen_eye / measured.steps
        level: Level = "serious" if frozen > FROZEN_SHARE else "warning" if frozen else "ok"
        yield Finding(level, f"frozen: one eye stands still in {measured.frozen_eye} of {measured.steps} steps")
        repeated: Level = "warning" if measured.repeated > REPEATED_SHARE * measured.steps else "ok"
        yield Finding(repeated, f"repeated frames: both eyes in {measured.repeated} of {measured.steps} steps")


def _level(value: float, limits: tuple[float, float]) -> Level:
    warning, serious = limits
    return "serious" if value > serious else "warning" if value > warning else "ok"
