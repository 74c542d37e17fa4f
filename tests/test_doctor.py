"""`spatialme doctor`: what it says of this machine, and what it says when something is not there."""

from __future__ import annotations

import json

import pytest

from spatialme import doctor_checks, doctor_speed, weights
from spatialme.cli import main
from spatialme.doctor import doctor
from spatialme.doctor_checks import Finding
from spatialme.errors import OptionError
from spatialme.estimate import Cost
from spatialme.video import nvdec


def found(subject: str) -> Finding:
    (finding,) = [each for each in doctor(skip_speed=True).findings if each.subject == subject]
    return finding


def test_a_machine_that_runs_these_tests_can_convert(capfd):
    assert main(["doctor", "--skip-speed"]) == 0
    printed = capfd.readouterr()
    assert printed.out.endswith("convert works here\n")
    assert printed.err == ""  # encoders write their banners there
    for subject in ("python", "torch", "encoder libx264", "memory", "weights tiny", "weights folder"):
        assert any(line.startswith("ok") and f" {subject} " in line for line in printed.out.splitlines()), subject


def test_json_says_the_same(capsys):
    assert main(["doctor", "--skip-speed", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["works"] is True
    assert {"state", "subject", "text"} == set(told["findings"][0])
    assert [each["subject"] for each in told["findings"]] == [each.subject for each in doctor(skip_speed=True).findings]


def test_a_missing_encoder_that_convert_needs_is_broken_and_nothing_is_timed(monkeypatch):
    monkeypatch.setattr(doctor_checks, "_why_encoder_fails", lambda name: "gone" if name == "libx264" else None)
    monkeypatch.setattr(doctor_speed, "check_speed", lambda device: pytest.fail("timed what cannot work"))
    report = doctor()
    assert (report.works, report.exit_code) == (False, 1)
    assert report.lines()[-1].startswith("convert cannot work here")
    assert [each.subject for each in report.findings if each.state == "broken"] == ["encoder libx264"]


def test_an_encoder_that_this_ffmpeg_lacks_is_told_from_one_that_does_not_open():
    from spatialme.video.codecs import ENCODERS

    assert doctor_checks._why_encoder_fails("libx264") is None
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENCODERS, "no_such_encoder", ENCODERS["libx264"])
        assert doctor_checks._why_encoder_fails("no_such_encoder") == "not in this FFmpeg build"
        patch.setitem(ENCODERS, "prores_ks", ENCODERS["libx264"])  # whose 4:2:0 ProRes does not take
        assert "does not open" in str(doctor_checks._why_encoder_fails("prores_ks"))


@pytest.mark.parametrize("starts", [False, True])
def test_nvdec_is_there_if_it_starts(monkeypatch, starts):
    def start(decoder, device):
        if not starts:
            raise OptionError("no driver")

    monkeypatch.setattr(nvdec, "find_accelerator", start)
    finding = found("decoder nvdec")
    assert finding.state == ("ok" if starts else "missing")
    assert finding.text.endswith("on an NVIDIA GPU" if starts else ": needs such a GPU and its driver")


def test_damaged_packaged_weights_are_broken(monkeypatch, tmp_path):
    monkeypatch.setattr(weights, "PACKAGED", tmp_path)
    assert found("weights tiny").state == "broken"
    (tmp_path / weights.WEIGHTS["tiny"].file_name).write_bytes(b"damaged")
    assert found("weights tiny").state == "broken"


def test_weights_that_are_not_here_come_with_the_command_that_fetches_them(monkeypatch, tmp_path):
    monkeypatch.setenv("SPATIALME_WEIGHTS", str(tmp_path))
    small = found("weights depth-anything-v2-small")
    assert small.state == "missing"
    assert small.text.endswith("`spatialme weights fetch depth-anything-v2-small`")
    assert found("weights propainter").text.endswith("--accept-licence`")
    (tmp_path / weights.WEIGHTS["propainter"].file_name).write_bytes(b"here")
    assert found("weights propainter") == Finding("ok", "weights propainter", doctor_checks.WEIGHTS_ADD["propainter"])


def test_a_package_that_is_not_installed_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(doctor_checks, "OPTIONAL_PACKAGES", {"no_such_package": "wings"})
    monkeypatch.setattr(doctor_checks, "NEEDED_PACKAGES", ("no_such_package_either",))
    assert found("no_such_package") == Finding("missing", "no_such_package", "wings; run `pip install no_such_package`")
    assert found("no_such_package_either").state == "broken"


def test_an_old_python_is_broken(monkeypatch):
    monkeypatch.setattr(doctor_checks, "OLDEST_PYTHON", (4, 0))
    assert found("python").state == "broken"
    assert "4.0 or newer is needed" in found("python").text


def test_a_full_disk_and_little_memory_are_told(monkeypatch):
    monkeypatch.setattr(doctor_checks, "LEAST_DISK_BYTES", 1e18)
    monkeypatch.setattr(doctor_checks, "LEAST_MEMORY_BYTES", 1e18)
    assert "roomier" in found("weights folder").text
    assert "quality fast takes" in found("memory").text


def test_what_weights_add_is_told_of_weights_that_exist():
    assert set(doctor_checks.WEIGHTS_ADD) <= set(weights.WEIGHTS)


def test_the_speed_of_a_film_follows_from_the_speed_of_a_frame(monkeypatch):
    monkeypatch.setattr(doctor_speed, "measure_cost", lambda *_: Cost(0.1, 1.0, 9))
    draft, fast = doctor_speed.check_speed("cpu")
    # 2 h at 24 fps are 172,800 frames: at ten a second 4 h 48 min
    assert "about 10.0 fps at 1280x720, a film of two hours in 4 h 48 min (cpu, --depth tiny, 9 frames" in draft.text
    assert (draft.state, fast.subject) == ("ok", "speed of fast")


def test_a_conversion_that_fails_is_broken(monkeypatch):
    def refuse(*_):
        raise OptionError("no\nway")

    monkeypatch.setattr(doctor_speed, "measure_cost", refuse)
    assert doctor_speed.check_speed("cpu") == [Finding("broken", "speed of draft", "no way")]


@pytest.mark.slow
def test_the_measurement_itself_gives_a_plausible_speed():
    for finding in doctor_speed.check_speed("cpu"):
        assert 0.01 < float(finding.text.split()[1]) < 1000
