"""Depth videos: what is written comes back, matched by frame number; anything else is refused in one line."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import Tensor

import spatialme
from spatialme.depth.sidecar import DepthVideo, DepthVideoWriter
from spatialme.errors import InputError, OutputError
from spatialme.types import Clip

HEIGHT, WIDTH = 32, 48


@dataclass(frozen=True)
class Facts:
    width: int = WIDTH
    height: int = HEIGHT
    time_base: Fraction = Fraction(1, 1000)
    frame_rate: Fraction = Fraction(25)


@dataclass(frozen=True)
class Timed:
    pts: int


PTS = [0, 40, 95, 120, 300]  # milliseconds, unevenly spaced


def write(path: Path, nearness: Tensor) -> Path:
    with DepthVideoWriter(path, Facts(), model="some-network") as writer:
        for i in range(len(nearness)):
            writer.write(nearness[i : i + 1], [Timed(PTS[i])])
        writer.finish()
    return path


def clips(sizes: list[int], height: int = HEIGHT, width: int = WIDTH) -> list[Clip]:
    starts = np.cumsum([0, *sizes])
    return [
        Clip(torch.zeros(size, 3, height, width), (None,) * size, int(start), 0, start == 0, stop == starts[-1])
        for size, start, stop in zip(sizes, starts, starts[1:])
    ]


def read(path: Path, sizes: list[int]) -> Tensor:
    return torch.cat([value.nearness for value in DepthVideo(path).stream(clips(sizes))])


@pytest.fixture
def nearness() -> Tensor:
    return torch.rand(5, 1, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))


def test_nearness_comes_back_to_half_a_step_of_16_bits(tmp_path: Path, nearness: Tensor):
    nearness[0, 0, 0, 0], nearness[0, 0, 0, 1] = 0, 1
    back = read(write(tmp_path / "d.mkv", nearness), [2, 3])
    assert (back - nearness).abs().max() <= 0.51 / 65535  # rounding to 16 bits, and float32's own
    assert back[0, 0, 0, 0] == 0
    assert back[0, 0, 0, 1] == 1


def test_the_file_is_gray16_ffv1_with_the_sources_times_and_tags(tmp_path: Path, nearness: Tensor):
    with av.open(str(write(tmp_path / "d.mkv", nearness))) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("ffv1", "gray16le")
        assert container.metadata["SPATIALME_VERSION"] == spatialme.__version__
        assert container.metadata["SPATIALME_DEPTH_MODEL"] == "some-network"
        assert int(container.metadata["SPATIALME_FRAMES"]) == 5
        assert [round(1000 * frame.time) for frame in container.decode(stream)] == PTS


def test_the_same_depth_gives_the_same_bytes(tmp_path: Path, nearness: Tensor):
    first, second = (write(tmp_path / name, nearness).read_bytes() for name in ("a.mkv", "b.mkv"))
    assert first == second


@pytest.mark.parametrize("sizes", [[1] * 5, [5], [3, 2]])
def test_clips_may_be_cut_anywhere(tmp_path: Path, nearness: Tensor, sizes: list[int]):
    path = write(tmp_path / "d.mkv", nearness)
    assert torch.equal(read(path, sizes), read(path, [2, 2, 1]))


def test_frames_before_the_first_clip_are_skipped(tmp_path: Path, nearness: Tensor):
    path = write(tmp_path / "d.mkv", nearness)
    late = list(DepthVideo(path).stream(clips([3, 2])[1:]))
    assert torch.equal(late[0].nearness, read(path, [3, 2])[3:])


def test_name_and_length_are_known_at_once(tmp_path: Path, nearness: Tensor):
    video = DepthVideo(write(tmp_path / "d.mkv", nearness))
    assert video.name == "d.mkv (some-network)"
    assert video.frame_count == 5
    video.check_length(7)  # a header may be off by two
    with pytest.raises(InputError, match="has 5 frames, its source about 8"):
        video.check_length(8)


def test_too_few_frames_are_refused(tmp_path: Path, nearness: Tensor):
    with pytest.raises(InputError, match="has 5 frames, its source has more"):
        read(write(tmp_path / "d.mkv", nearness), [3, 3])


def test_too_many_frames_are_refused(tmp_path: Path, nearness: Tensor):
    with pytest.raises(InputError, match="has more frames than its source, which has 4"):
        read(write(tmp_path / "d.mkv", nearness), [4])


def test_another_size_is_scaled_and_said(tmp_path: Path):
    ramp = torch.linspace(0, 1, WIDTH).expand(1, 1, HEIGHT, WIDTH)
    video = DepthVideo(write(tmp_path / "d.mkv", ramp))
    (value,) = video.stream(clips([1], 2 * HEIGHT, 2 * WIDTH))
    assert value.nearness.shape == (1, 1, 2 * HEIGHT, 2 * WIDTH)
    # half a step of 16 bits; away from the ends, where bilinear repeats the border
    expected = (torch.arange(2 * WIDTH) - 0.5) / 2 / (WIDTH - 1)
    assert (value.nearness[0, 0, 0, 2:-2] - expected[2:-2]).abs().max() < 1e-4
    assert video.notices == [f"depth video {tmp_path / 'd.mkv'} is 48x32, scaled to 96x64"]


@pytest.mark.parametrize(("codec", "pixel_format"), [("ffv1", "gray"), ("ffv1", "gray10le"), ("libx264", "yuv420p")])
def test_depth_edited_elsewhere_is_read_over_its_whole_range(tmp_path: Path, codec: str, pixel_format: str):
    steps = np.repeat(np.array([0, 64, 128, 255], np.uint8), WIDTH // 4)
    image = np.broadcast_to(steps[None, :, None], (HEIGHT, WIDTH, 3)).copy()
    path = tmp_path / "edited.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixel_format
        if codec == "libx264":
            stream.options = {"qp": "0"}
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pixel_format)))
        container.mux(stream.encode(None))
    video = DepthVideo(path)
    assert video.name == "edited.mkv"
    (value,) = video.stream(clips([1]))
    middles = value.nearness[0, 0, HEIGHT // 2, WIDTH // 8 :: WIDTH // 4]
    # limited-range 8 bit luma has 219 steps, and rounding twice loses one
    assert (middles - torch.tensor([0, 64, 128, 255]) / 255).abs().max() < 1.1 / 219


def test_an_unreadable_file_is_one_clear_line(tmp_path: Path):
    path = tmp_path / "d.mkv"
    path.write_bytes(b"no video at all" * 100)
    with pytest.raises(InputError, match="cannot be read"):
        DepthVideo(path)


def test_a_file_without_pictures_is_refused(tmp_path: Path):
    path = tmp_path / "sound.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    with pytest.raises(InputError, match="holds no video"):
        DepthVideo(path)


def test_a_damaged_file_is_refused(tmp_path: Path, nearness: Tensor):
    path = write(tmp_path / "d.mkv", nearness)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    path.write_bytes(content[:middle])
    with pytest.raises(InputError, match=r"cannot be decoded|has \d frames, its source has more"):
        read(path, [5])


def test_an_existing_file_is_kept_unless_told(tmp_path: Path, nearness: Tensor):
    path = write(tmp_path / "d.mkv", nearness)
    with pytest.raises(OutputError, match="exists"):
        DepthVideoWriter(path, Facts(), model="x")
    with DepthVideoWriter(path, Facts(), model="y", overwrite=True) as writer:
        writer.write(nearness[:1], [Timed(0)])
        writer.finish()
    assert DepthVideo(path).frame_count == 1


def test_nothing_is_left_of_an_unfinished_file(tmp_path: Path, nearness: Tensor):
    with DepthVideoWriter(tmp_path / "d.mkv", Facts(), model="x") as writer:
        writer.write(nearness, [Timed(pts) for pts in PTS])
        assert list(tmp_path.iterdir()) == [tmp_path / "d.mkv.partial"]
    assert not list(tmp_path.iterdir())


def test_an_unwritable_place_is_refused(tmp_path: Path):
    with pytest.raises(OutputError, match="cannot be written"):
        DepthVideoWriter(tmp_path / "nowhere" / "d.mkv", Facts(), model="x")
    with pytest.raises(OutputError, match=r"must be named \*\.mkv"):
        DepthVideoWriter(tmp_path / "d.mp4", Facts(), model="x")
