"""A conversion that is broken off goes on where it was, to the same bytes."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from filelock import FileLock

import spatialme
from spatialme import job
from spatialme.cli import main
from spatialme.errors import InputError, OutputError
from spatialme.film import boundaries, journal, produce, reentry
from spatialme.film.boundaries import Boundaries
from spatialme.film.film import Film
from spatialme.film.journal import DONE, LOCK, Journal, folder_of
from spatialme.film.stretch import StretchOutcome
from spatialme.settings import ConverterSettings
from spatialme.video import segment_file
from spatialme.video.planes import read_planes
from spatialme.video.reader import open_source
from spatialme.video.segment_file import Segment
from spatialme.video.video_file import decoding_stamps
from spatialme.video.writer import OutputOptions, SegmentWriter, join_segments, plan_output
from tests import films, media

SMALL = {"depth": "tiny", "depth_size": 64, "quality": "draft", "device": "cpu"}
SHOTS = (15, 4, 20, 8)
SEGMENTS = 5  # of 12, 7 (a short shot's with the end of a long one), 12, 8 and 8 frames
VFR = [40 * n + 7 * (n % 3) + (200 if n > 30 else 0) for n in range(sum(SHOTS))]  # in 1/1000 s


@pytest.fixture
def short_segments(monkeypatch):
    """Segments of 6 to 12 frames at 25 frames per second."""
    monkeypatch.setattr(boundaries, "SHORTEST_SECONDS", Fraction(6, 25))
    monkeypatch.setattr(boundaries, "LONGEST_SECONDS", Fraction(12, 25))


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    return films.write_film(
        path, SHOTS, pts=VFR, time_base=Fraction(1, 1000), gop=20, options={}, sounds=[media.Sound(seconds=2)]
    )


def convert(source: Path, output: Path, **options):
    (report,) = spatialme.convert(source, output, **{**SMALL, **options})
    return report


def interrupted_before_joining(monkeypatch, source: Path, output: Path, **options) -> None:
    with monkeypatch.context() as patch:

        def stop(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(produce, "join_segments", stop)
        with pytest.raises(KeyboardInterrupt, match=r"finished segments of .* are kept, the same command continues"):
            convert(source, output, **options)


@pytest.mark.parametrize(
    ("long_shot", "options"),
    [
        (44, {}),
        pytest.param(70, {"convergence": "auto", "eye": "both", "codec": "h265"}, marks=pytest.mark.slow),
        pytest.param(60, {"quality": "fast", "format": "two_files"}, marks=pytest.mark.slow),
    ],
    ids=["draft", "auto both", "fast"],
)
def test_every_segment_made_anew_is_the_same(short_segments, tmp_path, monkeypatch, long_shot, options):
    """The long shot has segments that begin farther from its start than any stage looks back."""
    film = films.write_film(tmp_path / "film.mp4", (15, 4, long_shot), gop=20, options={})
    whole = convert(film, tmp_path / "whole.mp4", **options)
    output = tmp_path / "out.mp4"
    interrupted_before_joining(monkeypatch, film, output, **options)
    folder = next(tmp_path.glob(".out*.spatialme"))
    records = sorted(folder.glob("*-*.json"))
    assert len(records) == whole.segments
    for dropped in (records[::2], records[1::2]):  # each is then made from its first frame on, up to the next
        before = {path: path.read_bytes() for path in folder.glob("*.mp4")}
        for record in dropped:
            for path in folder.glob(f"{record.stem}*"):
                path.unlink()
        interrupted_before_joining(monkeypatch, film, output, **options)
        assert {path: path.read_bytes() for path in folder.glob("*.mp4")} == before
    report = convert(film, output, **options)
    assert report.segments_reused == report.segments == whole.segments
    for one, other in zip(report.outputs, whole.outputs):
        assert one.read_bytes() == other.read_bytes()


def test_the_output_plays_every_frame_at_its_time_with_its_sound(short_segments, film, tmp_path):
    report = convert(film, tmp_path / "out.mp4", crf=0)
    assert report.segments == SEGMENTS
    with av.open(str(tmp_path / "out.mp4")) as container:
        video, sound = container.streams.video[0], container.streams.audio[0]
        assert [round(1000 * frame.time) for frame in container.decode(video)] == VFR
        assert sound.duration * sound.time_base > 1.9
    for frame, original in zip(media.decode_all(tmp_path / "out.mp4"), media.decode_all(film), strict=True):
        np.testing.assert_array_equal(read_planes(frame)[0][:, : films.WIDTH], read_planes(original)[0])


def test_the_same_command_on_a_finished_output_says_so_and_does_nothing(short_segments, film, tmp_path, capsys):
    output = tmp_path / "out.mp4"
    words = ["convert", str(film), str(output), "--depth", "tiny", "--depth-size", "64", "--quality", "draft"]
    assert main([*words, "--end", "0.4"]) == 0
    assert [path.name for path in folder_of(output).iterdir()] == ["done.json"]
    before = output.stat().st_mtime_ns
    capsys.readouterr()
    assert main([*words, "--end", "0.4"]) == 0
    assert "done already by the same command (10 frames); --overwrite makes it again" in capsys.readouterr().out
    assert output.stat().st_mtime_ns == before
    assert main(words) == 2  # the whole film is another output
    assert "exists; add --overwrite" in capsys.readouterr().err
    output.write_bytes(output.read_bytes() + b"edited")
    assert main([*words, "--end", "0.4"]) == 2  # so is what was changed
    assert main([*words, "--end", "0.4", "--overwrite"]) == 0
    assert len(media.decode_all(output)) == 10


def test_two_at_once_do_not_make_the_same_output(short_segments, film, tmp_path, monkeypatch):
    output = tmp_path / "out.mp4"
    interrupted_before_joining(monkeypatch, film, output)
    kept = sorted(path.name for path in folder_of(output).iterdir())
    with FileLock(folder_of(output) / LOCK):
        with pytest.raises(OutputError, match=r"out\.mp4 is being made by another spatialme; wait for it, or give"):
            convert(film, output)
        assert sorted(path.name for path in folder_of(output).iterdir()) == sorted([*kept, LOCK])
    assert convert(film, output).segments_reused == SEGMENTS
    assert [path.name for path in folder_of(output).iterdir()] == [DONE]


def test_a_drive_without_locks_stops_nobody(short_segments, film, tmp_path, monkeypatch):
    def refuse(self, *_: object, **__: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(journal.FileLock, "acquire", refuse)
    assert convert(film, tmp_path / "out.mp4").segments == SEGMENTS


def test_another_end_or_encoder_makes_anew_what_it_touches(short_segments, tmp_path, monkeypatch):
    film = films.write_film(tmp_path / "film.mp4", (15, 4, 60))
    output = tmp_path / "out.mp4"
    interrupted_before_joining(monkeypatch, film, output, end=2.4)
    interrupted_before_joining(monkeypatch, film, output, end=2.4, crf=30)
    assert len(list(folder_of(output).glob("*.json"))) == 2 * 6  # of one kind and of the other: 12, 7, 12, 12, 12, 5
    longer = convert(film, output, end=2.8)
    # the film's first frames were done long before its end was read; the last ones look different beside another end
    assert 1 <= longer.segments_reused <= 5
    convert(film, tmp_path / "at_once.mp4", end=2.8)
    assert output.read_bytes() == (tmp_path / "at_once.mp4").read_bytes()


def test_other_texts_need_only_another_join(short_segments, film, tmp_path, monkeypatch):
    output = tmp_path / "out.mp4"
    interrupted_before_joining(monkeypatch, film, output)
    settings = ConverterSettings(**SMALL)
    options = OutputOptions(keep_tags=False)
    report = job.Job(settings, options, None, None, Fraction(24), False).convert(film, output, None)
    assert report.segments_reused == report.segments == SEGMENTS


def test_what_lies_about_damaged_is_made_anew(short_segments, film, tmp_path, monkeypatch):
    convert(film, tmp_path / "whole.mp4")
    output = tmp_path / "out.mp4"
    interrupted_before_joining(monkeypatch, film, output)
    records = sorted(folder_of(output).glob("*.json"))
    records[1].write_text(records[1].read_text()[:-20])  # as a power cut may leave it
    segment = records[3].with_suffix(".mp4")
    segment.write_bytes(segment.read_bytes()[:-1])
    (folder_of(output) / "0.mp4.1234.partial").write_bytes(b"of a process that was killed")
    report = convert(film, output)
    assert report.segments_reused == 3
    assert output.read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    assert [path.name for path in folder_of(output).iterdir()] == [DONE]


def test_a_kill_between_the_output_s_appearance_and_the_report_changes_nothing(
    short_segments, film, tmp_path, monkeypatch
):
    output = tmp_path / "out.mp4"
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "tidy", lambda self: None)
        convert(film, output, overwrite=True)
    content = output.read_bytes()
    report = convert(film, output, overwrite=True)
    assert report.already_done
    assert output.read_bytes() == content
    assert [path.name for path in folder_of(output).iterdir()] == [DONE]


def test_a_seek_that_leads_elsewhere_is_noticed_and_read_around(short_segments, film, tmp_path, monkeypatch):
    convert(film, tmp_path / "whole.mp4")
    output = tmp_path / "out.mp4"
    interrupted_before_joining(monkeypatch, film, output)
    record = sorted(folder_of(output).glob("*.json"))[3]
    record.unlink()
    opened = []
    open_film = Film.open

    def elsewhere(self: Film, start_seconds: float | None = None):
        opened.append(start_seconds)
        return open_film(self, None if start_seconds is None else start_seconds + 1.2)

    monkeypatch.setattr(Film, "open", elsewhere)
    monkeypatch.setattr(reentry, "MARGIN_SECONDS", 0.1)
    convert(film, output)
    assert len(opened) == 2
    assert opened[1] is None
    assert output.read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_a_film_that_reads_otherwise_than_before_is_refused(short_segments, film, tmp_path, monkeypatch):
    output = tmp_path / "out.mp4"
    interrupted_before_joining(monkeypatch, film, output)
    records = sorted(folder_of(output).glob("*.json"))
    records[2].write_text(records[2].read_text().replace('"last_picture":', '"last_picture":1'))
    records[3].unlink()
    with pytest.raises(InputError, match=r"does not read as it did .* remove .*spatialme and start again"):
        convert(film, output)


def test_a_film_that_ends_too_early_is_refused(film, tmp_path, monkeypatch):
    monkeypatch.setattr(produce, "convert_stretch", lambda *_, **__: StretchOutcome(0, []))
    with pytest.raises(InputError, match=r"got shorter since its first segments were made; remove .*spatialme"):
        convert(film, tmp_path / "out.mp4")


def test_segments_that_were_encoded_otherwise_are_not_joined(film, tmp_path):
    with open_source(film) as source:
        plans = [
            plan_output(tmp_path / "out.mp4", source, OutputOptions(preset=preset)) for preset in ("ultrafast", "fast")
        ]
        picture = next(iter(source))
        segments = []
        for plan in plans:
            writer = SegmentWriter(plan, source.info, [tmp_path / f"{len(segments)}.mp4"], start_pts_offset=0)
            writer.write(replace(picture, pts=1000 * len(segments)), None, None)
            segments += writer.finish()
        with pytest.raises(OutputError, match=r"segment 1\.mp4 was encoded otherwise than the first"):
            join_segments(plans[0], source, [segments])
    assert not (tmp_path / "out.mp4.partial").exists()


def test_saved_depth_begins_anew(short_segments, film, tmp_path, monkeypatch):
    output = tmp_path / "out.mp4"
    interrupted_before_joining(monkeypatch, film, output)
    report = convert(film, output, save_depth=tmp_path / "depth.mkv")
    assert report.segments_reused == 0
    assert len(media.decode_all(tmp_path / "depth.mkv")) == sum(SHOTS)
    assert convert(film, output, save_depth=tmp_path / "depth.mkv").already_done


def test_a_depth_video_serves_a_continued_film(short_segments, film, tmp_path, monkeypatch):
    convert(film, tmp_path / "first.mp4", save_depth=tmp_path / "depth.mkv")
    convert(film, tmp_path / "whole.mp4", depth=str(tmp_path / "depth.mkv"), depth_size=None)
    output = tmp_path / "out.mp4"
    options = {"depth": str(tmp_path / "depth.mkv"), "depth_size": None}
    interrupted_before_joining(monkeypatch, film, output, **options)
    for record in sorted(folder_of(output).glob("*.json"))[::3]:
        record.unlink()
    assert convert(film, output, **options).segments_reused == 3
    assert output.read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_a_full_disk_keeps_what_is_finished(short_segments, film, tmp_path, monkeypatch):
    convert(film, tmp_path / "whole.mp4")
    output = tmp_path / "out.mp4"
    with monkeypatch.context() as patch:
        patch.setattr(segment_file.os, "replace", full_after(2, segment_file.os.replace))
        with pytest.raises(OutputError, match=r"no space left .*; 2 finished segments of .* are kept, the same"):
            convert(film, output)
    assert not list(folder_of(output).glob("*.partial"))
    assert convert(film, output).segments_reused == 2
    assert output.read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_too_little_space_is_known_before_the_work(film, tmp_path, monkeypatch):
    fill_disk(monkeypatch)
    with pytest.raises(OutputError, match=r"has 0\.00 GB free, OUTPUT needs at least 0\.0\d GB; free some"):
        convert(film, tmp_path / "out.mp4")
    assert not list(tmp_path.glob("*out*"))


def test_room_is_needed_for_missing_segments_and_for_the_joined_film(short_segments, film, tmp_path, monkeypatch):
    output = tmp_path / "out.mp4"
    asked: list[int] = []
    monkeypatch.setattr(produce, "check_space", lambda _, needed_bytes: asked.append(needed_bytes))
    interrupted_before_joining(monkeypatch, film, output)
    convert(film, output)
    whole, joined_alone = asked
    assert whole == pytest.approx(2 * joined_alone, abs=2)


def test_a_finished_film_needs_no_room(film, tmp_path, monkeypatch):
    convert(film, tmp_path / "out.mp4")
    fill_disk(monkeypatch)
    assert convert(film, tmp_path / "out.mp4").already_done


def fill_disk(monkeypatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr("spatialme.video.place.shutil.disk_usage", lambda _: usage._replace(free=10))


def full_after(count: int, replace):
    """`os.replace` on a disk that is full after so many segments."""
    left = [count]

    def limited(old: Path, new: Path) -> None:
        if Path(new).suffix == ".mp4":
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
        replace(old, new)

    return limited


@pytest.mark.parametrize(
    ("orders", "stamps", "expected"),
    [
        ([[0, 3, 1, 2]], [0, 1, 2, 3], [-1, 0, 1, 2]),  # packet 3 leaves one picture early
        ([[0, 10, 30]], [0, 10, 30], [0, 10, 30]),
        ([[0, 20, 10], [30, 100, 50, 40]], [0, 10, 20, 30, 40, 50, 100], [-20, -10, 0, 10, 20, 30, 40]),
    ],
)
def test_decoding_times_rise_and_never_come_late(orders, stamps, expected):
    segments = [Segment(Path(), tuple((stamp, 1) for stamp in order)) for order in orders]
    decoding = list(decoding_stamps(segments, stamps))
    assert decoding == expected
    shown = [stamp for order in orders for stamp in order]
    assert all(early <= late for early, late in zip(decoding, shown))
    assert all(first < second for first, second in itertools.pairwise(decoding))


def test_segments_end_at_cuts_and_on_a_grid():
    rule = Boundaries.at(Fraction(25))
    assert not rule.ends(249, cut_follows=False)
    assert rule.ends(250, cut_follows=False)
    assert not rule.ends(49, cut_follows=True)
    assert rule.ends(50, cut_follows=True)


PERTURBED = """
import sys
from pathlib import Path
from spatialme.video.reader import open_source
from spatialme.video.writer import OutputOptions, SegmentWriter, plan_output
source, output, codec = sys.argv[1:]
with open_source(source) as opened:
    plan = plan_output(output, opened, OutputOptions(codec=codec, preset="medium"))
    writer = SegmentWriter(plan, opened.info, [Path(output)], start_pts_offset=0)
    for picture in opened:
        writer.write(picture, None, None)
    writer.finish()
