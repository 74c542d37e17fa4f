"""A folder of films: what is found, named, skipped, and how the closing table tells it."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

import spatialme
from spatialme.errors import InputError, OptionError
from spatialme.folders import FileOutcome, FolderReport, convert_folder
from spatialme.report import ConversionReport
from spatialme.video.plan import OutputOptions, name_output
from spatialme.video.reader import expand_input


class FakeJob:
    """Writes the name of what it was given; fails for names that begin with `bad` or `odd`."""

    def __init__(self, **options):
        self.options = OutputOptions(**options)
        self.converter = SimpleNamespace(depth=SimpleNamespace(name="known"), written="branch poly")
        self.converted: list[str] = []

    def convert(self, file: Path, output: str, save_depth: None) -> ConversionReport:
        if file.name.startswith("bad"):
            raise InputError(f"{file} is\nbroken")
        if file.name.startswith("odd"):
            raise RuntimeError("out of memory")
        _, places = name_output(output, SimpleNamespace(path=file, kind="video"), self.options)
        for place in places:
            place.write_text(file.name)
        self.converted.append(file.name)
        return ConversionReport([*places], 24, 1, 2.0, {}, 0.0, 1.0, 2.0, None, "known", "branch poly")


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"film")
    return folder


def files_of(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_folders_inside_are_mirrored(tmp_path):
    films = make(tmp_path / "films", "a.mp4", "one/b.mkv", "one/two/c.mp4")
    report = convert_folder(FakeJob(), films, tmp_path / "out", recursive=True)
    assert files_of(tmp_path / "out") == ["a_Full_SBS.mp4", "one/b_Full_SBS.mp4", "one/two/c_Full_SBS.mp4"]
    assert (report.exit_code, len(report)) == (0, 3)


def test_without_recursive_only_the_folder_itself_counts(tmp_path):
    films = make(tmp_path / "films", "a.mp4", "one/b.mkv")
    convert_folder(FakeJob(), films, tmp_path / "out", recursive=False)
    assert files_of(tmp_path / "out") == ["a_Full_SBS.mp4"]


@pytest.mark.parametrize("bad", ["bad.mp4", "odd.mp4"])
def test_one_file_that_fails_does_not_stop_the_others(bad, tmp_path, caplog):
    films = make(tmp_path / "films", "a.mp4", bad, "z.mp4")
    report = convert_folder(FakeJob(), films, tmp_path / "out", recursive=False)
    assert files_of(tmp_path / "out") == ["a_Full_SBS.mp4", "z_Full_SBS.mp4"]
    assert [outcome.state for outcome in report.outcomes] == ["done", "failed", "done"]
    assert (report.exit_code, report.failed) == (2, [bad])
    assert report.lines()[-1] == f"1 of 3 not converted: {bad}"
    assert all("\n" not in line for line in report.lines())


def test_what_is_done_is_skipped_until_the_source_changes(tmp_path):
    films = make(tmp_path / "films", "a.mp4", "b.mp4")
    convert_folder(FakeJob(), films, tmp_path / "out", recursive=False)
    os.utime(films / "b.mp4", (2e9, 2e9))  # changed after its output was made
    again = FakeJob()
    report = convert_folder(again, films, tmp_path / "out", recursive=False)
    assert again.converted == ["b.mp4"]
    assert [outcome.state for outcome in report.outcomes] == ["skipped", "done"]
    assert "is there and newer" in report.lines()[1]
    assert report.exit_code == 0


def test_where_a_journal_lies_the_job_itself_says_what_is_done(tmp_path):
    films = make(tmp_path / "films", "a.mp4", "b.mp4")
    make(tmp_path / "out", "a_Full_SBS.mp4", ".a_Full_SBS.mp4.spatialme/journal", "b_Full_SBS.mp4")

    class Knowing(FakeJob):
        def convert(self, file: Path, output: str, save_depth: None) -> ConversionReport:
            return dataclasses.replace(super().convert(file, output, save_depth), already_done=True)

    job = Knowing()
    report = convert_folder(job, films, tmp_path / "out", recursive=False)
    assert job.converted == ["a.mp4"]  # asked about that one
    assert [outcome.state for outcome in report.outcomes] == ["skipped", "skipped"]
    assert report.outcomes[0].reason.endswith("is done by the same command")
    assert len(report) == 0


def test_overwrite_skips_nothing(tmp_path):
    films = make(tmp_path / "films", "a.mp4")
    for _ in range(2):
        job = FakeJob(overwrite=True)
        convert_folder(job, films, tmp_path / "out", recursive=False)
        assert job.converted == ["a.mp4"]


def test_an_output_of_one_eye_only_is_not_done(tmp_path):
    films = make(tmp_path / "films", "a.mp4")
    make(tmp_path / "out", "a_left.mp4")
    job = FakeJob(format="two_files")
    convert_folder(job, films, tmp_path / "out", recursive=False)
    assert job.converted == ["a.mp4"]


def test_hidden_files_other_files_and_finished_stereo_are_left_out(tmp_path):
    films = make(
        tmp_path / "films", "a.mp4", ".b.mp4", ".c/d.mp4", "notes.txt", "poster.jpg", "e_Full_SBS.mkv", "f.3D.HSBS.mp4"
    )
    job = FakeJob()
    convert_folder(job, films, tmp_path / "out", recursive=True)
    assert job.converted == ["a.mp4"]


@pytest.mark.parametrize("output", ["films", "films/3d"])
def test_outputs_inside_the_folder_are_not_converted_again(output, tmp_path):
    films = make(tmp_path / "films", "a.mp4", "b/c.mp4")
    for expected in (["a.mp4", "c.mp4"], []):
        job = FakeJob(format="two_files")  # whose names tell nothing: a_left.mp4
        convert_folder(job, films, tmp_path / output, recursive=True)
        assert job.converted == expected


def test_what_lies_in_the_output_folder_is_left_out_whatever_its_name(tmp_path):
    films = make(tmp_path / "films", "a.mp4", "3d/made_with_other_options.mp4")
    job = FakeJob()
    convert_folder(job, films, films / "3d", recursive=True)
    assert job.converted == ["a.mp4"]


def test_the_folder_above_may_be_the_output(tmp_path):
    films = make(tmp_path / "films", "a.mp4", "b/c.mp4")
    convert_folder(FakeJob(), films, tmp_path, recursive=True)
    assert (tmp_path / "a_Full_SBS.mp4").exists()
    assert (tmp_path / "b" / "c_Full_SBS.mp4").exists()


def test_two_files_that_would_become_one_are_refused_before_any_work(tmp_path):
    films = make(tmp_path / "films", "a.mkv", "a.mp4", "0.mp4")
    job = FakeJob()
    with pytest.raises(OptionError, match=r"a.mkv and .*a.mp4 would both become .*a_Full_SBS.mp4"):
        convert_folder(job, films, tmp_path / "out", recursive=False)
    assert job.converted == []
    assert not (tmp_path / "out").exists()


def test_a_folder_of_outputs_only_is_refused(tmp_path):
    films = make(tmp_path / "films", "a_Full_SBS.mp4")
    with pytest.raises(OptionError, match="nothing but stereo files"):
        convert_folder(FakeJob(), films, tmp_path / "out", recursive=False)


def test_a_file_as_output_of_a_folder_is_refused(tmp_path):
    films = make(tmp_path / "films", "a.mp4")
    with pytest.raises(OptionError, match="is a file but the input is a folder"):
        convert_folder(FakeJob(), films, make(tmp_path, "out.mp4") / "out.mp4", recursive=False)


def test_options_that_are_wrong_for_every_file_end_the_call(tmp_path):
    films = make(tmp_path / "films", "a.mp4", "b.mp4")
    with pytest.raises(OptionError, match="--device"):
        spatialme.convert(films, tmp_path / "out", device="abacus")
    assert not (tmp_path / "out").exists()


def test_one_depth_video_for_a_folder_is_refused(tmp_path):
    films = make(tmp_path / "films", "a.mp4")
    with pytest.raises(OptionError, match="names one file"):
        spatialme.convert(films, tmp_path / "out", save_depth=tmp_path / "depth.mkv")


def test_a_tree_with_one_video_means_its_videos_in_natural_order(tmp_path):
    make(tmp_path, "9.mp4", "disc 10/b.mp4", "disc 2/b.mp4", "disc 2/cover.jpg", "only pictures/c.png")
    found = [str(path.relative_to(tmp_path)) for path in expand_input(tmp_path, recursive=True)]
    assert found == ["9.mp4", "disc 2/b.mp4", "disc 10/b.mp4"]


def test_a_link_to_a_folder_above_does_not_lead_round_in_circles(tmp_path):
    make(tmp_path, "one/a.mp4")
    (tmp_path / "one" / "up").symlink_to(tmp_path)
    assert [path.name for path in expand_input(tmp_path, recursive=True)] == ["a.mp4"]


def test_media_further_down_are_hinted_at(tmp_path):
    make(tmp_path, "one/a.mp4")
    with pytest.raises(InputError, match=r"holds no video and no image.*--recursive looks deeper"):
        expand_input(tmp_path)


def test_the_table_has_one_line_per_file_with_columns_that_line_up():
    report = ConversionReport([Path("a.mp4")], 1234, 1, 2.0, {}, 0.0, 1.0, 2.0, None, "known", "branch poly")
    outcomes = [FileOutcome("x" * 60, "done", 61.25, report), FileOutcome("b", "failed", 0.0, reason="no")]
    heading, first, second, *_ = FolderReport(outcomes).lines()
    assert first.endswith("    1234       61.2  done")
    assert first.index("done") == second.index("failed: no") == heading.index("state")
    assert list(FolderReport(outcomes)) == [report]
