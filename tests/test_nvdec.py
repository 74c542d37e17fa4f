"""Decoding on a GPU, without one: the error, its kind of pictures, and what becomes of those of a pretended GPU.

The pretended GPU is the CPU whose pictures are rearranged as NVDEC delivers them.
"""

from __future__ import annotations

from dataclasses import fields
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.codec.hwaccel import HWAccel

from spatialme import convert
from spatialme.cli import main
from spatialme.errors import InputError, OptionError
from spatialme.film import cluster, workers
from spatialme.film.film import Film
from spatialme.film.stretch import StretchOutcome
from spatialme.settings import ConverterSettings
from spatialme.video import material, nvdec
from spatialme.video.decoding import Decoded
from spatialme.video.deinterlace import deinterlaced
from spatialme.video.opening import choose_video, open_container
from spatialme.video.orientation import Orientation
from spatialme.video.picture import StreamInfo
from spatialme.video.planes import read_planes
from spatialme.video.reader import open_source
from spatialme.video.scaling import CHANGE_FORMAT
from spatialme.video.upright import Upright
from tests import media

SEMI_PLANAR = {"yuv420p": "nv12", "yuvj420p": "nv12", "yuv420p10le": "p010le"}
ACCELERATOR = HWAccel("cuda")
DRAFT = {"depth": "tiny", "device": "cpu", "quality": "draft"}


def has_gpu() -> bool:
    try:
        return nvdec.find_accelerator("cuda", "auto") is not None
    except OptionError:
        return False


def rearranged(planar: av.VideoFrame) -> av.VideoFrame:
    """The same samples, semi-planar."""
    name = planar.format.name
    limits = 2 if name.startswith("yuvj") else 1  # of both, so that nothing is scaled
    made = planar.reformat(
        format=SEMI_PLANAR[name], src_color_range=limits, dst_color_range=limits, interpolation=CHANGE_FORMAT
    )
    made.color_range = planar.color_range
    return made


class PretendedGpu:
    """Stands in a decoder's place: what it decodes comes semi-planar, with `change` done to it."""

    change = staticmethod(lambda frame: None)

    def frame(self, decoded: av.VideoFrame) -> av.VideoFrame:
        made = rearranged(decoded)
        self.change(made)
        return made


class PretendedStream:
    """A stream of `PretendedContainer`."""

    def __init__(self, real, gpu: PretendedGpu):
        vars(self).update(real=real, gpu=gpu)

    def __getattr__(self, name):
        return getattr(self.real, name)

    def __setattr__(self, name, value):
        setattr(self.real, name, value)

    def decode(self, packet):
        return list(map(self.gpu.frame, self.real.decode(packet)))


