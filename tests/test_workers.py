"""Workers that share a film give the bytes that one process gives."""

from __future__ import annotations

import sys
from concurrent.futures.process import BrokenProcessPool
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pytest

import spatialme
from spatialme.errors import OptionError, OutputError
from spatialme.film import boundaries, cluster, scan, workers
from spatialme.film.reentry import KnownFrames
from spatialme.film.scan import ScannedSegment, shares
from spatialme.film.spread import choose_spread, parse_devices
from tests import films, media

SMALL = {"depth": "tiny", "depth_size": 64, "quality": "draft"}
SHOTS = (15, 4, 60, 8)
VFR = [40 * n + 7 * (n % 3) + (200 if n > 30 else 0) for n in range(sum(SHOTS))]  # in 1/1000 s


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    return films.write_film(
        path, SHOTS, pts=VFR, time_base=Fraction(1, 1000), gop=20, options={}, sounds=[media.Sound(seconds=2)]
    )


@pytest.fixture
def short_segments(monkeypatch):
    """Segments of 6 to 12 frames at 25 frames per second, and two or three to a worker's share."""
    monkeypatch.setattr(boundaries, "SHORTEST_SECONDS", Fraction(6, 25))
    monkeypatch.setattr(boundaries, "LONGEST_SECONDS", Fraction(12, 25))
    monkeypatch.setattr(scan, "SHARE_SECONDS", Fraction(13, 25))
    monkeypatch.setattr(scan, "LONGEST_SHARE_SECONDS", Fraction(20, 25))


def convert(source: Path, output: Path, **options):
    (report,) = spatialme.convert(source, output, **{**SMALL, **options})
    return report


@pytest.mark.slow
@pytest.mark.parametrize("devices", ["cpu", "cpu,cpu", "cpu,cpu,cpu,cpu"])
def test_the_number_of_processes_does_not_show(short_segments, film, tmp_path, devices):
    alone = convert(film, tmp_path / "alone.mp4", device="cpu")
    shared = convert(film, tmp_path / "shared.mp4", devices=devices)
    assert shared.outputs[0].read_bytes() == alone.outputs[0].read_bytes()
    assert (shared.frames, shared.shots, shared.segments) == (alone.frames, alone.shots, alone.segments)
    assert shared.hole_share > 0


@pytest.mark.slow
def test_a_ray_cluster_gives_the_same_bytes(short_segments, film, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'spatialme[ray]'")
    alone = convert(film, tmp_path / "alone.mp4", device="cpu")
    shared = convert(film, tmp_path / "shared.mp4", device="cpu", ray="local")
    assert shared.outputs[0].read_bytes() == alone.outputs[0].read_bytes()
    assert shared.hole_share > 0


@pytest.mark.parametrize(
    ("devices", "named"), [("0,1", ("cuda:0", "cuda:1")), ("cpu, cpu", ("cpu", "cpu")), ("cuda:3", ("cuda:3",))]
)
def test_devices_are_read(devices, named):
    assert parse_devices(devices) == named


@pytest.mark.parametrize("devices", ["", "0,", "cpu,0", "auto,auto"])
def test_what_is_no_list_of_like_devices_is_refused(devices):
    with pytest.raises(OptionError, match="is not a list of like devices; give one such as 0,1 or cpu,cpu"):
        parse_devices(devices)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("cpu", "cpu,cpu", None), "--devices cpu,cpu contradicts --device cpu"),
        (("auto", "0,1", "local"), "--devices 0,1 contradicts --ray local"),
    ],
)
def test_workers_of_two_kinds_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        choose_spread(*options)


def test_without_ray_the_command_to_install_it_is_given(film, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(OptionError, match=r"--ray needs Ray; install it with: pip install 'spatialme\[ray\]'"):
        convert(film, tmp_path / "out.mp4", device="cpu", ray="local")
    assert not (tmp_path / ".out.mp4.spatialme").exists()


def test_workers_cannot_save_depth(film, tmp_path):
    with pytest.raises(OptionError, match="--save-depth works in one process; leave out --devices and --ray"):
        convert(film, tmp_path / "out.mp4", devices="cpu,cpu", save_depth=tmp_path / "depth.mkv")


def test_a_dead_worker_is_told_in_one_line(film, tmp_path, monkeypatch):
    def died(*_: object) -> int:
        raise BrokenProcessPool

    monkeypatch.setattr(workers, "_share_out", died)
    with pytest.raises(OutputError, match="a worker process died, perhaps of too little memory; give fewer --devices"):
        convert(film, tmp_path / "out.mp4", devices="cpu,cpu")


class RayError(Exception):
    """Stands for Ray's own."""


class RayTaskError(RayError):
    """Stands for Ray's own."""


def fake_ray(init) -> SimpleNamespace:
    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)
    return SimpleNamespace(init=init, shutdown=lambda: None, exceptions=exceptions)


def test_an_address_without_a_cluster_is_told_in_one_line(film, tmp_path, monkeypatch):
    def refuse(**_: object) -> None:
        raise ConnectionError("could not connect\nwith a long story")

    monkeypatch.setitem(sys.modules, "ray", fake_ray(refuse))
    with pytest.raises(OptionError, match=r"no Ray cluster at 10\.0\.0\.1:6379 \(could not connect\); start one"):
        convert(film, tmp_path / "out.mp4", device="cpu", ray="10.0.0.1:6379")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RayTaskError("Traceback:\n  ...\nOutputError: no space left"), "a worker failed: OutputError: no space left"),
        (RayError("lost the head node\nand more"), r"the Ray cluster failed \(lost the head node\); the same command"),
    ],
)
def test_what_goes_wrong_on_the_cluster_is_told_in_one_line(film, tmp_path, monkeypatch, error, message):
    def fail(*_: object) -> int:
        raise error

    monkeypatch.setitem(sys.modules, "ray", fake_ray(lambda **_: None))
    monkeypatch.setattr(cluster, "_share_out", fail)
    with pytest.raises(OutputError, match=message):
        convert(film, tmp_path / "out.mp4", device="cpu", ray="local")


def test_shares_end_at_cuts_or_after_a_minute_and_bring_their_context():
    class Look:
        lookahead = 11

        def context_start(self, first: int, shot: int) -> int:
            return max(shot, first - 8)

    def segment(start: int, length: int, shot: int, *, cut: bool, last: bool = False) -> ScannedSegment:
        return ScannedSegment(start, shot, tuple(range(start, start + length)), start, cut, last)

    segments = [
        segment(0, 20, 0, cut=False),
        segment(20, 20, 0, cut=False),  # 40 frames, a minute at one frame a second and a bit
        segment(40, 5, 0, cut=True),
        segment(45, 25, 45, cut=True),  # 30 frames, ending at a cut
        segment(70, 9, 70, cut=True),  # done already
        segment(79, 6, 79, cut=True, last=True),
    ]
    film = SimpleNamespace(info=SimpleNamespace(frame_rate=Fraction(2, 3)))
    found = list(shares(segments, Look(), film, is_done=lambda start: start == 70))
    assert [(each.start, each.shot_start, each.stop, each.read_stop) for each in found] == [
        (0, 0, 40, 52),
        (40, 0, 70, 73),
        (79, 79, None, None),
    ]
    assert found[0].known == KnownFrames(0, tuple(range(40)))
    assert found[1].known == KnownFrames(32, tuple(range(32, 70)), sealed=39, checksum=20)
    assert found[2].known == KnownFrames(78, tuple(range(78, 85)), sealed=78, checksum=70)
