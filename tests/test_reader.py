"""The reader against clips whose every frame says its own number."""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from av.sidedata.sidedata import Type

from spatialme.errors import InputError, OptionError
from spatialme.video import material, mp4box, opening, side_data
from spatialme.video.clean_aperture import clean_aperture
from spatialme.video.exif import exif_orientation
from spatialme.video.files import sequence_files
from spatialme.video.orientation import Orientation, from_degrees, from_display_matrix, from_exif, turned
from spatialme.video.picture import ContentLight, Picture
from spatialme.video.planes import make_frame, read_planes
from spatialme.video.probe import probe
from spatialme.video.reader import Source, expand_input, open_source
from spatialme.video.timeline import Timeline
from spatialme.video.truncation import missing_bytes
from tests import media
from tests.media import BT709, HDR10, HDR10_X265, Sound, Subtitle, write_video

B_FRAMES = {"preset": "ultrafast", "qp": "0", "x264-params": "bframes=2:b-adapt=0"}
PLAIN = {"preset": "ultrafast", "qp": "0"}


def read(path: Path | str, **options: Any) -> tuple[list[Picture], Source]:
    with open_source(path, **options) as source:
        return list(source), source


def numbers(pictures: Sequence[Picture]) -> list[int]:
    return [media.read_number(picture.frame) for picture in pictures]


def assert_planes(frame: av.VideoFrame, wanted: Sequence[np.ndarray]) -> None:
    for plane, samples in zip(read_planes(frame), wanted):
        np.testing.assert_array_equal(plane, samples)


# ---------------------------------------------------------------------------------------------- order and time


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mov", "clip.mkv", "clip.avi", "clip.ts", "clip.h264", "clip.flv"])
def test_every_frame_comes_once_in_order(tmp_path: Path, name: str) -> None:
    pictures, source = read(write_video(tmp_path / name, frames=11, options=B_FRAMES))
    assert numbers(pictures) == list(range(11))
    assert [picture.index for picture in pictures] == list(range(11))
    stamps = [picture.pts for picture in pictures]
    assert np.diff(stamps).tolist() == [Fraction(1, 25) / source.info.time_base] * 10
    assert source.repeated_frames == 0
    assert source.info.frame_rate == 25


@pytest.mark.parametrize("codec", ["libx264", "libx265", "ffv1", "libvpx-vp9", "mpeg4"])
def test_codecs_with_reordering_or_hidden_frames_lose_nothing(tmp_path: Path, codec: str) -> None:
    options = {"libvpx-vp9": {"cpu-used": "8", "auto-alt-ref": "1", "lag-in-frames": "8", "crf": "10"}}
    quiet = {"libx265": {"x265-params": "log-level=none:lossless=1"}, "mpeg4": {"qmin": "1", "qmax": "2", "bf": "2"}}
    path = write_video(tmp_path / "clip.mkv", codec=codec, frames=20, options=(options | quiet).get(codec))
    assert numbers(read(path)[0]) == list(range(20))


@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_variable_frame_rate_keeps_every_stamp(tmp_path: Path, container: str) -> None:
    stamps = [0, 33, 66, 110, 143, 400, 401, 433, 900, 910]
    pictures, source = read(write_video(tmp_path / f"vfr.{container}", pts=stamps, time_base=Fraction(1, 1000)))
    assert [picture.pts * source.info.time_base * 1000 for picture in pictures] == stamps
    assert numbers(pictures) == list(range(10))


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(60000, 1001)])
def test_film_and_broadcast_rates_are_exact(tmp_path: Path, rate: Fraction) -> None:
    pictures, source = read(write_video(tmp_path / "rate.mp4", rate=rate))
    assert source.info.frame_rate == rate
    assert [picture.pts * source.info.time_base for picture in pictures] == [number / rate for number in range(10)]


def test_a_late_video_keeps_its_distance_from_the_sound(tmp_path: Path) -> None:
    path = write_video(tmp_path / "late.mp4", pts=range(5, 15), sounds=[Sound(seconds=0.8)])
    pictures, source = read(path)
    assert pictures[0].pts * source.info.time_base == Fraction(1, 5)
    assert (source.origin_seconds, source.start_pts_offset) == (0, 0)


@pytest.mark.parametrize("options", [PLAIN, B_FRAMES])
def test_frames_that_the_edit_list_hides_stay_hidden(tmp_path: Path, options: dict[str, str]) -> None:
    path = write_video(
        tmp_path / "trimmed.mp4",
        pts=range(-3, 7),
        options=options,
        container_options={"avoid_negative_ts": "disabled"},
    )
    pictures, source = read(path)
    assert numbers(pictures) == list(range(3, 10))
    assert pictures[0].pts == 0
    assert source.warnings == []


