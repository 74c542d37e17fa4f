from __future__ import annotations

import errno
import itertools
import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from spatialme.errors import OptionError, OutputError
from spatialme.video import convert_pixels, segment_file, video_file
from spatialme.video.planes import read_planes
from spatialme.video.reader import open_source
from spatialme.video.writer import OutputOptions, StereoWriter, plan_output
from tests.media import BT709, HDR10, HDR10_X265, Sound, decode_all, numbered_frame, read_number, write_video
from tests.writing import mirrored, write_stereo

VFR = [0, 900, 1100, 2500, 2503, 6000, 7001, 7002, 9500, 12000]  # in 1/3000 s


def stamps(path: Path) -> list[Fraction]:
    with av.open(str(path)) as container:
        base = container.streams.video[0].time_base
        return [frame.pts * base for frame in container.decode(video=0)]


def planned(source: Path, output: Path | str, **options):
    with open_source(source) as opened:
        return plan_output(output, opened, OutputOptions(**options))


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "in.mp4" and path.name != "in.mkv")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_video(tmp_path / "in.mp4", frames=6)


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
@pytest.mark.parametrize("offset", [0, 17, 4200])
def test_every_time_stamp_is_the_source_s(tmp_path, codec, suffix, offset):
    pts = [offset + stamp for stamp in VFR]
    source = write_video(tmp_path / "in.mp4", pts=pts, time_base=Fraction(1, 3000), container_options=timescale(3000))
    report = write_stereo(source, tmp_path / f"out{suffix}", codec=codec, preset="ultrafast")
    assert stamps(tmp_path / f"out{suffix}") == stamps(source)
    assert report.max_pts_error_seconds == 0


def timescale(scale: int) -> dict[str, str]:
    """The muxer's options for exact source clips: its edit lists count in milliseconds otherwise."""
    return {"video_track_timescale": str(scale), "movie_timescale": str(scale)}


def test_matroska_rounds_to_its_millisecond_and_says_so(tmp_path):
    source = write_video(tmp_path / "in.mp4", frames=10, rate=Fraction(30000, 1001))
    report = write_stereo(source, tmp_path / "out.mkv")
    pairs = zip(stamps(tmp_path / "out.mkv"), stamps(source), strict=True)
    worst = max(abs(a - b) for a, b in pairs)
    assert 0 < worst <= Fraction(1, 2000)
    assert report.max_pts_error_seconds == pytest.approx(float(worst))
    assert any("rounded by up to" in note for note in report.notes)


def test_the_last_frame_keeps_its_duration(tmp_path):
    source = write_video(tmp_path / "in.mkv", frames=6, rate=10)
    write_stereo(source, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.duration * stream.time_base == Fraction(6, 10)


def test_a_last_frame_that_stays_longer_keeps_its_own_duration(clip, tmp_path):
    with writing(clip, tmp_path / "out.mp4") as (source, writer):
        for picture in source:
            picture.frame.duration = 512 if picture.index < 5 else 5000
            writer.write(picture, None, None)
        writer.finish()
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].duration == 5 * 512 + 5000


@pytest.mark.parametrize("frames", [1, 2, 3])
@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1"])
def test_the_shortest_clips_are_written(tmp_path, frames, codec):
    source = write_video(tmp_path / "in.mp4", frames=frames)
    for name in ("a.mp4", "b.mkv"):
        write_stereo(source, tmp_path / name, codec=codec)
        assert stamps(tmp_path / name) == stamps(source)


def test_a_cut_start_moves_every_time_by_the_same_amount(tmp_path):
    source = write_video(tmp_path / "in.mp4", pts=[100 + 3 * p for p in VFR], time_base=Fraction(1, 3000))
    write_stereo(source, tmp_path / "out.mp4", start_seconds=1.2, end_seconds=9.0)
    kept = [stamp for stamp in stamps(source) if 1.2 <= stamp - stamps(source)[0] < 9.0]
    written = stamps(tmp_path / "out.mp4")
    assert [stamp - written[0] for stamp in written] == [stamp - kept[0] for stamp in kept]


