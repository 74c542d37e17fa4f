"""The contact sheet: one row per spot, with the frame, its depth, the holes of the other eye, and an anaglyph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from spatialme.disk import appearing
from spatialme.errors import OutputError
from spatialme.preview_spots import JudgedSpot
from spatialme.video.anaglyph import mix

Array = np.ndarray

TILE_WIDTH = 400
GAP = 6
BACKGROUND, INK = 24, (235, 235, 235)
HOLE_COLOUR = (255, 0, 255)  # rare in films
LINE_HEIGHT, FONT_SCALE = 22, 0.5
COLUMNS = ("frame", "depth (white is near)", "right eye before filling, holes magenta", "anaglyph (red-cyan)")


def draw_sheet(spots: Sequence[JudgedSpot], labels: Sequence[str], heading: Sequence[str]) -> Array:
    """Draw the sheet.

    Args:
        spots: One row each.
        labels: The line above each row.
        heading: Lines above all; other than ASCII letters become question marks.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    width = len(COLUMNS) * (TILE_WIDTH + GAP) + GAP
    parts = [_text_line(line, width) for line in heading]
    parts.append(np.concatenate([_text_line(name, TILE_WIDTH + GAP) for name in COLUMNS], axis=1))
    parts[-1] = _fit(parts[-1], width)
    for spot, label in zip(spots, labels):
        parts += [_text_line(label, width), _row(spot, width)]
    return np.concatenate(parts)


def write_png(path: Path, picture: Array) -> None:
    """Write the sheet whole or not at all.

    Raises:
        OutputError: The file cannot be written.
    """
    encoded, content = cv2.imencode(".png", np.ascontiguousarray(picture[..., ::-1]))
    assert encoded, "an RGB picture is always one"
    try:
        with appearing(path) as partial:
            partial.write_bytes(content.tobytes())
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror}); give another OUTPUT") from error


def _row(spot: JudgedSpot, width: int) -> Array:
    holes = spot.warped.copy()
    holes[spot.hole] = HOLE_COLOUR
    depth = np.repeat(spot.nearness[..., None], 3, axis=2)
    tiles = [spot.frame, depth, holes, mix(spot.frame, spot.filled, "dubois")]
    height = round(TILE_WIDTH * spot.frame.shape[0] / spot.frame.shape[1])
    row = np.full((height + GAP, width, 3), BACKGROUND, np.uint8)
    for number, tile in enumerate(tiles):
        left = GAP + number * (TILE_WIDTH + GAP)
        row[:height, left : left + TILE_WIDTH] = cv2.resize(tile, (TILE_WIDTH, height), interpolation=cv2.INTER_AREA)
    return row


def _text_line(text: str, width: int) -> Array:
    line = np.full((LINE_HEIGHT, width, 3), BACKGROUND, np.uint8)
    plain = text.encode("ascii", "replace").decode()
    cv2.putText(line, plain, (GAP, LINE_HEIGHT - 7), cv2.FONT_HERSHEY_SIMPLEX, FONT_SCALE, INK, 1, cv2.LINE_AA)
    return line


def _fit(line: Array, width: int) -> Array:
    missing = np.full((line.shape[0], width - line.shape[1], 3), BACKGROUND, np.uint8)
    return np.concatenate((line, missing), axis=1)
