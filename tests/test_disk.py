"""Files that appear whole or not at all, folders, hashes."""

from __future__ import annotations

import hashlib

import pytest

from spatialme.disk import BLOCK_BYTES, appearing, make_folder, sha256, write_text
from spatialme.errors import OutputError


def test_what_was_there_stays_until_the_new_file_is_whole(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with appearing(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "ne\udc80")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_text_is_written_in_utf_8(tmp_path):
    write_text(tmp_path / "a", "höhe\n")
    assert (tmp_path / "a").read_bytes() == "höhe\n".encode()


def test_a_folder_below_a_file_is_refused_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    make_folder(tmp_path / "a/b")
    make_folder(tmp_path / "a/b")
    with pytest.raises(OutputError, match=r"file/b cannot be made a folder: Not a directory; choose another"):
        make_folder(tmp_path / "file/b")


def test_the_hash_of_several_files_is_that_of_their_contents_in_a_row(tmp_path):
    first, second = bytes(range(256)) * (BLOCK_BYTES // 256 + 1), b"more"
    (tmp_path / "a").write_bytes(first)
    (tmp_path / "b").write_bytes(second)
    assert sha256(tmp_path / "a", tmp_path / "b") == hashlib.sha256(first + second).hexdigest()