@pytest.mark.parametrize(
    ("pixel_format", "codec", "suffix", "options"),
    [
        ("yuv420p", "libx264", ".mp4", {"crf": 0}),
        ("yuv420p", "libx265", ".mov", {"crf": 0}),
        ("yuv420p10le", "libx264", ".mkv", {"crf": 0}),
        ("yuv420p10le", "libx265", ".mp4", {"crf": 0}),
        ("yuv420p", "ffv1", ".mkv", {}),
        ("yuv422p10le", "ffv1", ".mkv", {}),
        ("yuv444p", "ffv1", ".mkv", {}),
        ("gray", "ffv1", ".mkv", {}),
        ("gbrp", "ffv1", ".mkv", {}),
        ("rgb24", "ffv1", ".mkv", {}),
    ],
)
@pytest.mark.parametrize("packing", ["full_sbs", "full_tb", "cross_eyed", "two_files"])
def test_the_source_s_eye_is_bit_exact_with_a_lossless_codec(tmp_path, pixel_format, codec, suffix, options, packing):
    source_codec = {"gbrp": "libx265", "rgb24": "png"}.get(pixel_format, "ffv1")
    frames = [numbered_frame(number, pixel_format=pixel_format) for number in range(4)]
    source = write_video(
        tmp_path / f"in{'.mov' if source_codec == 'png' else '.mkv'}", codec=source_codec, pictures=frames
    )
    write_stereo(source, tmp_path / f"out{suffix}", codec=codec, format=packing, **options)
    name = f"out_left{suffix}" if packing == "two_files" else f"out{suffix}"
    wanted = "rgb24" if pixel_format == "gbrp" else pixel_format
    for frame, original in zip(decode_all(tmp_path / name), decode_all(source), strict=True):
        for plane, expected in zip(
            read_planes(frame.reformat(format=wanted)), read_planes(original.reformat(format=wanted))
        ):
            height, width = expected.shape[:2]
            left = plane[:, -width:] if packing == "cross_eyed" else plane[:height, :width]
            np.testing.assert_array_equal(left, expected)


@pytest.mark.parametrize(("pixel_format", "tags"), [("yuv420p", BT709), ("yuv444p", None), ("yuv420p10le", HDR10)])
def test_the_synthesised_eye_comes_back_as_it_was_given(tmp_path, pixel_format, tags):
    source = write_video(
        tmp_path / "in.mkv", frames=2, width=128, height=96, codec="ffv1", pixel_format=pixel_format, tags=tags
    )
    write_stereo(source, tmp_path / "out.mkv", codec="ffv1")
    for frame, original in zip(decode_all(tmp_path / "out.mkv"), decode_all(source)):
        expected = mirrored(convert_pixels.rgb(original)).astype(float)
        found = convert_pixels.rgb(frame)[:, 128:].astype(float)
        whole = 255 if pixel_format == "yuv420p" or pixel_format == "yuv444p" else 65535
        # sharp colour edges lose to 4:2:0; the mean level may not move
        assert np.abs(found - expected).mean() / whole < 0.02
        assert abs((found - expected).mean()) / whole < 0.004


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize(("codec", "tag"), [("libx264", "avc1"), ("libx265", "hvc1")])
def test_two_runs_give_the_same_bytes(tmp_path, suffix, codec, tag):
    source = write_video(tmp_path / "in.mp4", frames=12, sounds=[Sound()])
    for name in ("one", "two"):
        write_stereo(source, tmp_path / f"{name}{suffix}", codec=codec)
    content = (tmp_path / f"one{suffix}").read_bytes()
    assert content == (tmp_path / f"two{suffix}").read_bytes()
    assert b"cpuid" not in content  # x265 would name the machine's processor
    with av.open(str(tmp_path / f"one{suffix}")) as container:
        context = container.streams.video[0].codec_context
        assert suffix == ".mkv" or context.codec_tag == tag


