"""Frames made of planes on a GPU: the CPU kernel's pixels, to the bit; and the same cuts."""

from __future__ import annotations

import av
import numpy as np
import pytest
import torch

from spatialme.colour_torch import frames_of
from spatialme.film import eyes
from spatialme.shots import CutDetector, to_tensor
from spatialme.video import convert_pixels
from spatialme.video.picture import Picture, StreamInfo
from spatialme.video.planes import read_planes
from spatialme.video.reader import open_source
from tests import media

CPU = torch.device("cpu")
FORMATS = ("yuv420p", "yuv422p", "yuv444p", "yuv440p", "yuv411p", "yuv410p", "yuv420p10le", "yuv422p10le", "gray")
FORMATS += ("yuv444p12le", "gbrp", "rgb24")


def picture(pixel_format: str, *, matrix: int, full: bool, width: int = 53, height: int = 37) -> Picture:
    """Noise over all codes, those outside the range too."""
    frame = av.VideoFrame(width, height, pixel_format)
    random = np.random.default_rng(5)
    for plane in read_planes(frame):
        bits = max(component.bits for component in frame.format.components)
        plane[:] = random.integers(0, 1 << bits, plane.shape, plane.dtype)
    frame.colorspace, frame.color_range = matrix, 2 if full else 1
    return Picture(0, 0, frame, key=True, repeated=False)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [1, 5, 9])
@pytest.mark.parametrize("pixel_format", FORMATS)
def test_frames_of_planes_are_those_of_the_kernels_rgb(pixel_format, matrix, full):
    noise = picture(pixel_format, matrix=matrix, full=full)
    frames = frames_of([noise, noise], CPU)
    assert torch.equal(frames, to_tensor([noise.rgb()] * 2, CPU))
    assert frames.std() > 0.1


@pytest.mark.parametrize("size", [(1920, 1080), (1280, 720), (720, 576), (512, 288), (320, 180), (300, 300), (200, 90)])
def test_the_cut_detector_reads_no_other_rows(size):
    width, height = size
    random = np.random.default_rng(1)
    detectors = CutDetector(), CutDetector()
    rows = CutDetector.rows_read(height, width)
    assert len(rows) <= max(height, 1)
    seen = []
    for detector in detectors:
        scores = []
        detector._detector.process_frame = lambda number, image, scores=scores: scores.append(image) or []
        seen.append(scores)
    for _ in range(2):
        image = random.integers(0, 256, (height, width, 3), np.uint8)
        spoilt = random.integers(0, 256, image.shape, np.uint8)
        spoilt[rows] = image[rows]
        detectors[0].feed(image)
        detectors[1].feed(spoilt)
    for whole, partial in zip(*seen):
        np.testing.assert_array_equal(whole, partial)
    if width >= 4 * 256:
        assert len(rows) <= 0.6 * height  # which is why it is worth the trouble


def test_only_the_wanted_rows_are_converted():
    noise = picture("yuv420p", matrix=1, full=False).frame
    rows = np.array([0, 5, 6, 36])
    np.testing.assert_array_equal(convert_pixels.rgb(noise, rows)[rows], convert_pixels.rgb(noise)[rows])


def test_a_gpus_clips_are_the_cpus(tmp_path):
    """By way of PyTorch's meta device the shapes and cuts, by way of the CPU the pixels."""
    path = media.write_video(tmp_path / "clip.mp4", frames=12)
    with open_source(path) as source:
        info: StreamInfo = source.info
        pictures = list(source)
    wanted = list(eyes._clips(pictures, info, CPU, clip_length=5, first_index=0))
    found = list(eyes._clips(pictures, info, torch.device("meta"), clip_length=5, first_index=0))
    for one, other in zip(wanted, found, strict=True):
        assert one.frames.shape == other.frames.shape
        assert other.frames.device.type == "meta"
        assert (one.starts_shot, one.ends_shot, one.pictures) == (other.starts_shot, other.ends_shot, other.pictures)
        assert torch.equal(frames_of(other.pictures, CPU), one.frames)
