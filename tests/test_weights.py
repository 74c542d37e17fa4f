"""Weights: the table, look-up, download and verification, against a server on this machine."""

from __future__ import annotations

import hashlib
import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from spatialme import weights
from spatialme.errors import OptionError, WeightsError

CONTENT = bytes(range(256)) * 8192  # 2 MiB: more than one block
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/missing":
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT[: len(CONTENT) // 2] if self.path == "/cut" else CONTENT)

        def log_message(self, *_: object) -> None:
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{running.server_address[1]}"
    running.shutdown()
    running.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("SPATIALME_WEIGHTS", str(folder))
    return folder


def put_entry(monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    entry = replace(weights.WEIGHTS["depth-anything-v2-small"], name="probe", file_name="probe.pth", **changes)
    monkeypatch.setitem(weights.WEIGHTS, "probe", entry)


def test_a_download_is_checked_and_put_in_place_whole(server: str, cache: Path, monkeypatch: pytest.MonkeyPatch):
    put_entry(monkeypatch, url=f"{server}/file", sha256=DIGEST)
    assert weights.find("probe") is None
    path = weights.fetch("probe")
    assert path == cache / "probe.pth" == weights.find("probe")
    assert path.read_bytes() == CONTENT
    assert not list(cache.glob("*.partial"))
    assert "as published" in weights.verify("probe")[0]


def test_weights_that_need_others_bring_them_along(server: str, cache: Path, monkeypatch: pytest.MonkeyPatch):
    put_entry(monkeypatch, url=f"{server}/file", sha256=DIGEST)
    friend = replace(weights.WEIGHTS["probe"], name="friend", file_name="friend.pth")
    monkeypatch.setitem(weights.WEIGHTS, "friend", friend)
    monkeypatch.setitem(weights.COMPANIONS, "probe", ("friend",))
    assert weights.fetch("probe") == cache / "probe.pth"
    assert weights.find("friend") == cache / "friend.pth"


def test_what_is_here_is_not_downloaded_again(cache: Path, monkeypatch: pytest.MonkeyPatch):
    put_entry(monkeypatch, url="http://127.0.0.1:9/nobody", sha256=DIGEST)
    cache.mkdir()
    (cache / "probe.pth").write_bytes(CONTENT)
    assert weights.fetch("probe") == cache / "probe.pth"


def test_eight_digits_are_checked_where_no_more_is_published(server: str, monkeypatch: pytest.MonkeyPatch):
    put_entry(monkeypatch, url=f"{server}/file", sha256=DIGEST[:8])
    weights.fetch("probe")
    assert weights.verify("probe")


def test_an_unverified_download_records_its_hash_and_is_held_to_it(server: str, monkeypatch: pytest.MonkeyPatch):
    put_entry(monkeypatch, url=f"{server}/file", sha256=None)
    path = weights.fetch("probe")
    record = json.loads(path.with_name("probe.pth.json").read_text())
    assert record == {"url": f"{server}/file", "sha256": DIGEST, "bytes": len(CONTENT)}
    assert "as recorded" in weights.verify("probe")[0]
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(WeightsError, match=r"has sha256 .* expected .* delete it"):
        weights.verify("probe")


def test_an_unverified_file_without_a_record_is_called_so(cache: Path, monkeypatch: pytest.MonkeyPatch):
    put_entry(monkeypatch, sha256=None)
    cache.mkdir()
    (cache / "probe.pth").write_bytes(CONTENT)
    assert f"unverified, sha256 {DIGEST}" in weights.verify("probe")[0]


def test_a_wrong_file_is_refused_and_nothing_kept(server: str, cache: Path, monkeypatch: pytest.MonkeyPatch):
    put_entry(monkeypatch, url=f"{server}/file", sha256="0" * 64)
    with pytest.raises(WeightsError, match=r"sent sha256 .* nothing was kept"):
        weights.fetch("probe")
    assert not list(cache.iterdir())


@pytest.mark.parametrize("page", ["cut", "missing"])
def test_a_broken_download_is_one_clear_line(server: str, cache: Path, monkeypatch: pytest.MonkeyPatch, page: str):
    put_entry(monkeypatch, url=f"{server}/{page}", sha256=DIGEST)
    with pytest.raises(WeightsError, match="could not be downloaded") as caught:
        weights.fetch("probe")
    assert "\n" not in str(caught.value)
    assert not list(cache.iterdir())


def test_without_a_network_it_says_where_to_put_the_file(cache: Path, monkeypatch: pytest.MonkeyPatch):
    put_entry(monkeypatch, url="http://127.0.0.1:9/nobody", sha256=DIGEST)  # port 9: nobody listens
    with pytest.raises(WeightsError, match=r"put probe\.pth from http://127\.0\.0\.1:9/nobody into .*cache"):
        weights.fetch("probe", timeout_seconds=1)


def test_a_non_commercial_licence_needs_agreement(server: str, monkeypatch: pytest.MonkeyPatch):
    put_entry(monkeypatch, url=f"{server}/file", sha256=DIGEST, commercial=False, licence="CC-BY-NC-4.0")
    with pytest.raises(WeightsError, match=r"CC-BY-NC-4\.0.*`spatialme weights fetch probe --accept-licence`"):
        weights.fetch("probe")
    assert weights.fetch("probe", accept_licence=True).is_file()


def test_commercial_use_is_told_by_the_table():
    assert weights.allowed("depth-anything-v2-small", "commercial")
    assert not weights.allowed("depth-anything-v2-large", "commercial")
    assert not weights.allowed("propainter", "commercial")
    assert not weights.allowed("tiny", "commercial")  # KITTI was among its training data
    assert weights.allowed("tiny", "any")


@pytest.mark.parametrize("name", weights.WEIGHTS)
def test_every_entry_is_complete(name: str):
    entry = weights.WEIGHTS[name]
    assert entry.name == name
    assert entry.url is None or entry.url.startswith("https://")
    assert entry.url is None or entry.url.endswith(entry.file_name)
    assert entry.sha256 is None or len(entry.sha256) in (8, 64)
    for fact in (entry.licence, entry.source, entry.preprocessing, entry.hash_source):
        assert fact
    assert ("NC" in entry.licence or "non-commercial" in entry.licence) == (not entry.commercial)
    (line, place) = weights.WeightsStatus(entry, None).lines()
    assert entry.licence in line
    assert name in place


def test_the_packaged_network_is_intact():
    assert "as published" in weights.verify("tiny")[0]
    assert weights.find("tiny") == weights.fetch("tiny")


def test_verify_all_covers_what_is_here(server: str, monkeypatch: pytest.MonkeyPatch):
    put_entry(monkeypatch, url=f"{server}/file", sha256=DIGEST)
    weights.fetch("probe")
    packaged = [name for name, entry in weights.WEIGHTS.items() if entry.url is None]
    assert [line.partition(":")[0] for line in weights.verify()] == [*packaged, "probe"]
    with pytest.raises(WeightsError, match="propainter is not here"):
        weights.verify("propainter")


def test_list_shows_every_entry():
    assert [status.entry.name for status in weights.list_weights()] == list(weights.WEIGHTS)


def test_an_unknown_name_lists_the_known_ones():
    for call in (weights.find, weights.fetch, weights.verify):
        with pytest.raises(OptionError, match=r"'nope' are not known.*depth-anything-v2-small"):
            call("nope")


def test_the_cache_is_the_platforms_unless_told(cache: Path, monkeypatch: pytest.MonkeyPatch):
    assert weights.cache_dir() == cache
    monkeypatch.delenv("SPATIALME_WEIGHTS")
    assert "spatialme" in weights.cache_dir().parts


def test_importing_the_table_does_not_load_torch():
    code = "import sys, spatialme.weights; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