def test_the_index_comes_before_the_pictures(clip, tmp_path):
    write_stereo(clip, tmp_path / "out.mp4")
    content = (tmp_path / "out.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_colour_tags_and_pixel_aspect_are_the_source_s(tmp_path):
    source = write_video(tmp_path / "in.mp4", frames=2, tags=BT709, sample_aspect=Fraction(4, 3))
    untagged = write_video(tmp_path / "plain.mp4", frames=2)
    for path in (source, untagged):
        write_stereo(path, tmp_path / f"out_{path.name}", format="half_sbs")
        (before, after) = (decode_all(each)[0] for each in (path, tmp_path / f"out_{path.name}"))
        for tag in ("color_range", "colorspace", "color_primaries", "color_trc"):
            assert getattr(after, tag) == getattr(before, tag)
    with av.open(str(tmp_path / "out_in.mp4")) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)


def test_full_range_stays_full_range(tmp_path):
    source = write_video(tmp_path / "in.mp4", frames=2, tags=FULL_RANGE)
    write_stereo(source, tmp_path / "out.mp4", crf=0)
    (before, after) = (decode_all(path)[0] for path in (source, tmp_path / "out.mp4"))
    assert before.color_range == after.color_range == 2
    np.testing.assert_array_equal(luma(after)[:, :64], luma(before))


FULL_RANGE = type(BT709)(color_range=2, colorspace=1, color_primaries=1, color_trc=1)


def luma(frame: av.VideoFrame) -> np.ndarray:
    plane = frame.planes[0]
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width]


def test_ten_bits_stay_ten_bits_and_choose_hevc(tmp_path):
    source = write_video(tmp_path / "in.mp4", frames=4, codec="libx265", pixel_format="yuv420p10le", options=HDR10_X265)
    plan = planned(source, tmp_path / "out.mp4")
    assert (plan.encoder, plan.pixel_format) == ("libx265", "yuv420p10le")


@pytest.mark.parametrize(
    ("size", "rate", "encoder"),
    [
        ((1920, 1080), 60, "libx264"),
        ((2048, 1080), 24, "libx264"),
        ((2050, 1080), 24, "libx265"),
        ((2048, 2304), 24, "libx264"),
        ((2048, 2320), 24, "libx265"),
        ((2048, 2160), 120, "libx265"),
    ],
)
def test_h264_is_chosen_as_far_as_its_levels_reach(tmp_path, size, rate, encoder):
    source = write_video(tmp_path / "in.mp4", frames=1, width=size[0], height=size[1], rate=rate)
    assert planned(source, tmp_path / "out.mkv").encoder == encoder


def test_a_wide_h264_asked_for_is_written_with_a_warning(tmp_path):
    source = write_video(tmp_path / "in.mp4", frames=1, width=2304, height=64)
    plan = planned(source, tmp_path / "out.mp4", codec="h264")
    assert any("few players decode H.264 of 4608x64" in note for note in plan.notes)


def test_an_odd_size_gains_a_repeated_column_and_is_reported(tmp_path):
    source = write_video(tmp_path / "in.mkv", frames=2, width=65, height=49, codec="ffv1")
    report = write_stereo(source, tmp_path / "out.mp4")
    assert any("1 repeated column and 1 repeated row: 65x49" in note for note in report.notes)
    frame = decode_all(tmp_path / "out.mp4")[0]
    assert (frame.width, frame.height) == (132, 50)
    assert not any(
        "repeated" in note for note in write_stereo(source, tmp_path / "tb.mkv", codec="ffv1", format="two_files").notes
    )


def test_a_folder_gets_the_source_s_name_with_the_token_of_the_format(clip, tmp_path):
    folder = tmp_path / "films ünïcode"
    folder.mkdir()
    assert planned(clip, folder).paths == (folder / "in_Full_SBS.mp4",)
    assert planned(clip, f"{folder}/", format="half_sbs").paths == (folder / "in_HSBS.mp4",)
    assert planned(clip, folder, codec="ffv1").paths == (folder / "in_Full_SBS.mkv",)
    assert planned(clip, folder, target="3dtv").paths == (folder / "in.3D.HSBS.mp4",)
    write_stereo(clip, folder)
    assert leftovers(folder) == ["in_Full_SBS.mp4"]


