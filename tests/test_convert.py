"""`spatialme convert`, from file to file."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

import spatialme
from spatialme.cli import main
from spatialme.conversion import parse_frame_rate, parse_seconds
from spatialme.errors import OptionError
from spatialme.video.planes import read_planes
from tests import media

SMALL = {"depth": "tiny", "depth_size": 64, "quality": "draft"}  # enough for what is tested here, and quick


def convert(source: Path, output: Path, **options):
    (report,) = spatialme.convert(source, output, **{**SMALL, **options})
    return report


def halves(path: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Luma of the left and of the right half of every frame."""
    planes = [read_planes(frame)[0] for frame in media.decode_all(path)]
    return [p[:, : p.shape[1] // 2] for p in planes], [p[:, p.shape[1] // 2 :] for p in planes]


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    return media.write_video(
        folder / "clip.mkv",
        frames=9,
        pts=[0, 40, 90, 120, 160, 210, 240, 280, 330],  # variable frame rate
        time_base=Fraction(1, 1000),
        sounds=[media.Sound(language="eng"), media.Sound(880, language="fra")],
        subtitles=[media.Subtitle()],
        chapters=[(0.0, 0.2, "one")],
    )


def test_every_frame_keeps_its_time_and_every_stream_its_place(clip, tmp_path):
    report = convert(clip, tmp_path / "out.mkv")
    before, after = media.decode_all(clip), media.decode_all(tmp_path / "out.mkv")
    assert [frame.pts * frame.time_base for frame in after] == [frame.pts * frame.time_base for frame in before]
    with av.open(str(tmp_path / "out.mkv")) as result:
        kinds = [stream.type for stream in result.streams]
        assert (kinds.count("audio"), kinds.count("subtitle")) == (2, 1)
    assert (report.frames, report.shots) == (9, 1)
    assert report.outputs == [tmp_path / "out.mkv"]


def test_the_left_half_is_the_source_bit_for_bit_and_the_right_half_is_not(clip, tmp_path):
    convert(clip, tmp_path / "out.mkv", codec="ffv1")
    left, right = halves(tmp_path / "out.mkv")
    for number, (source, one, other) in enumerate(zip(media.decode_all(clip), left, right)):
        np.testing.assert_array_equal(one, read_planes(source)[0])
        assert media.read_number(one) == number
        assert (one != other).any()


def test_input_as_the_right_eye_stands_on_the_right(clip, tmp_path):
    convert(clip, tmp_path / "out.mkv", codec="ffv1", eye="right")
    _, right = halves(tmp_path / "out.mkv")
    for source, other in zip(media.decode_all(clip), right):
        np.testing.assert_array_equal(other, read_planes(source)[0])


def test_saved_depth_gives_the_same_picture_when_it_is_read_back(clip, tmp_path):
    convert(clip, tmp_path / "first.mkv", codec="ffv1", save_depth=tmp_path / "depth.mkv")
    convert(clip, tmp_path / "again.mkv", codec="ffv1", depth=str(tmp_path / "depth.mkv"))
    for first, again in zip(halves(tmp_path / "first.mkv")[1], halves(tmp_path / "again.mkv")[1]):
        # 16 bit nearness moves a pixel by less than 0.0001 px here: at most one level, and that rarely
        difference = np.abs(first.astype(int) - again.astype(int))
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.01


def test_a_stronger_setting_moves_pixels_further(clip, tmp_path):
    moved = []
    for percent in (0.5, 10.0):  # a third of a pixel, and six
        convert(clip, tmp_path / f"{percent}.mkv", codec="ffv1", max_disparity=percent)
        left, right = halves(tmp_path / f"{percent}.mkv")
        moved.append(np.mean([np.abs(one.astype(int) - other.astype(int)).mean() for one, other in zip(left, right)]))
    assert moved[1] > 1.3 * moved[0]


@pytest.mark.parametrize(
    ("layout", "size"),
    [
        ("full_sbs", (128, 48)),
        ("half_sbs", (64, 48)),
        ("full_tb", (64, 96)),
        ("half_tb", (64, 48)),
        ("cross_eyed", (128, 48)),
        ("anaglyph", (64, 48)),
    ],
)
def test_every_format_has_its_size(clip, tmp_path, layout, size):
    convert(clip, tmp_path / "out.mkv", format=layout, end=0.1)
    frame = media.decode_all(tmp_path / "out.mkv")[0]
    assert (frame.width, frame.height) == size


def test_two_files_hold_one_eye_each(clip, tmp_path):
    report = convert(clip, tmp_path / "out.mkv", format="two_files", codec="ffv1")
    assert [path.name for path in report.outputs] == ["out_left.mkv", "out_right.mkv"]
    for source, left in zip(media.decode_all(clip), media.decode_all(tmp_path / "out_left.mkv")):
        np.testing.assert_array_equal(read_planes(left)[0], read_planes(source)[0])


def test_an_image_becomes_an_image(tmp_path):
    (tmp_path / "photo.png").write_bytes(media.image_bytes(media.numbered_frame(5, pixel_format="rgb24"), "png"))
    report = convert(tmp_path / "photo.png", tmp_path / "stereo.png")
    (frame,) = media.decode_all(tmp_path / "stereo.png")
    assert (report.frames, frame.width, frame.height) == (1, 128, 48)
    assert media.read_number(frame.to_ndarray(format="rgb24")[:, :64]) == 5


def test_a_one_frame_video_converts(tmp_path):
    source = media.write_video(tmp_path / "one.mp4", frames=1)
    assert convert(source, tmp_path / "out.mp4").frames == 1


def test_numbered_images_become_a_video(tmp_path):
    for number in range(3):
        frame = media.numbered_frame(number, pixel_format="rgb24")
        (tmp_path / f"{number:05d}.png").write_bytes(media.image_bytes(frame, "png"))
    convert(tmp_path / "%05d.png", tmp_path / "out.mkv", frame_rate="10", codec="ffv1")
    frames = media.decode_all(tmp_path / "out.mkv")
    assert [frame.time for frame in frames] == [0, 0.1, 0.2]


def test_a_folder_converts_file_by_file_and_one_bad_file_does_not_stop_it(tmp_path, capsys):
    folder = tmp_path / "films"
    folder.mkdir()
    media.write_video(folder / "a.mp4", frames=2)
    (folder / "b.mp4").write_bytes(b"not a video")
    media.write_video(folder / "c.mp4", frames=2)
    words = ["convert", str(folder), str(tmp_path / "out"), "--depth", "tiny", "--depth-size", "64"]
    assert main([*words, "--quality", "draft"]) == 2
    assert sorted(path.name for path in (tmp_path / "out").glob("[!.]*")) == ["a_Full_SBS.mp4", "c_Full_SBS.mp4"]
    assert "1 of 3 not converted: b.mp4" in capsys.readouterr().out


def test_a_folder_as_output_gets_the_name_that_players_read(clip, tmp_path):
    report = convert(clip, tmp_path, format="half_sbs", end=0.1)
    assert "HSBS" in report.outputs[0].name


def test_start_and_end_cut_the_clip(clip, tmp_path):
    convert(clip, tmp_path / "out.mkv", codec="ffv1", start="0:00.1", end=0.22)
    left, _ = halves(tmp_path / "out.mkv")
    assert [media.read_number(one) for one in left] == [3, 4, 5]


def test_the_report_says_what_happened(clip, tmp_path, capsys):
    words = ["convert", str(clip), str(tmp_path / "out.mkv"), "--depth", "tiny", "--depth-size", "64"]
    assert main([*words, "--quality", "draft"]) == 0
    captured = capsys.readouterr()
    assert "9 frames in 1 shot" in captured.out
    assert "peak memory" in captured.out
    assert "depth" in captured.out
    assert captured.err == ""  # no progress bar in a pipe


def bad_inputs(folder: Path) -> dict[str, Path]:
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("once upon a time")
    (folder / "hollow").mkdir()
    with av.open(str(folder / "sound.m4a"), "w") as output:
        track = output.add_stream("aac", rate=48000)
        for start in range(0, 4800, 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 48000, start
            output.mux(track.encode(frame))
        output.mux(track.encode())
    whole = media.write_video(folder / "whole.mp4", frames=20)
    (folder / "short.mp4").write_bytes(whole.read_bytes())
    return {
        "missing": folder / "nowhere.mp4",
        "empty": folder / "empty.mp4",
        "non-video": folder / "text.mp4",
        "audio-only": folder / "sound.m4a",
        "empty folder": folder / "hollow",
        "too small": media.write_video(folder / "small.mkv", width=8, height=8, codec="ffv1"),
        "cut short": media.cut_short(folder / "short.mp4", 0.6),
    }


@pytest.mark.parametrize(
    "case", ["missing", "empty", "non-video", "audio-only", "empty folder", "too small", "cut short"]
)
def test_bad_input_gives_one_line_and_leaves_nothing(case, tmp_path, capfd):
    source = bad_inputs(tmp_path)[case]
    output = tmp_path / "out" / "out.mp4" if case != "empty folder" else tmp_path / "out"
    (tmp_path / "out").mkdir()
    assert main(["convert", str(source), str(output), "--depth", "tiny"]) == 2
    captured = capfd.readouterr()
    assert captured.err.count("\n") == 1, captured.err
    assert source.name in captured.err
    assert "Traceback" not in captured.err
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max-disparity", "0"], "0"),
        (["--convergence", "2"], "2"),
        (["--crf", "-7"], "-7"),
        (["--codec", "laserdisc"], "laserdisc"),
        (["--target", "avp"], "MV-HEVC"),
        (["--device", "abacus"], "abacus"),
        (["--start", "soon"], "soon"),
        (["--start", "5", "--end", "4"], "not after"),
        (["--depth", "nowhere.mkv"], "nowhere.mkv"),
        (["--quality", "draft", "--inpaint", "propagation"], "no use"),
        (["--frame-rate", "0"], "frame rate"),
    ],
)
def test_nonsense_options_give_one_line_and_leave_nothing(clip, options, message, tmp_path, capfd):
    assert main(["convert", str(clip), str(tmp_path / "out.mkv"), *options]) == 2
    captured = capfd.readouterr()
    assert captured.err.count("\n") == 1, captured.err
    assert message in captured.err
    assert list(tmp_path.iterdir()) == []


def test_an_existing_output_is_kept_unless_overwrite_is_said(clip, tmp_path, capfd):
    output = tmp_path / "out.mkv"
    output.write_bytes(b"precious")
    assert main(["convert", str(clip), str(output), "--depth", "tiny"]) == 2
    assert "--overwrite" in capfd.readouterr().err
    assert output.read_bytes() == b"precious"
    convert(clip, output, overwrite=True, end=0.1)
    assert output.stat().st_size > 1000


def test_the_source_is_never_overwritten(tmp_path, capfd):
    source = media.write_video(tmp_path / "clip.mkv", frames=2)
    before = source.read_bytes()
    os.link(source, tmp_path / "other_name.mkv")
    for output in ("clip.mkv", "other_name.mkv"):
        assert main(["convert", str(source), str(tmp_path / output), "--overwrite", "--depth", "tiny"]) == 2
        assert "input" in capfd.readouterr().err.lower()
    assert source.read_bytes() == before


def test_a_depth_video_of_another_length_is_refused(clip, tmp_path, capfd):
    other = media.write_video(tmp_path / "other.mkv", frames=4)
    convert(other, tmp_path / "other_3d.mkv", save_depth=tmp_path / "depth.mkv")
    words = ["convert", str(clip), str(tmp_path / "out.mkv"), "--depth", str(tmp_path / "depth.mkv")]
    assert main([*words, "--quality", "draft"]) == 2
    captured = capfd.readouterr()
    assert "4 frames" in captured.err
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "out.mkv").exists()


@pytest.mark.parametrize(
    ("value", "seconds"), [(None, None), (2, 2.0), ("90.5", 90.5), ("1:30", 90.0), ("1:00:01.5", 3601.5)]
)
def test_times_are_read(value, seconds):
    assert parse_seconds("--start", value) == seconds


@pytest.mark.parametrize("value", ["soon", "-1", "1:2:3:4", "nan", ""])
def test_what_is_not_a_time_is_refused(value):
    with pytest.raises(OptionError, match=r"--start .* is not a time"):
        parse_seconds("--start", value)


def test_frame_rates_are_read():
    assert parse_frame_rate("24000/1001") == Fraction(24000, 1001)
    assert parse_frame_rate(23.976) == Fraction("23.976")
    for value in ("fast", "0", "-3", "1/0"):
        with pytest.raises(OptionError, match="is not a frame rate"):
            parse_frame_rate(value)