class PretendedContainer:
    """A container opened for decoding on the GPU."""

    def __init__(self, real, gpu: PretendedGpu):
        self.real, self.gpu = real, gpu

    def __getattr__(self, name):
        return getattr(self.real, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.real.close()

    def decode(self, stream):
        return map(self.gpu.frame, self.real.decode(stream.real))

    def demux(self, stream):
        return self.real.demux(stream.real)

    def seek(self, offset, stream):
        self.real.seek(offset, stream=stream.real)


@pytest.fixture
def pretended_gpu(monkeypatch):
    """Decodes whatever is opened with an accelerator."""
    gpu = PretendedGpu()

    def open_there(path, content=None, *, accelerator=None):
        opened = open_container(path, content)
        return PretendedContainer(opened, gpu) if accelerator else opened

    def choose(container, path):
        stream, notes = choose_video(container, path)
        return PretendedStream(stream, gpu) if isinstance(container, PretendedContainer) else stream, notes

    for module in (nvdec, material):
        monkeypatch.setattr(module, "open_container", open_there)
        monkeypatch.setattr(module, "choose_video", choose)
    return gpu


def pictures(path: Path, accelerator: HWAccel | None = None, **cut) -> tuple[StreamInfo, list, list[str]]:
    """What is known of them, time stamps and planes of all, and the notes."""
    with open_source(path, accelerator=accelerator, **cut) as source:
        found = [(picture.pts, picture.key, *map(np.copy, read_planes(picture.frame))) for picture in source]
        return source.info, found, source.warnings


def same(some: list, others: list) -> bool:
    pairs = zip(some, others, strict=True)
    return all(np.array_equal(one, other) for pair in pairs for one, other in zip(*pair, strict=True))


@pytest.mark.skipif(has_gpu(), reason="there is a GPU")
def test_without_a_gpu_it_is_refused_in_one_line_and_nothing_is_written(tmp_path, capfd):
    clip = media.write_video(tmp_path / "clip.mp4", frames=2)
    assert main(["convert", str(clip), str(tmp_path / "out.mp4"), "--decoder", "cuda"]) == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert "--decoder cuda does not start here" in error
    assert error.endswith("it needs an NVIDIA GPU and its driver; use --decoder cpu\n")
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_an_unknown_decoder_is_refused():
    with pytest.raises(OptionError, match=r"--decoder 'nvdec' is not known; use cpu or cuda"):
        nvdec.find_accelerator("nvdec", "auto")


@pytest.mark.parametrize(("device", "number"), [("auto", None), ("cpu", None), ("cuda", None), ("cuda:3", "3")])
def test_each_process_decodes_on_the_gpu_it_computes_on(monkeypatch, device, number):
    asked = []

    class Accelerator:
        def __init__(self, kind, device):
            asked.append((kind, device))

        def create(self, codec):
            pass

    monkeypatch.setattr(nvdec, "HWAccel", Accelerator)
    assert isinstance(nvdec.find_accelerator("cuda", device), Accelerator)
    assert asked == [("cuda", number)]
    assert nvdec.find_accelerator("cpu", device) is None


@pytest.mark.parametrize("module", [cluster, workers])
def test_a_worker_decodes_on_its_own_gpu(monkeypatch, module):
    settings = ConverterSettings(device="cuda:0")
    unused = dict.fromkeys(field.name for field in fields(Film))
    film = Film(**{**unused, "settings": settings, "decoder": "cuda"})
    opened = []
    monkeypatch.setattr(module, "open_converter", opened.append)

    def convert_stretch(film, *_, **__):
        opened.append(film.settings)
        return StretchOutcome(1, [])

    monkeypatch.setattr(module, "convert_stretch", convert_stretch)
    monkeypatch.setitem(workers._process, "device", "cuda:1")
    monkeypatch.setitem(workers._process, "stopping", None)
    module.convert_share(film, None, *["cuda:1"] * (module is cluster))
    assert [settings.device for settings in opened] == ["cuda:1"] * 2


@pytest.mark.parametrize("size", [(64, 48), (66, 50), (53, 37)])
@pytest.mark.parametrize("color_range", [0, 1, 2])
@pytest.mark.parametrize("pixel_format", ["nv12", "p010le"])
def test_semi_planar_samples_become_planes_unchanged(pixel_format, color_range, size):
    """Put together by hand: luma rows, then rows of U and V in turn; 10 bits stand in the upper ones of 16."""
    bits, dtype = (8, np.uint8) if pixel_format == "nv12" else (10, np.uint16)
    random = np.random.default_rng(2)
    width, height = size
    shapes = [(height, width), *[(-(-height // 2), -(-width // 2))] * 2]
    luma, *chroma = (random.integers(0, 1 << bits, shape, dtype) for shape in shapes)
    frame = av.VideoFrame(width, height, pixel_format)
    frame.color_range = color_range
    for plane, samples in zip(frame.planes, (luma, np.stack(chroma, axis=2).reshape(len(chroma[0]), -1))):
        rows = np.frombuffer(memoryview(plane), np.uint8)[: plane.line_size * len(samples)].reshape(len(samples), -1)
        rows.view(dtype)[:, : samples.shape[1]] = samples << (bits - 8) * 3
    plain = Upright(Orientation(), None, [])(frame)
    assert plain.color_range == color_range
    for found, wanted in zip(read_planes(plain), (luma, *chroma), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_a_file_of_semi_planar_pictures_is_read_unchanged(tmp_path):
    planar = [media.numbered_frame(number, width=66) for number in range(3)]
    path = tmp_path / "clip.nut"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("rawvideo", rate=25)
        stream.codec_context.width, stream.codec_context.height, stream.codec_context.pix_fmt = 66, 48, "nv12"
        output.mux([packet for frame in [*map(rearranged, planar), None] for packet in stream.encode(frame)])
    info, found, _ = pictures(path)
    assert info.pixel_format == "yuv420p"
    assert [list(map(np.ndarray.tolist, planes)) for _, _, *planes in found] == [
        list(map(np.ndarray.tolist, read_planes(frame))) for frame in planar
    ]


@pytest.mark.parametrize(
    ("codec", "pixel_format", "color_range"),
    [("libx264", "yuv420p", 1), ("libx264", "yuvj420p", 2), ("libx265", "yuv420p10le", 1)],
)
@pytest.mark.parametrize("start", [None, 0.2])
def test_the_gpus_pictures_are_the_cpus(pretended_gpu, tmp_path, codec, pixel_format, color_range, start):
    path = tmp_path / "clip.mp4"
    tags = media.Tags(color_range, 1, 1, 1)
    media.write_video(path, codec=codec, pixel_format=pixel_format.replace("j", ""), width=66, tags=tags, gop=4)
    came = []
    pretended_gpu.change = lambda frame: came.append(frame.format.name)
    wanted_info, wanted, _ = pictures(path, start_seconds=start)
    assert not came
    info, found, notes = pictures(path, ACCELERATOR, start_seconds=start)
    assert set(came) == {SEMI_PLANAR[pixel_format]}
    assert notes == []
    assert info == wanted_info
    assert len(found) == 10 if start is None else 5
    assert same(found, wanted)


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le"])
def test_interlaced_pictures_of_the_gpu_are_deinterlaced_alike(tmp_path, pixel_format):
    options = {"x264-params": "interlaced=1:tff=1"}
    path = media.write_video(tmp_path / "clip.mkv", frames=6, pixel_format=pixel_format, options=options)
    with av.open(str(path)) as source:
        planar = list(source.decode(video=0))
    assert planar[0].interlaced_frame
    semi = list(map(rearranged, planar))
    progressive = []
    for frames in (planar, semi):
        items = [Decoded(frame, number, False, False) for number, frame in enumerate(frames)]
        progressive.append([item.frame for item in deinterlaced(items, Fraction(1, 25), found=lambda: None)])
    for wanted, found in zip(*progressive, strict=True):
        again = found.reformat(format=pixel_format, interpolation=CHANGE_FORMAT)
        for plane, its in zip(read_planes(wanted), read_planes(again)):
            np.testing.assert_array_equal(plane, its)


def spoil(frame: av.VideoFrame) -> None:
    np.frombuffer(memoryview(frame.planes[1]), np.uint8)[5] ^= 1


def test_a_gpu_whose_pictures_differ_is_not_used(pretended_gpu, tmp_path):
    path = media.write_video(tmp_path / "clip.mp4")
    _, wanted, _ = pictures(path)
    pretended_gpu.change = spoil
    _, found, notes = pictures(path, ACCELERATOR)
    assert notes == ["decoded on the CPU: the GPU's first picture is another than the CPU's"]
    assert same(found, wanted)


def test_what_the_gpu_refuses_is_decoded_on_the_cpu_and_said(pretended_gpu, tmp_path):
    """A profile, a size: FFmpeg falls back to software, whose frames are planar."""
    path = media.write_video(tmp_path / "clip.mp4")
    pretended_gpu.frame = lambda decoded: decoded
    _, found, notes = pictures(path, ACCELERATOR)
    assert len(found) == 10
    assert notes == ["decoded on the CPU: the GPU does not take this h264 yuv420p"]


@pytest.mark.parametrize(
    ("codec", "pixel_format"),
    [("libx264", "yuv422p"), ("libx264", "yuv444p10le"), ("libx265", "yuv420p12le"), ("mpeg4", "yuv420p")],
)
def test_what_is_not_for_a_gpu_is_not_tried_there(monkeypatch, tmp_path, codec, pixel_format):
    path = media.write_video(tmp_path / "clip.mkv", codec=codec, pixel_format=pixel_format, options={})
    monkeypatch.setattr(nvdec, "_first_picture", None)
    _, _, (note,) = pictures(path, ACCELERATOR)
    name = {"libx264": "h264", "libx265": "hevc"}.get(codec, codec)
    assert note.startswith("decoded on the CPU: the GPU is for H.264, HEVC, VP8 and VP9 in 4:2:0 of 8 or 10 bits")
    assert note.endswith(f"this is {name} {pixel_format}")


def test_a_file_that_the_gpu_cannot_open_is_the_cpus(monkeypatch, tmp_path):
    """The GPU's memory is full, say."""
    path = media.write_video(tmp_path / "clip.mp4")

    def fail(path, content=None, *, accelerator=None):
        if accelerator is not None:
            raise InputError("no memory")
        return open_container(path, content)

    for module in (nvdec, material):
        monkeypatch.setattr(module, "open_container", fail)
    _, found, (note,) = pictures(path, ACCELERATOR)
    assert len(found) == 10
    assert note == "decoded on the CPU: the GPU does not take this h264 yuv420p"


@pytest.fixture
def started(monkeypatch):
    """`--decoder cuda` starts."""
    for module in ("spatialme.job", "spatialme.film.film"):
        monkeypatch.setattr(f"{module}.find_accelerator", lambda decoder, _: ACCELERATOR if decoder == "cuda" else None)


def test_a_film_of_the_gpus_pictures_is_the_cpus(pretended_gpu, started, tmp_path):
    path = media.write_video(tmp_path / "clip.mp4", sounds=[media.Sound()])
    decoded = []
    pretended_gpu.change = decoded.append
    (report,) = convert(path, tmp_path / "cuda.mp4", decoder="cuda", **DRAFT)
    assert len(decoded) >= 13  # ten to convert, one to describe them, and both times one to compare
    convert(path, tmp_path / "cpu.mp4", **DRAFT)
    assert not any("decoded on" in note for note in report.notes)
    assert (tmp_path / "cuda.mp4").read_bytes() == (tmp_path / "cpu.mp4").read_bytes()


def test_a_film_finished_with_one_decoder_is_finished_for_the_other(pretended_gpu, started, tmp_path):
    path = media.write_video(tmp_path / "clip.mp4")
    convert(path, tmp_path / "out.mp4", **DRAFT)
    (report,) = convert(path, tmp_path / "out.mp4", decoder="cuda", **DRAFT)
    assert report.already_done


def test_the_report_says_once_that_the_cpu_decodes(started, tmp_path):
    path = media.write_video(tmp_path / "clip.mkv", pixel_format="yuv422p")
    (report,) = convert(path, tmp_path / "out.mp4", decoder="cuda", **DRAFT)
    assert sum("decoded on the CPU" in line for line in report.lines()) == 1