def test_two_files_appear_together(clip, tmp_path):
    report = write_stereo(clip, tmp_path / "out.mp4", format="two_files", crf=0)
    assert report.outputs == [tmp_path / "out_left.mp4", tmp_path / "out_right.mp4"]
    left, right = (decode_all(path) for path in report.outputs)
    assert [read_number(frame) for frame in left] == list(range(6))
    assert [read_number(convert_pixels.rgb(frame)[:, ::-1]) for frame in right] == list(range(6))
    assert report.bytes == sum(path.stat().st_size for path in report.outputs)


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("out.avi", {}, OptionError, r"ends with \.avi, expected one of"),
        ("out", {}, OptionError, "ends with no extension"),
        ("out.png", {}, OptionError, "is one image but the input is a video"),
        ("missing/out.mp4", {}, OutputError, "missing is not an existing folder"),
        ("x" * 250 + ".mp4", {}, OutputError, "is longer than 247 bytes"),
        ("in.mp4", {"overwrite": True}, OutputError, "would overwrite the input"),
        ("link.mp4", {"overwrite": True}, OutputError, "would overwrite the input"),
        ("hard.mp4", {"overwrite": True}, OutputError, "would overwrite the input"),
        ("old.mp4", {}, OutputError, "old.mp4 exists; add --overwrite"),
        ("folder.mp4", {"format": "two_files"}, OutputError, "folder.mp4_left.mp4 is a folder"),
        ("out.mp4", {"format": "mono"}, OptionError, "unknown format 'mono'"),
        ("out.mp4", {"anaglyph": "blue"}, OptionError, "unknown anaglyph 'blue'"),
        ("out.mp4", {"codec": "divx"}, OptionError, "unknown codec 'divx'"),
        ("out.mp4", {"codec": "ffv1"}, OptionError, r"ffv1 does not go into \.mp4; use \.mkv"),
        ("out.mov", {"codec": "av1"}, OptionError, r"libsvtav1 does not go into \.mov"),
        pytest.param(
            "out.mp4",
            {"codec": "h264_nvenc"},
            OptionError,
            "h264_nvenc does not open .* needs an NVIDIA GPU",
            marks=pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="there may be an NVENC here"),
        ),
        ("out.mp4", {"crf": 52}, OptionError, r"crf 52 is outside 0\.\.51 of libx264"),
        ("out.mkv", {"codec": "ffv1", "crf": 5}, OptionError, "crf 5 does not apply to ffv1"),
        ("out.mp4", {"preset": "quick"}, OptionError, "preset 'quick' is not known to libx264"),
        ("out.mkv", {"codec": "ffv1", "preset": "fast"}, OptionError, "expected none: leave it out"),
        ("out.mp4", {"target": "avp"}, OptionError, "MV-HEVC, which is not written yet"),
        ("out.mp4", {"target": "vcr"}, OptionError, "unknown target 'vcr'"),
        ("out.mp4", {"target": "3dtv", "format": "full_tb"}, OptionError, "full_tb contradicts target 3dtv"),
        ("out.mp4", {"target": "3dtv", "codec": "h265"}, OptionError, "codec h265 contradicts target 3dtv"),
        ("%03d.png", {"codec": "h264"}, OptionError, "are for video"),
    ],
)
def test_what_cannot_be_written_is_refused_before_any_work(clip, tmp_path, monkeypatch, name, options, error, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.mp4").symlink_to(clip)
    os.link(clip, tmp_path / "hard.mp4")
    (tmp_path / "old.mp4").write_bytes(b"precious")
    (tmp_path / "folder.mp4_left.mp4").mkdir()
    before, content = leftovers(tmp_path), clip.read_bytes()
    output = "folder.mp4.mp4" if name == "folder.mp4" else name
    with pytest.raises(error, match=message) as caught:
        planned(clip, tmp_path / output, **options)
    assert "\n" not in str(caught.value)
    assert leftovers(tmp_path) == before
    assert clip.read_bytes() == content


def test_a_codec_too_narrow_for_the_packing_is_refused(tmp_path, monkeypatch):
    source = write_video(tmp_path / "in.mp4", frames=1, width=2304, height=64)
    with pytest.raises(OptionError, match="h264_nvenc goes to 4096 pixels a side, the output has 4608x64"):
        planned(source, tmp_path / "out.mp4", codec="h264_nvenc")


def test_an_encoder_missing_from_the_build_is_refused(clip, tmp_path, monkeypatch):
    def missing(*_: object) -> None:
        raise ValueError("no codec")

    monkeypatch.setattr("spatialme.video.codecs.av.Codec", missing)
    with pytest.raises(OptionError, match="h264 is not in this FFmpeg build"):
        planned(clip, tmp_path / "out.mp4", codec="h264")


def test_a_folder_that_cannot_be_written_is_refused(clip):
    with pytest.raises(OutputError, match=r"/proc cannot be written \("):
        planned(clip, "/proc/out.mp4")


@contextmanager
def writing(source: Path, output: Path, **options) -> Iterator[tuple]:
    with open_source(source) as opened:
        plan = plan_output(output, opened, OutputOptions(**options))
        with StereoWriter(plan, opened) as writer:
            yield opened, writer


def write_until(source_path: Path, output: Path, last: int, error: BaseException, **options) -> None:
    """Write pictures until number `last`, then fail."""
    with writing(source_path, output, **options) as (source, writer):
        for number, picture in enumerate(source):
            writer.write(picture, None, None)
            if number == last:
                raise error


def test_without_finish_nothing_appears(clip, tmp_path):
    with writing(clip, tmp_path / "out.mp4", format="two_files") as (source, writer):
        for picture in source:
            writer.write(picture, None, None)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "frames/%03d.png"])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_after_an_error_nothing_is_left(clip, tmp_path, name, error):
    with pytest.raises(error, match="depth"):
        write_until(clip, tmp_path / name, 0, error("depth"))
    assert leftovers(tmp_path) == []


