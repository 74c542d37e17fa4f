"""Frames made of planes on a GPU, and planes of eyes: the CPU kernels' samples, to the bit; and the same cuts."""

from __future__ import annotations

from typing import get_args

import av
import numpy as np
import pytest
import torch

from spatialme import convert
from spatialme.colour_torch import DepartingPlanes, frames_of, rgb_to_yuv
from spatialme.film import eyes
from spatialme.shots import CutDetector, Departing, to_tensor
from spatialme.video import convert_pixels
from spatialme.video.metadata import Format
from spatialme.video.picture import Picture, StreamInfo
from spatialme.video.plan import OutputOptions, plan_output
from spatialme.video.planes import read_planes
from spatialme.video.reader import open_source
from tests import media

CPU, GPU, META = (torch.device(name) for name in ("cpu", "cuda", "meta"))
YUV_FORMATS = ("yuv420p", "yuv422p", "yuv444p", "yuv440p", "yuv411p", "yuv410p", "yuv420p10le", "yuv422p10le")
YUV_FORMATS += ("yuv444p12le", "yuv420p16le")
FORMATS = (*YUV_FORMATS, "gray", "gbrp", "rgb24")


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
    found = list(eyes._clips(pictures, info, META, clip_length=5, first_index=0))
    for one, other in zip(wanted, found, strict=True):
        assert one.frames.shape == other.frames.shape
        assert other.frames.device.type == "meta"
        assert (one.starts_shot, one.ends_shot, one.pictures) == (other.starts_shot, other.ends_shot, other.pictures)
        assert torch.equal(frames_of(other.pictures, CPU), one.frames)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("size", [(53, 37), (64, 48), (18, 19)])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [1, 4, 5, 7, 9])
@pytest.mark.parametrize("pixel_format", YUV_FORMATS)
def test_planes_of_eyes_are_those_of_the_kernel(pixel_format, matrix, full, size, dtype):
    like = av.VideoFrame(*size, pixel_format)
    like.colorspace, like.color_range = matrix, 2 if full else 1
    random = np.random.default_rng(3)
    top = np.iinfo(dtype).max
    noise = random.integers(0, top, (size[1], size[0], 3), dtype, endpoint=True)
    images = [noise, random.choice(np.array([0, top], dtype), noise.shape)]  # the corners of the cube reach every limit
    departing = DepartingPlanes(to_tensor(images, CPU), convert_pixels.encoding_like(like, dtype))
    for image, planes in zip(images, departing.arrays(), strict=True):
        for found, wanted in zip(planes, read_planes(convert_pixels.from_rgb(image, like)), strict=True):
            assert found.dtype == wanted.dtype
            np.testing.assert_array_equal(found, wanted)


def test_colours_are_rounded_to_levels_before_they_become_planes():
    """As they are on a CPU, where RGB lies in between; values beyond black and white are held."""
    like = av.VideoFrame(16, 16, "yuv444p10le")
    view = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 1.4 - 0.2
    (planes,) = DepartingPlanes(view, convert_pixels.encoding_like(like, np.uint8)).arrays()
    (image,) = Departing(view, np.uint8).arrays()
    for found, wanted in zip(planes, read_planes(convert_pixels.from_rgb(image, like))):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("pixel_format", ["yuv410p", "yuv420p10le"])
def test_planes_are_made_without_waiting_for_the_device(pixel_format):
    encoding = convert_pixels.encoding_like(av.VideoFrame(53, 37, pixel_format), np.uint8)
    view = torch.zeros(2, 3, 37, 53)
    wanted, found = (rgb_to_yuv(view.to(device), encoding) for device in (CPU, META))
    for one, other in zip(wanted, found):
        assert (one.shape, one.dtype, other.device) == (other.shape, other.dtype, META)


@pytest.mark.parametrize(
    ("packing", "pixel_format"), [*((packing, "yuv420p") for packing in get_args(Format)), ("half_sbs", "yuv422p10le")]
)
def test_a_gpus_eyes_make_the_same_film(tmp_path, monkeypatch, packing, pixel_format):
    """Everything computes on the CPU; the eyes leave it the way they leave a GPU."""
    clip = media.write_video(tmp_path / "clip.mp4", frames=3, width=98, height=66, pixel_format=pixel_format)
    choices = {"depth": "tiny", "device": "cpu", "quality": "draft", "format": packing}
    convert(clip, tmp_path / "wanted.mp4", **choices)
    sent = []
    departure = eyes._departure

    def as_from_gpu(info, plan, device):
        depart = departure(info, plan, GPU)
        return lambda view: sent.append(depart(view)) or sent[-1]

    monkeypatch.setattr(eyes, "_departure", as_from_gpu)
    convert(clip, tmp_path / "found.mp4", **choices)
    assert {type(each) for each in sent} == {Departing if packing == "anaglyph" else DepartingPlanes}
    for name in ("_left", "_right") if packing == "two_files" else ("",):
        wanted, found = ((tmp_path / f"{stem}{name}.mp4").read_bytes() for stem in ("wanted", "found"))
        assert wanted == found


def test_rgb_is_packed_of_rgb(tmp_path):
    path = media.write_video(tmp_path / "clip.mov", codec="png", pixel_format="rgb24", frames=2)
    with open_source(path) as source:
        plan = plan_output(tmp_path / "out.mkv", source, OutputOptions(codec="ffv1"))
        assert isinstance(eyes._departure(source.info, plan, GPU)(torch.zeros(1, 3, 48, 64)), Departing)