def test_a_missing_first_key_frame_costs_only_what_cannot_be_decoded(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mp4", frames=24, options=media.OPEN_GOP_X264)
    pictures, source = read(media.without_packets(tmp_path / "headless.mkv", whole, [0]))
    assert numbers(pictures) == list(range(6, 24))
    assert any("pictures at the start" in warning for warning in source.warnings)


@pytest.mark.parametrize("options", [PLAIN, B_FRAMES, media.OPEN_GOP_X264])
@pytest.mark.parametrize("container", ["mp4", "mkv", "ts", "avi"])
def test_a_cut_gives_what_reading_from_the_beginning_gives(
    tmp_path: Path, container: str, options: dict[str, str]
) -> None:
    path = write_video(tmp_path / f"cut.{container}", frames=30, options=options, gop=6)
    whole, source = read(path)
    for first in (1, 5, 6, 7, 17):
        start = float(whole[first].pts * source.info.time_base - source.origin_seconds)
        part, cut = read(path, start_seconds=start, end_seconds=start + 0.2)
        assert [picture.pts for picture in part] == [picture.pts for picture in whole[first : first + 5]]
        assert numbers(part) == list(range(first, first + 5))
        assert part[0].index == 0
        assert cut.first_pts == part[0].pts
        assert cut.first_pts - cut.start_pts_offset == round(source.origin_seconds / source.info.time_base)
        assert cut.info.frame_estimate == 5


def test_starting_at_zero_keeps_the_first_picture(tmp_path: Path) -> None:
    """FFmpeg rounds the container's start, 2/30 s, up to a microsecond after the first picture."""
    path = write_video(tmp_path / "clip.ts", rate=30, pts=range(2, 12))
    assert numbers(read(path, start_seconds=0)[0]) == list(range(10))


@pytest.mark.parametrize("container", ["mp4", "ts"])
def test_a_cut_inside_an_open_group_of_hevc_loses_nothing(tmp_path: Path, container: str) -> None:
    options = {"x265-params": "log-level=none:lossless=1:open-gop=1:bframes=3:keyint=8:min-keyint=8:scenecut=0"}
    path = write_video(tmp_path / f"open.{container}", codec="libx265", frames=24, options=options)
    whole, source = read(path)
    for first in (1, 6, 7, 8, 15):
        start = float(whole[first].pts * source.info.time_base - source.origin_seconds)
        assert numbers(read(path, start_seconds=start)[0]) == list(range(first, 24))


def test_missing_stamps_follow_the_frame_rate() -> None:
    line = Timeline(frame_rate=Fraction(30000, 1001), time_base=Fraction(1, 1000), first_pts=7)
    stamps = [line.stamp(None) for _ in range(31)]
    assert stamps == [round(7 + number * Fraction(1001, 30)) for number in range(31)], "rounding does not add up"
    assert line.missing == 31


@pytest.mark.parametrize(
    ("stated", "wanted"),
    [
        ([0, 40, 80, 120], [0, 40, 80, 120]),
        ([0, 0, 0, 0], [0, 40, 80, 120]),  # a clock that stands still
        ([0, 40, 40, 80, 120, 160], [0, 40, 80, 100, 120, 160]),  # one stamp twice
        ([0, 40, 80, 70, 160], [0, 40, 80, 100, 160]),  # one step back
        ([0, 40, 80, 120, 0, 40, 80], [0, 40, 80, 120, 160, 200, 240]),  # two parts joined
        ([0, 40, 500, 540], [0, 40, 500, 540]),  # a pause is no fault
        ([10, None, None, 130], [10, 50, 90, 130]),
    ],
)
def test_stamps_are_repaired(stated: list[int | None], wanted: list[int]) -> None:
    line = Timeline(frame_rate=Fraction(25), time_base=Fraction(1, 1000), first_pts=0)
    assert [line.stamp(stamp) for stamp in stated] == wanted


def test_joined_streams_run_on_and_are_scaled_to_the_first_size(tmp_path: Path) -> None:
    parts = [write_video(tmp_path / "a.ts", frames=5), write_video(tmp_path / "b.ts", frames=5, width=96, height=64)]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    pictures, source = read(joined)
    assert numbers(pictures) == [0, 1, 2, 3, 4] * 2
    assert np.diff([picture.pts for picture in pictures]).tolist() == [3600] * 9
    assert {(picture.frame.width, picture.frame.height) for picture in pictures} == {(64, 48)}
    assert any("scaled to the first, 64x48" in warning for warning in source.warnings)
    assert any("did not increase and were moved: 5" in warning for warning in source.warnings)


# ---------------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize(
    ("damaged", "shown"),
    [
        ([8], {8: 7}),
        ([7, 8, 9], {7: 6, 8: 6, 9: 6}),
        ([22], {22: 21}),  # inside the decoder's threads when the file ends
        ([21, 22, 23], {21: 20, 22: 20, 23: 20}),
        ([12], {12: 11}),  # the key picture that the next ones refer to
    ],
)
def test_damaged_pictures_are_replaced_by_the_one_before(
    tmp_path: Path, damaged: list[int], shown: dict[int, int]
) -> None:
    path = media.damage(write_video(tmp_path / "damaged.mp4", frames=24, options=PLAIN, gop=6), damaged)
    pictures, source = read(path)
    assert len(pictures) == 24, "every picture keeps its place and time"
    assert np.diff([picture.pts for picture in pictures]).tolist() == [512] * 23
    for index, number in shown.items():
        assert pictures[index].repeated
        assert media.read_number(pictures[index].frame) == number
        assert pictures[index].frame is pictures[index - 1].frame
    repeated = sum(picture.repeated for picture in pictures)
    assert source.repeated_frames == repeated >= len(shown)
    seconds = min(shown) / 25
    assert source.warnings == [f"damaged pictures replaced by the one before: {repeated}, the first at {seconds:.3f} s"]
    untouched = [index for index in range(24) if index // 6 not in {place // 6 for place in damaged}]
    assert [numbers(pictures)[index] for index in untouched] == untouched


@pytest.mark.parametrize("name", ["short.mp4", "short.mkv", "short.avi"])
def test_a_file_cut_short_of_its_index_is_refused_unless_told(tmp_path: Path, name: str) -> None:
    options = {"movflags": "faststart"} if name.endswith("mp4") else None
    path = write_video(tmp_path / name, frames=24, container_options=options)
    with av.open(str(path)) as container:
        assert missing_bytes(path, container.streams.video[0]) == 0
    media.cut_short(path, 0.7)
    with pytest.raises(InputError, match=r"is cut short: \d+ bytes that its index promises"):
        open_source(path)
    pictures, source = read(path, keep_going=True)
    good = [picture for picture in pictures if not picture.repeated]
    assert 8 < len(pictures) < 24
    assert numbers(good) == list(range(len(good)))
    assert "the file is cut short" in source.warnings[0]


def test_a_lost_index_is_named(tmp_path: Path) -> None:
    path = media.cut_short(write_video(tmp_path / "short.mp4", frames=24), 0.7)
    with pytest.raises(InputError, match=r"has no readable index \(moov\)"):
        open_source(path)


def demux_through(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """Let `change` have its way with the packets of every video opened from now on."""

    class Changed:
        def __init__(self, container: Any) -> None:
            self._container = container

        def __getattr__(self, name: str) -> Any:
            return getattr(self._container, name)

        def demux(self, stream: Any) -> Any:
            return change(self._container.demux(stream))

    opened = opening.open_container
    monkeypatch.setattr(material, "open_container", lambda *given, **named: Changed(opened(*given, **named)))


def test_empty_packets_do_not_end_the_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_empty_ones(packets: Any) -> Any:
        for packet in packets:
            yield av.Packet()
            yield packet

    path = write_video(tmp_path / "clip.mp4", frames=8, options=B_FRAMES)
    demux_through(monkeypatch, with_empty_ones)
    assert numbers(read(path)[0]) == list(range(8))


@pytest.mark.parametrize("keep_going", [False, True])
def test_a_read_error_stops_unless_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep_going: bool) -> None:
    path = write_video(tmp_path / "clip.mp4", frames=12)

    def failing(packets: Any) -> Any:
        """A disk that gives up after four packets."""
        yield from itertools.islice(packets, 4)
        raise av.error.OSError(5, "Input/output error")

    demux_through(monkeypatch, failing)
    if keep_going:
        pictures, source = read(path, keep_going=True)
        assert numbers(pictures) == [0, 1, 2, 3]
        assert source.warnings == ["reading broke off: Input/output error"]
    else:
        with pytest.raises(InputError, match="cannot be read to its end"):
            read(path)


# ---------------------------------------------------------------------------------------------- geometry


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p"])
def test_rotation_is_applied_once_and_exactly(tmp_path: Path, pixel_format: str, degrees: int, mirrored: bool) -> None:
    path = write_video(
        tmp_path / "turned.mp4",
        frames=2,
        width=62,
        height=50,
        pixel_format=pixel_format,
        rotation_degrees=degrees,
        mirrored=mirrored,
        sample_aspect=Fraction(4, 3),
    )
    pictures, source = read(path)
    stored = media.numbered_planes(1, 62, 50, pixel_format)
    # numpy's rot90 is counter-clockwise too; av_display_matrix_flip mirrors what is shown, so after the turn
    wanted = [np.rot90(plane, degrees // 90) for plane in stored]
    wanted = [plane[:, ::-1] if mirrored else plane for plane in wanted]
    assert_planes(pictures[1].frame, wanted)
    sideways = degrees in (90, 270)
    assert (source.info.width, source.info.height) == ((50, 62) if sideways else (62, 50))
    assert source.info.sample_aspect == (Fraction(3, 4) if sideways else Fraction(4, 3))
    assert source.info.rotation_degrees == degrees


@pytest.mark.parametrize("value", range(1, 9))
def test_exif_orientations_agree_with_the_standard(value: int) -> None:
    """EXIF 2.32 names where the stored row 0 and column 0 are seen."""
    seen_at = {
        1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"),
        5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom"),
    }  # fmt: skip
    stored = np.full((32, 48), 50, np.uint8)
    stored[0], stored[1:, 0] = 100, 200
    seen = read_planes(turned(make_frame([stored], "gray"), from_exif(value)))[0]
    edges = {"top": seen[0], "bottom": seen[-1], "left": seen[:, 0], "right": seen[:, -1]}
    row_side, column_side = seen_at[value]
    assert np.median(edges[row_side]) == 100
    assert np.median(edges[column_side]) == 200


def test_half_chroma_is_made_full_before_it_is_turned() -> None:
    frame = media.numbered_frame(5, pixel_format="yuv422p10le")
    result = turned(frame, from_degrees(90))
    assert (result.format.name, result.width, result.height) == ("yuv444p10le", 48, 64)
    np.testing.assert_array_equal(read_planes(result)[0], np.rot90(read_planes(frame)[0]))
    flipped = turned(frame, Orientation(flip_columns=True))
    assert flipped.format.name == "yuv422p10le"


def test_a_display_matrix_is_taken_to_the_nearest_right_angle() -> None:
    unit = 1 << 16
    nearly_upright = np.array([unit, 300, 0, -300, unit, 0, 0, 0, 1 << 30], np.int32)
    assert from_display_matrix(nearly_upright.tobytes()).upright
    assert from_degrees(-90) == from_degrees(270)


@pytest.mark.parametrize(("width", "height"), [(65, 48), (64, 47), (63, 51)])
def test_odd_sizes_are_delivered_as_they_are(tmp_path: Path, width: int, height: int) -> None:
    path = write_video(tmp_path / "odd.mkv", width=width, height=height, codec="ffv1", frames=3)
    pictures, source = read(path)
    assert (source.info.width, source.info.height) == (width, height)
    assert_planes(pictures[2].frame, media.numbered_planes(2, width, height, "yuv420p"))


def with_clean_aperture(path: Path, *numbers: int) -> Path:
    """Add a `clap` box: width, height, offset right, offset down, each with its denominator."""
    mp4box.finish_file(path, [struct.pack(">I4sIIIIiIiI", 40, b"clap", *numbers)])
    return path


@pytest.mark.parametrize("degrees", [0, 90])
def test_a_clean_aperture_is_cut_out(tmp_path: Path, degrees: int) -> None:
    path = write_video(tmp_path / "clap.mov", frames=3, rotation_degrees=degrees)
    pictures, source = read(with_clean_aperture(path, 48, 1, 40, 1, 4, 1, -4, 2))
    wanted = media.numbered_planes(2, 64, 48, "yuv420p")
    wanted = [wanted[0][2:42, 12:60], wanted[1][1:21, 6:30], wanted[2][1:21, 6:30]]
    assert_planes(pictures[2].frame, [np.rot90(plane, degrees // 90) for plane in wanted])
    assert (source.info.width, source.info.height) == ((40, 48) if degrees else (48, 40))


@pytest.mark.parametrize(
    "numbers",
    [
        (64, 1, 48, 1, 0, 1, 0, 1),  # the whole picture
        (64, 1, 40, 1, 4, 1, 0, 1),  # reaches outside
        (48, 0, 40, 1, 0, 1, 0, 1),  # no number
        (0, 1, 40, 1, 0, 1, 0, 1),  # nothing
    ],
)
def test_a_clean_aperture_that_makes_no_sense_is_ignored(tmp_path: Path, numbers: tuple[int, ...]) -> None:
    _, source = read(with_clean_aperture(write_video(tmp_path / "clap.mp4", frames=2), *numbers))
    assert (source.info.width, source.info.height) == (64, 48)


@pytest.mark.parametrize("content", [b"", b"no box", struct.pack(">I4s", 3, b"free"), struct.pack(">I4s", 99, b"moov")])
def test_a_file_without_a_readable_index_has_no_clean_aperture(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.mp4"
    path.write_bytes(content)
    assert clean_aperture(path, 64, 48) is None


def test_interlaced_video_becomes_progressive_one_for_one(tmp_path: Path) -> None:
    woven = [media.interlaced_frame(number) for number in range(8)]
    pictures, source = read(write_video(tmp_path / "woven.mp4", pictures=woven, options=media.INTERLACED_X264))
    assert [picture.pts for picture in pictures] == [512 * number for number in range(8)]
    assert source.warnings == ["the video is interlaced; it is deinterlaced with bwdif at its own frame rate"]

    def combing(frame: av.VideoFrame) -> float:
        return float(np.abs(np.diff(read_planes(frame)[0].astype(int), axis=0)).mean())

    for picture, stored in zip(pictures, woven):
        assert not picture.frame.interlaced_frame
        assert combing(picture.frame) < 0.5 * combing(stored)
        # the first field stays as it is; x264 takes frames without a field order as bottom field first
        np.testing.assert_array_equal(read_planes(picture.frame)[0][1::2], read_planes(stored)[0][1::2])


def test_progressive_parts_of_an_interlaced_stream_stay_as_they_are(tmp_path: Path) -> None:
    parts = [
        write_video(tmp_path / "a.ts", frames=3, options=PLAIN),
        write_video(
            tmp_path / "b.ts", pictures=[media.interlaced_frame(n) for n in range(4)], options=media.INTERLACED_X264
        ),
        write_video(tmp_path / "c.ts", frames=3, options=PLAIN),
        write_video(tmp_path / "d.ts", frames=3, options=PLAIN, width=96, height=64),
    ]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    pictures, _ = read(joined)
    assert len(pictures) == 13
    for index, number in ((0, 0), (1, 1), (2, 2), (7, 0), (8, 1), (9, 2)):
        assert_planes(pictures[index].frame, media.numbered_planes(number, 64, 48, "yuv420p"))
    assert numbers(pictures[10:]) == [0, 1, 2]


# ---------------------------------------------------------------------------------------------- formats and colour


@pytest.mark.parametrize(
    ("pixel_format", "depth"),
    [("yuv420p", 8), ("yuv420p10le", 10), ("yuv422p10le", 10), ("yuv444p12le", 12), ("gray16le", 16)],
)
def test_pictures_keep_their_samples_and_depth(tmp_path: Path, pixel_format: str, depth: int) -> None:
    path = write_video(tmp_path / "deep.mkv", codec="ffv1", pixel_format=pixel_format, frames=2)
    pictures, source = read(path)
    assert (source.info.pixel_format, source.info.bit_depth) == (pixel_format, depth)
    assert_planes(pictures[1].frame, media.numbered_planes(1, 64, 48, pixel_format))
    rgb = pictures[1].rgb()
    assert rgb.dtype == (np.uint8 if depth == 8 else np.uint16)
    assert rgb.shape == (48, 64, 3)


def test_full_range_loses_its_old_name_but_no_sample(tmp_path: Path) -> None:
    tags = media.Tags(color_range=2, colorspace=1, color_primaries=1, color_trc=1)
    pictures, source = read(write_video(tmp_path / "full.mp4", tags=tags, frames=2))
    assert (source.info.pixel_format, source.info.color_range) == ("yuv420p", 2)
    assert_planes(pictures[1].frame, media.numbered_planes(1, 64, 48, "yuv420p"))


@pytest.mark.parametrize("tags", [media.Tags(), BT709])
def test_colour_tags_are_copied_and_never_invented(tmp_path: Path, tags: media.Tags) -> None:
    _, source = read(write_video(tmp_path / "tags.mp4", tags=tags, frames=2))
    info = source.info
    found = media.Tags(info.color_range, info.colorspace, info.color_primaries, info.color_trc)
    assert found == tags
    assert info.mastering_display is None
    assert info.content_light is None


def test_hdr10_metadata_is_read(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "hdr.mp4", codec="libx265", options=HDR10_X265, tags=HDR10, pixel_format="yuv420p10le",
        rotation_degrees=90, frames=3,
    )  # fmt: skip
    pictures, source = read(path)
    assert source.info.mastering_display is not None
    wanted = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
    assert source.info.mastering_display.x265_value == wanted
    assert source.info.mastering_display.maximum_nits == 1000
    assert source.info.content_light == ContentLight(1000, 400)
    assert source.info.content_light.x265_value == "1000,400"
    assert (source.info.color_trc, source.info.bit_depth) == (16, 10)
    assert pictures[2].frame.color_trc == 16, "a turned picture keeps its tags"


def entry(kind: Type, content: bytes) -> Any:
    class Entry(bytes):
        type = kind

    return Entry(content)


def dolby_vision(profile: int, full_range: int) -> Any:
    header = bytes([0, 0, 0, 0, profile, 0, 0, 0, 0, 0, full_range, 10])
    return entry(Type.DOVI_METADATA, struct.pack("=3Q", 24, 0, 0) + header)


def test_dolby_vision_profile_5_is_told_from_those_with_a_base() -> None:
    def frame(*entries: Any) -> Any:
        return SimpleNamespace(side_data=entries, rotation=0)

    assert side_data.is_dolby_vision_profile_5(frame(dolby_vision(0, 1)))
    assert not side_data.is_dolby_vision_profile_5(frame(dolby_vision(1, 0)))
    assert not side_data.is_dolby_vision_profile_5(frame())
    dynamic = frame(dolby_vision(1, 0), entry(Type.DYNAMIC_HDR_PLUS, b""), entry(Type.DOVI_RPU_BUFFER, b""))
    assert side_data.dynamic_hdr(dynamic) == ["Dolby Vision", "HDR10+"]
    incomplete = entry(Type.MASTERING_DISPLAY_METADATA, struct.pack("=22i", *([0, 1] * 10), 0, 1))
    assert side_data.mastering_display(frame(incomplete)) is None


def test_dolby_vision_profile_5_is_refused(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "dv.mp4", codec="libx265", options={"x265-params": "log-level=none:bframes=0"}, frames=2
    )
    content = path.read_bytes()
    assert content.count(b"hev1") == 1
    path.write_bytes(content.replace(b"hev1", b"dvh1"))
    with pytest.raises(InputError, match=r"Dolby Vision profile 5.*export it as HDR10"):
        open_source(path)


def test_dynamic_metadata_is_dropped_with_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "clip.mp4", frames=2)
    monkeypatch.setattr(side_data, "dynamic_hdr", lambda frame: ["HDR10+"])
    _, source = read(path)
    assert source.warnings == ["HDR10+ metadata is dropped; the base picture is kept"]


def test_side_data_of_a_kind_unknown_to_pyav_does_no_harm() -> None:
    class Unlisted:
        rotation = 90

        @property
        def side_data(self) -> Any:
            raise ValueError("31 is not a valid Type")

    assert side_data.side_data(Unlisted()) == {}  # type: ignore[arg-type]
    assert side_data.orientation(Unlisted()) == from_degrees(90)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------- streams


@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_cover_art_is_not_the_video(tmp_path: Path, container: str) -> None:
    path = write_video(tmp_path / f"cover.{container}", cover=True, sounds=[Sound()])
    assert numbers(read(path)[0]) == list(range(10))
    assert "cover" in [other.kind for other in probe(path).others]


def test_sound_with_cover_art_is_only_sound(tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as output:
        still = media._add_cover(output)
        track = media._add_sound(output, Sound())
        output.mux(still)
        output.mux(list(media._sine(track, Sound())))
    with pytest.raises(InputError, match="holds only sound"):
        open_source(path)


def test_of_two_videos_the_default_one_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as output:
        streams = [media._add_video(output, "libx264", Fraction(25), media.numbered_frame(0), None, Fraction(1, 25))
                   for _ in range(2)]  # fmt: skip
        streams[1].disposition = av.stream.Disposition.default.value
        for stream, first in zip(streams, (100, 200)):
            frames = [media.numbered_frame(first + number) for number in range(3)]
            output.mux(list(media._encode(stream, frames, range(3), Fraction(1, 25), None)))
    pictures, source = read(path)
    assert numbers(pictures) == [200, 201, 202]
    assert source.warnings == ["video stream 1 is converted; left out: 0"]


def test_probe_lists_the_other_streams(tmp_path: Path) -> None:
    path = write_video(
        tmp_path / "rich.mkv",
        sounds=[Sound(language="eng", title="Stereo"), Sound(hertz=880, codec="flac", language="deu")],
        subtitles=[Subtitle(language="fra")],
        attachment=("font.ttf", "font/ttf", b"not a font"),
    )
    facts = probe(path)
    assert [(other.kind, other.codec, other.language) for other in facts.others] == [
        ("audio", "aac", "eng"),
        ("audio", "flac", "deu"),
        ("subtitle", "subrip", "fra"),
        ("attachment", "font/ttf", None),
    ]
    assert facts.others[0].title == "Stereo"
    assert (facts.info.width, facts.info.codec, facts.info.kind) == (64, "h264", "video")
    assert facts.warnings == ()


# ---------------------------------------------------------------------------------------------- images


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [("a.png", "png", "rgb24"), ("a.bmp", "bmp", "bgr24"), ("a.tiff", "tiff", "rgb24"), ("a.png", "png", "rgb48be")],
)
def test_still_images_are_read_exactly(tmp_path: Path, name: str, codec: str, pixel_format: str) -> None:
    scale = 257 if "48" in pixel_format else 1
    samples = media.numbered_planes(77, 64, 48, "rgb24")[0].astype(np.uint16) * scale
    original = make_frame([samples], "rgb24" if scale == 1 else "rgb48le")
    path = tmp_path / name
    path.write_bytes(media.image_bytes(original.reformat(format=pixel_format), codec))
    pictures, source = read(path)
    np.testing.assert_array_equal(pictures[0].rgb(), samples)
    assert (source.info.kind, source.info.frame_rate, len(pictures)) == ("image", 1, 1)
    assert (source.info.bit_depth, source.info.codec) == (8 if scale == 1 else 16, codec)
    assert probe(path).others == ()


def test_an_animated_png_gives_its_first_picture_and_says_so(tmp_path: Path) -> None:
    animated = media.write_video(tmp_path / "a.apng", frames=3, codec="apng", pixel_format="rgb24")
    pictures, source = read(animated.rename(tmp_path / "a.png"))
    assert len(pictures) == 1
    assert source.warnings == ["the picture is animated; its first frame is taken, save it as a video to convert all"]


@pytest.mark.parametrize(("codec", "name"), [("mjpeg", "a.jpg"), ("libwebp", "a.webp")])
def test_lossy_images_are_read(tmp_path: Path, codec: str, name: str) -> None:
    frame = media.numbered_frame(77, pixel_format="yuv420p")
    frame.color_range = 2
    path = tmp_path / name
    path.write_bytes(media.image_bytes(frame.reformat(format="yuvj420p") if codec == "mjpeg" else frame, codec))
    pictures, _ = read(path)
    assert media.read_number(pictures[0].rgb()) == 77


def exif_tiff(orientation: int, order: str = "<") -> bytes:
    head = b"II" if order == "<" else b"MM"
    tags = struct.pack(order + "HHIHH", 0x0100, 3, 1, 64, 0) + struct.pack(
        order + "HHIHH", 0x0112, 3, 1, orientation, 0
    )
    return head + struct.pack(order + "HI", 42, 8) + struct.pack(order + "H", 2) + tags + bytes(4)


def with_exif(content: bytes, block: bytes) -> bytes:
    """Put an EXIF block where JPEG, PNG and WebP keep it."""
    if content[:2] == b"\xff\xd8":
        body = b"Exif\0\0" + block
        return content[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + content[2:]
    if content[:4] == b"\x89PNG":
        return content[:33] + struct.pack(">I", len(block)) + b"eXIf" + block + bytes(4) + content[33:]
    body = content[12:] + b"EXIF" + struct.pack("<I", len(block)) + block
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


@pytest.mark.parametrize("value", [1, 2, 3, 4, 5, 6, 7, 8])
def test_jpegs_are_turned_as_exif_says_and_once_only(tmp_path: Path, value: int) -> None:
    frame = media.numbered_frame(9, pixel_format="yuv444p")
    content = media.image_bytes(frame.reformat(format="yuvj444p"), "mjpeg")
    plain, turned_path = tmp_path / "plain.jpg", tmp_path / "turned.jpg"
    plain.write_bytes(content)
    turned_path.write_bytes(with_exif(content, exif_tiff(value)))
    upright = read(plain)[0][0].frame
    assert_planes(read(turned_path)[0][0].frame, read_planes(turned(upright, from_exif(value))))


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_is_found_in_every_container(order: str) -> None:
    frame = media.numbered_frame(1, pixel_format="rgb24")
    block = exif_tiff(6, order)
    for codec, pixel_format in (("png", "rgb24"), ("mjpeg", "yuvj420p"), ("libwebp", "yuv420p")):
        content = media.image_bytes(frame.reformat(format=pixel_format), codec)
        assert exif_orientation(content) == 1
        assert exif_orientation(with_exif(content, block)) == 6
    assert exif_orientation(block) == 6, "TIFF is such a block itself"


@pytest.mark.parametrize(
    "content", [b"", b"II", b"\xff\xd8\xff", b"\xff\xd8\xff\xe1\x00", exif_tiff(6)[:20], exif_tiff(9)]
)
def test_a_damaged_exif_block_means_upright(content: bytes) -> None:
    assert from_exif(exif_orientation(content)).upright


def test_transparency_is_dropped_with_one_warning(tmp_path: Path) -> None:
    opaque = media.numbered_frame(3, pixel_format="rgb24")
    path = tmp_path / "glass.png"
    path.write_bytes(media.image_bytes(opaque.reformat(format="rgba"), "png"))
    pictures, source = read(path)
    assert source.warnings == ["transparency is dropped"]
    np.testing.assert_array_equal(pictures[0].rgb(), read_planes(opaque)[0])


def write_sequence(folder: Path, frame_numbers: Sequence[int], pattern: str = "f_%03d.png") -> Path:
    for number in frame_numbers:
        frame = media.numbered_frame(number, pixel_format="rgb24")
        (folder / (pattern % number)).write_bytes(media.image_bytes(frame, "png"))
    return folder / pattern


def test_a_pattern_is_one_film(tmp_path: Path) -> None:
    pattern = write_sequence(tmp_path, range(8, 13))
    (tmp_path / "f_9.png").write_bytes(b"not of this width")
    pictures, source = read(pattern, frame_rate=Fraction(30))
    assert numbers(pictures) == [8, 9, 10, 11, 12]
    assert [picture.pts for picture in pictures] == [0, 1, 2, 3, 4]
    assert (source.info.kind, source.info.time_base, source.info.frame_estimate) == ("sequence", Fraction(1, 30), 5)
    assert read(pattern)[1].info.frame_rate == 24
    cut, _ = read(pattern, frame_rate=Fraction(10), start_seconds=0.1, end_seconds=0.3)
    assert numbers(cut) == [9, 10]


def test_numbers_without_padding_are_matched_in_order(tmp_path: Path) -> None:
    assert list(sequence_files(write_sequence(tmp_path, [9, 10, 11], "f%d.png"))) == [9, 10, 11]


def test_a_gap_in_a_sequence_is_refused_unless_told(tmp_path: Path) -> None:
    pattern = write_sequence(tmp_path, [1, 2, 4])
    with pytest.raises(InputError, match=r"lacks number 3 \(1 missing between 1 and 4\)"):
        open_source(pattern)
    pictures, source = read(pattern, keep_going=True)
    assert numbers(pictures) == [1, 2, 2, 4]
    assert source.repeated_frames == 1


def test_a_damaged_image_in_a_sequence(tmp_path: Path) -> None:
    pattern = write_sequence(tmp_path, [1, 2, 3])
    (tmp_path / "f_002.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"f_002\.png is empty"):
        read(pattern)
    assert numbers(read(pattern, keep_going=True)[0]) == [1, 1, 3]


def test_the_name_of_an_existing_file_is_no_pattern(tmp_path: Path) -> None:
    frame = media.numbered_frame(5, pixel_format="rgb24")
    path = tmp_path / "100%d.png"
    path.write_bytes(media.image_bytes(frame, "png"))
    assert read(path)[1].kind == "image"


# ---------------------------------------------------------------------------------------------- folders


def test_a_folder_means_its_videos_in_natural_order(tmp_path: Path) -> None:
    for name in ("clip10.mp4", "clip2.MKV", "notes.txt", ".hidden.mp4", "poster.jpg"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.mp4").mkdir()
    assert [path.name for path in expand_input(tmp_path)] == ["clip2.MKV", "clip10.mp4"]


def test_a_folder_of_images_means_each_of_them(tmp_path: Path) -> None:
    for name in ("b.png", "a10.jpg", "a9.webp"):
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in expand_input(tmp_path)] == ["a9.webp", "a10.jpg", "b.png"]


def test_a_file_or_pattern_means_itself(tmp_path: Path) -> None:
    assert expand_input(tmp_path / "f%03d.png") == [tmp_path / "f%03d.png"]


def test_a_folder_without_media_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(InputError, match="holds no video and no image"):
        expand_input(tmp_path)

    def denied(folder: Path) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(InputError, match="cannot be listed: Permission denied"):
        expand_input(tmp_path)


# ---------------------------------------------------------------------------------------------- bad input


def bad_inputs(folder: Path) -> dict[str, tuple[Path, str]]:
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("this is a letter, not a film\n" * 50)
    (folder / "text.txt").write_text("this is a letter, not a film\n" * 50)
    (folder / "noise.mkv").write_bytes(np.random.default_rng(0).bytes(5000))
    (folder / "noise.png").write_bytes(np.random.default_rng(0).bytes(5000))
    (folder / "head.png").write_bytes(media.image_bytes(media.numbered_frame(0, pixel_format="rgb24"), "png")[:60])
    (folder / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nhttp://example.invalid/a.ts\n")
    os.mkfifo(folder / "pipe.mp4")
    with av.open(str(folder / "sound.m4a"), "w", format="ipod") as output:
        track = media._add_sound(output, Sound())
        output.mux(list(media._sine(track, Sound())))
    write_video(folder / "tiny.mkv", width=14, height=32, codec="ffv1", pixel_format="gray")
    blank = write_video(folder / "blank.mp4", frames=4)
    media.damage(blank, range(4))
    return {
        "missing": (folder / "nowhere.mp4", "does not exist"),
        "folder": (folder, "is a folder, expected one video or image"),
        "empty": (folder / "empty.mp4", r"is empty \(0 bytes\)"),
        "text named mp4": (folder / "text.mp4", "is not a video or image"),
        "text": (folder / "text.txt", "is not a video or image"),
        "noise": (folder / "noise.mkv", "is not a video or image"),
        "noise image": (folder / "noise.png", "is not a video or image|holds no picture"),
        "half an image's head": (folder / "head.png", "holds no picture that can be decoded|is not a video"),
        "playlist": (folder / "list.m3u8", "is not a video or image"),
        "pipe": (folder / "pipe.mp4", "is not a regular file"),
        "sound": (folder / "sound.m4a", "holds only sound"),
        "tiny": (folder / "tiny.mkv", "is 14x32, expected at least 16x16"),
        "no picture": (blank, "holds no picture that can be decoded"),
        "no match": (folder / "frame_%04d.png", r"no file matches the pattern .*such as frame_0001\.png"),
        "no folder": (folder / "nowhere" / "%04d.png", "no file matches the pattern"),
    }


def test_bad_input_gives_one_clear_line_and_no_noise(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    inputs = bad_inputs(tmp_path)
    capfd.readouterr()
    for name, (path, message) in inputs.items():
        with pytest.raises(InputError, match=message) as caught:
            open_source(path)
        assert "\n" not in str(caught.value), name
        assert str(path) in str(caught.value), name
    assert capfd.readouterr() == ("", "")


def test_a_grid_of_tiles_is_refused() -> None:
    tile = SimpleNamespace(disposition=av.stream.Disposition.dependent, index=0)
    container: Any = SimpleNamespace(streams=SimpleNamespace(video=(tile, tile), audio=()))
    with pytest.raises(InputError, match="made of image tiles"):
        opening.choose_video(container, Path("photo.heic"))


def test_a_codec_without_decoder_is_refused() -> None:
    unknown = SimpleNamespace(disposition=av.stream.Disposition(0), index=0, codec_context=None)
    container: Any = SimpleNamespace(streams=SimpleNamespace(video=(unknown,), audio=()))
    with pytest.raises(InputError, match="cannot decode its video"):
        opening.choose_video(container, Path("odd.mkv"))


def test_no_pictures_and_no_sound_is_refused() -> None:
    container: Any = SimpleNamespace(streams=SimpleNamespace(video=(), audio=()))
    with pytest.raises(InputError, match="holds no pictures"):
        opening.choose_video(container, Path("subtitles.mkv"))


def test_denied_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "secret.mp4", frames=2)

    def denied(*arguments: Any, **options: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", denied)  # root, who may run the tests, is never denied
        with pytest.raises(InputError, match="cannot be opened: Permission denied"):
            open_source(path)
    monkeypatch.setattr(av, "open", lambda *a, **k: (_ for _ in ()).throw(av.error.PermissionError(13, "denied")))
    with pytest.raises(InputError, match="permission denied"):
        open_source(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start_seconds": 0.3, "end_seconds": 0.3}, r"--end 0\.3 s is not after --start 0\.3 s"),
        ({"end_seconds": 0}, r"--end 0 s is not after --start 0 s"),
        ({"start_seconds": -1}, "--start is -1, expected seconds from 0 on"),
        ({"end_seconds": float("nan")}, "--end is nan, expected seconds"),
        ({"start_seconds": float("inf")}, "--start is inf, expected seconds"),
        ({"frame_rate": Fraction(0)}, "the frame rate is 0, expected more than 0"),
    ],
)
def test_nonsense_options_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        open_source(write_video(tmp_path / "clip.mp4", frames=2), **options)


def test_a_start_beyond_the_end_says_how_long_the_video_is(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4")
    with pytest.raises(
        InputError, match=r"no picture lies after --start 3 s in .*which lasts 0\.400 s; choose earlier"
    ):
        open_source(path, start_seconds=3)
    with pytest.raises(InputError, match=r"after --start 0\.01 s and 0\.02 s"):
        open_source(path, start_seconds=0.01, end_seconds=0.02)


# ---------------------------------------------------------------------------------------------- life cycle


def test_a_source_is_read_once(tmp_path: Path) -> None:
    with open_source(write_video(tmp_path / "clip.mp4", frames=2)) as source:
        assert len(list(source)) == 2
        with pytest.raises(ValueError, match="a Source is read once"):
            list(source)


def test_pictures_outlive_their_source_and_one_frame_is_enough(tmp_path: Path) -> None:
    pictures, source = read(write_video(tmp_path / "clip.mp4", frames=1))
    assert numbers(pictures) == [0]
    assert source.info.frame_estimate == 1
    np.testing.assert_array_equal(pictures[0].rgb().shape, (48, 64, 3))


def test_names_with_spaces_and_letters_of_all_kinds(tmp_path: Path) -> None:
    folder = tmp_path / "a folder with % and ü"
    folder.mkdir()
    assert numbers(read(write_video(folder / "фильм 映画 100%.mp4", frames=3))[0]) == [0, 1, 2]


def test_reading_twice_gives_the_same_samples(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mkv", codec="libx264", options={"crf": "30"}, frames=12)
    first, second = read(path)[0], read(path)[0]
    for one, other in zip(first, second):
        assert_planes(one.frame, read_planes(other.frame))
        np.testing.assert_array_equal(one.rgb(), other.rgb())
