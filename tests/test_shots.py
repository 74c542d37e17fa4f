"""Cut detection on pictures with known cuts."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from spatialme.shots import tag_shots, to_arrays, to_tensor


def pictures(lengths: list[int], *, dtype: type = np.uint8) -> list[np.ndarray]:
    """Shots of a slowly panning texture, each of its own colours."""
    random = np.random.default_rng(4)
    made = []
    top = np.iinfo(dtype).max
    for length in lengths:
        colour = random.random(3)
        blobs = cv2.resize(random.random((5, 12, 3)), (64 + length, 36), interpolation=cv2.INTER_CUBIC).clip(0, 1)
        texture = blobs * 0.3 + colour * 0.7
        made += [(texture[:, t : t + 64] * top).astype(dtype) for t in range(length)]
    return made


def shots_of(clips) -> list[int]:
    lengths: list[int] = []
    for clip in clips:
        if clip.starts_shot:
            lengths.append(0)
        lengths[-1] += len(clip)
    return lengths


@pytest.mark.parametrize("clip_length", [1, 3, 16])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_cuts_are_found_to_the_frame_and_no_clip_crosses_one(clip_length, dtype):
    lengths = [13, 8, 21, 5]
    clips = list(tag_shots(pictures(lengths, dtype=dtype), lambda p: p, clip_length=clip_length))
    assert shots_of(clips) == lengths
    assert max(len(clip) for clip in clips) <= clip_length
    assert [clip.first_index for clip in clips] == list(np.cumsum([0, *[len(clip) for clip in clips]])[:-1])
    for clip, following in zip(clips, [*clips[1:], None]):
        assert clip.ends_shot == (following is None or following.starts_shot)
        assert following is None or following.shot == clip.shot + clip.ends_shot


def test_a_single_frame_is_a_shot():
    (clip,) = tag_shots(pictures([1]), lambda p: p, clip_length=8)
    assert (len(clip), clip.starts_shot, clip.ends_shot) == (1, True, True)


def test_no_frames_make_no_clips():
    assert list(tag_shots([], lambda p: p, clip_length=8)) == []


def test_a_camera_flash_does_not_tear_a_shot_into_single_frames():
    frames = pictures([20])
    frames[10] = np.full_like(frames[10], 255)
    clips = list(tag_shots(frames, lambda p: p, clip_length=32))
    assert len(shots_of(clips)) <= 2


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pixels_survive_the_way_to_a_tensor_and_back(dtype):
    images = [np.random.default_rng(1).integers(0, np.iinfo(dtype).max, (6, 9, 3), endpoint=True).astype(dtype)] * 2
    frames = to_tensor(images, "cpu")
    assert frames.shape == (2, 3, 6, 9)
    assert frames.min() >= 0
    assert frames.max() <= 1
    for before, after in zip(images, to_arrays(frames, dtype)):
        np.testing.assert_array_equal(before, after)