"""


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_an_encoder_does_not_read_memory_that_it_never_set(film, tmp_path, codec):
    for value in ("0", "85"):  # what glibc fills fresh memory with; other systems ignore it
        words = [sys.executable, "-c", PERTURBED, str(film), str(tmp_path / f"{value}.mp4"), codec]
        subprocess.run(words, check=True, env={**os.environ, "MALLOC_PERTURB_": value})
    assert (tmp_path / "0.mp4").read_bytes() == (tmp_path / "85.mp4").read_bytes()


KILLS = 10


@pytest.mark.slow
def test_killed_at_ten_random_moments_the_film_is_the_same(tmp_path):
    """One conversion, killed ten times, each time after at least one more segment than before."""
    source = films.write_film(tmp_path / "film.mp4", [51 + n % 4 for n in range(18)], gop=25)
    reference = convert(source, tmp_path / "whole.mp4", device="auto")
    output, random = tmp_path / "out.mp4", np.random.default_rng(0)
    words = [sys.executable, "-m", "spatialme", "convert", str(source), str(output), "--depth", "tiny"]
    for _ in range(KILLS):
        process = subprocess.Popen([*words, "--depth-size", "64", "--quality", "draft"], stdout=subprocess.DEVNULL)
        finished = len(list(folder_of(output).glob("*.json")))
        while len(list(folder_of(output).glob("*.json"))) <= finished and process.poll() is None:
            time.sleep(0.02)
        time.sleep(random.uniform(0, 0.3))
        assert process.poll() is None, "it ended before it could be killed: the film is too short for so many kills"
        process.kill()
        process.wait()
        assert not output.exists()
    report = convert(source, output, device="auto")
    assert KILLS <= report.segments_reused < report.segments
    assert output.read_bytes() == reference.outputs[0].read_bytes()