def test_an_old_output_survives_a_failed_overwrite(clip, tmp_path):
    (tmp_path / "out.mp4").write_bytes(b"old")
    with pytest.raises(RuntimeError), writing(clip, tmp_path / "out.mp4", overwrite=True):
        raise RuntimeError
    assert (tmp_path / "out.mp4").read_bytes() == b"old"
    write_stereo(clip, tmp_path / "out.mp4", overwrite=True)
    assert len(decode_all(tmp_path / "out.mp4")) == 6


def test_a_second_file_that_cannot_appear_takes_the_first_one_back(clip, tmp_path, monkeypatch):
    replace = os.replace

    def only_left(old: Path, new: Path) -> None:
        if new.name == "out_right.mp4":
            raise OSError(errno.EACCES, "Permission denied")
        replace(old, new)

    monkeypatch.setattr(video_file.os, "replace", only_left)
    with pytest.raises(OutputError, match=r"out_right\.mp4 could not be written \(Permission denied\)"):
        write_stereo(clip, tmp_path / "out.mp4", format="two_files")
    assert leftovers(tmp_path) == []


def test_finish_without_pictures_is_an_error(clip, tmp_path):
    with pytest.raises(OutputError, match="got no picture"), writing(clip, tmp_path / "out.mp4") as (_, writer):
        writer.finish()
    assert leftovers(tmp_path) == []


