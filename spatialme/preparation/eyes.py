"""Both eyes of a stereo recording, frame by frame, whatever they are packed in."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from spatialme.errors import InputError
from spatialme.evaluation.packing import PACKINGS, Packing, find_packing
from spatialme.preparation.items import Item
from spatialme.preparation.mpo import read_mpo
from spatialme.preparation.settings import StereoFormat
from spatialme.preparation.shots import Picture, read_pictures, reduced

Eyes = tuple[Picture, Picture]  # left and right, of one size


def read_eyes(item: Item, format: StereoFormat, short_side: int | None, warnings: list[str]) -> Iterator[Eyes]:
    """The frames of an item.

    Args:
        item: Two files, one that holds both eyes, or an MPO.
        format: How one file packs them; ``auto`` looks.
        short_side: See `reduced`.
        warnings: Gets what is worth telling.

    Raises:
        InputError: An eye cannot be read, the two differ in size, or nothing tells how they are packed.
    """
    if len(item.files) == 2:
        both = _two_files(item.files[0], item.files[1], warnings)
    elif item.files[0].suffix.lower() == ".mpo":
        both = iter([read_mpo(item.files[0])])
    else:
        both = _one_file(item.files[0], format, warnings)
    for left, right in both:
        if left.shape != right.shape:
            raise InputError(
                f"the left eye is {left.shape[1]}x{left.shape[0]} and the right eye {right.shape[1]}x{right.shape[0]}, "
                "expected one size; cut them alike"
            )
        yield reduced(left, short_side), reduced(right, short_side)


def _two_files(left_path: Path, right_path: Path, warnings: list[str]) -> Iterator[tuple[NDArray, NDArray]]:
    lefts, rights = read_pictures(left_path, warnings), read_pictures(right_path, warnings)
    for index, (left, right) in enumerate(itertools.zip_longest(lefts, rights)):
        if left is None or right is None:
            shorter = left_path if left is None else right_path
            warnings.append(f"{shorter.name} ends after {index} frames, its other eye goes on; the rest is left out")
            return
        yield left, right


def _one_file(path: Path, format: StereoFormat, warnings: list[str]) -> Iterator[tuple[NDArray, NDArray]]:
    packing: Packing | None = None if format == "auto" else PACKINGS[format]
    for packed in read_pictures(path, warnings):
        if packing is None:
            packing = find_packing(path, packed.shape[1], packed.shape[0])
        yield _unpacked(packed, packing)


def _unpacked(packed: NDArray, packing: Packing) -> tuple[NDArray, NDArray]:
    """Eyes that were squeezed are shrunk in the other direction: no pixel that was not there."""
    left, right = replace(packing, half=False).eyes(packed)
    if not packing.half:
        return left, right
    height, width = left.shape[:2]
    size = (width, height // 2) if packing.across else (width // 2, height)
    shrunk = [np.asarray(cv2.resize(eye, size, interpolation=cv2.INTER_AREA)) for eye in (left, right)]
    return shrunk[0], shrunk[1]