@contextmanager
def file_size_limit(limit: int) -> Iterator[None]:
    """A disk that is full after `limit` bytes, as far as the system lets a test make one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv"])
def test_a_full_disk_ends_cleanly(tmp_path, name):
    source = write_video(tmp_path / "in.mp4", frames=30, width=320, height=240)
    with file_size_limit(100_000), pytest.raises(OutputError, match=r"no space left for .*; free some"):
        write_stereo(source, tmp_path / name, crf=0)
    assert leftovers(tmp_path) == []


def test_a_full_disk_ends_an_image_cleanly(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    save(tmp_path / "in.png", noise)
    with file_size_limit(50_000), pytest.raises(OutputError, match="could not be written"):
        write_stereo(tmp_path / "in.png", tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()


class DeadEncoder:
    def encode(self, _: object) -> None:
        raise av.error.MemoryError(errno.ENOMEM, "Cannot allocate memory")


def test_the_encoder_s_death_is_one_line(clip, tmp_path, monkeypatch):
    monkeypatch.setattr(segment_file.SegmentFile, "_add_video", lambda _: DeadEncoder())
    with pytest.raises(OutputError, match=r"could not be written .*Cannot allocate memory"):
        write_stereo(clip, tmp_path / "out.mp4")
    assert leftovers(tmp_path) == []


def test_a_muxer_that_refuses_the_streams_leaves_nothing(clip, tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("format does not support codec")

    monkeypatch.setattr(video_file, "StreamCopier", refuse)
    with pytest.raises(OutputError, match="format does not support codec"):
        write_stereo(clip, tmp_path / "out.mp4")
    assert leftovers(tmp_path) == []


def test_frames_lost_on_the_way_fail_the_last_check(clip, tmp_path, monkeypatch):
    packets = video_file.VideoFile._packets
    monkeypatch.setattr(video_file.VideoFile, "_packets", lambda *parts: itertools.islice(packets(*parts), 1, None))
    with pytest.raises(OutputError, match="frames after writing, expected 6"):
        write_stereo(clip, tmp_path / "out.mp4")
    assert leftovers(tmp_path) == []


def test_a_lost_stream_fails_the_last_check(tmp_path, monkeypatch):
    source = write_video(tmp_path / "in.mp4", frames=3, sounds=[Sound()])
    monkeypatch.setattr("spatialme.video.streams.StreamCopier.counts", {"audio": 2})
    with pytest.raises(OutputError, match="has 1 audio streams, expected 2"):
        write_stereo(source, tmp_path / "out.mp4")


def test_a_shifted_frame_fails_the_last_check(clip, tmp_path, monkeypatch):
    check = video_file.VideoFile._check

    def moved(self: video_file.VideoFile) -> Fraction:
        self._stamps[3] += 400
        return check(self)

    monkeypatch.setattr(video_file.VideoFile, "_check", moved)
    with pytest.raises(OutputError, match=r"a frame 0\.0312 s off its time"):
        write_stereo(clip, tmp_path / "out.mp4")


def test_hdr10_lost_in_matroska_is_named(tmp_path):
    source = write_video(
        tmp_path / "in.mp4", frames=4, codec="libx265", pixel_format="yuv420p10le", options=HDR10_X265, tags=HDR10
    )
    notes = planned(source, tmp_path / "out.mkv", codec="ffv1").notes
    assert any("ffv1 in .mkv drops HDR10's mastering display" in note for note in notes)
    assert not any("HDR10" in note for note in planned(source, tmp_path / "out.mkv").notes)


@pytest.mark.parametrize(
    "eye", [np.zeros((48, 63, 3), np.uint8), np.zeros((48, 64, 3), np.float32), np.zeros((48, 64), np.uint8)]
)
def test_an_eye_of_another_shape_is_refused(clip, tmp_path, eye):
    with pytest.raises(ValueError, match="an eye must be"), writing(clip, tmp_path / "out.mp4") as (source, writer):
        writer.write(next(iter(source)), None, eye)


@pytest.mark.parametrize("planes", [[(48, 64)] * 3, [(48, 64), (24, 32)], [(40, 64), (20, 32), (20, 32)]])
def test_an_eye_of_other_planes_is_refused(clip, tmp_path, planes):
    eye = tuple(np.zeros(shape, np.uint8) for shape in planes)
    message = r"an eye in yuv420p must have planes .*\(24, 32\), 'uint8'"
    with pytest.raises(ValueError, match=message), writing(clip, tmp_path / "out.mp4") as (source, writer):
        writer.write(next(iter(source)), None, eye)


def save(path: Path, image: np.ndarray) -> None:
    import cv2  # an independent writer and reader of images

    assert cv2.imwrite(str(path), image if image.ndim == 2 else image[:, :, ::-1])


def load(path: Path) -> np.ndarray:
    import cv2

    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[:, :, 2::-1]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_png_comes_out_bit_exact(tmp_path, dtype):
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (33, 41, 3)).astype(dtype)
    save(tmp_path / "in.png", image)
    report = write_stereo(tmp_path / "in.png", tmp_path / "out.png")
    packed = load(tmp_path / "out.png")
    assert packed.dtype == dtype
    np.testing.assert_array_equal(packed[:, :41], image)
    np.testing.assert_array_equal(packed[:, 41:], mirrored(image))
    assert report.frames == 1
    assert leftovers(tmp_path) == ["in.png", "out.png"]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_gray_png_comes_out_as_gray_rgb(tmp_path, dtype):
    gray = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (33, 41)).astype(dtype)
    save(tmp_path / "in.png", gray)
    write_stereo(tmp_path / "in.png", tmp_path / "out.png")
    packed = load(tmp_path / "out.png")
    assert packed.dtype == dtype
    np.testing.assert_array_equal(packed, np.repeat(np.hstack((gray, gray[:, ::-1]))[..., None], 3, axis=2))


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".png"])
@pytest.mark.parametrize("source_suffix", [".jpg", ".webp", ".png"])
def test_images_keep_their_colours(tmp_path, suffix, source_suffix):
    y, x = np.mgrid[0:48, 0:64]
    image = np.stack([40 + 2 * x, 200 - 3 * y, 90 + x + y], axis=2).astype(np.uint8)
    save(tmp_path / f"in{source_suffix}", image)
    source = load(tmp_path / f"in{source_suffix}").astype(int)
    write_stereo(tmp_path / f"in{source_suffix}", tmp_path / f"out{suffix}")
    packed = load(tmp_path / f"out{suffix}").astype(int)
    assert np.abs(packed[:, :64] - source).mean() < 2  # two rounds of chroma subsampling and quantisation
    assert abs((packed[:, :64] - source).mean()) < 1  # libwebp and libjpeg round YUV differently
    assert np.abs(packed[:, 64:] - source[:, ::-1]).mean() < 2


def test_an_image_takes_packing_and_name_from_a_target(tmp_path):
    save(tmp_path / "in.png", np.zeros((20, 20, 3), np.uint8))
    report = write_stereo(tmp_path / "in.png", f"{tmp_path}/", target="3dtv")
    assert report.outputs == [tmp_path / "in.3D.HSBS.png"]
    assert load(report.outputs[0]).shape == (20, 20, 3)


def test_images_in_a_folder_keep_their_kind(tmp_path):
    image = np.full((20, 20, 3), 100, np.uint8)
    (tmp_path / "out").mkdir()
    for name, expected in (("a.jpg", "a_Full_SBS.jpg"), ("b.bmp", "b_Full_SBS.png")):
        save(tmp_path / name, image)
        write_stereo(tmp_path / name, tmp_path / "out")
        assert (tmp_path / "out" / expected).exists()


@pytest.mark.parametrize("output", ["out.mp4", "%03d.png"])
def test_an_image_does_not_become_a_video(tmp_path, output):
    save(tmp_path / "in.png", np.zeros((20, 20, 3), np.uint8))
    with pytest.raises(OptionError, match="but the input is one image"):
        planned(tmp_path / "in.png", tmp_path / output)


def test_a_sequence_appears_with_its_folder(clip, tmp_path):
    report = write_stereo(clip, tmp_path / "frames" / "%03d.png")
    names = [f"{number:03d}.png" for number in range(1, 7)]
    assert leftovers(tmp_path / "frames") == names
    assert [read_number(load(tmp_path / "frames" / name)[:, :64]) for name in names] == list(range(6))
    assert report.frames == 6
    assert leftovers(tmp_path) == ["frames"]


def test_a_sequence_replaces_an_older_longer_one_only_when_told(clip, tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in (1, 99):
        (folder / f"{number:03d}.png").write_bytes(b"old")
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"001\.png exists"):
        planned(clip, folder / "%03d.png")
    write_stereo(clip, folder / "%03d.png", overwrite=True)
    assert leftovers(folder) == [*(f"{number:03d}.png" for number in range(1, 7)), "notes.txt"]


def test_two_sequences_get_two_folders(clip, tmp_path):
    write_stereo(clip, tmp_path / "frames" / "%03d.jpg", format="two_files")
    for eye in ("left", "right"):
        assert len(leftovers(tmp_path / f"frames_{eye}")) == 6


def test_a_sequence_becomes_a_video(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(5):
        save(folder / f"{number:02d}.png", convert_pixels.rgb(numbered_frame(number, pixel_format="rgb24")))
    write_stereo(folder / "%02d.png", tmp_path / "out.mp4", crf=1)
    frames = decode_all(tmp_path / "out.mp4")
    assert [read_number(luma(frame)[:, :64]) for frame in frames] == list(range(5))
    assert frames[0].colorspace == 1
