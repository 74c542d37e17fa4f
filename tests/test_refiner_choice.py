"""Which refiner a conversion and a comparison use, and what is said about it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from spatialme.cli import main
from spatialme.errors import OptionError
from spatialme.evaluation.baselines import METHODS, method_spec
from spatialme.evaluation.run_method import MethodRunner
from spatialme.evaluation.session import _method_names, _refiner
from spatialme.film.fingerprint import weights_digest
from spatialme.flow import open_flow
from spatialme.pipeline import Converter
from spatialme.refine import DEFAULTS, Refiner
from spatialme.refine.mhfu import MHFU, SIZES, MHFUSize
from spatialme.settings import ConverterSettings
from tests import films
from tests.scenes import square_scene

CPU = torch.device("cpu")
FAST = ConverterSettings(depth="tiny", depth_size=64, quality="fast", device="cpu")
TINY = MHFUSize(channels=(4, 4))


def save_refiner(path: Path, seed: int) -> Path:
    """A small refiner whose content shows."""
    torch.manual_seed(seed)
    network = MHFU(TINY)
    torch.nn.init.normal_(network.tail[-1].weight, std=0.5)
    Refiner(network, trained=True).save(path)
    return path


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    return films.write_film(tmp_path_factory.mktemp("film") / "film.mp4", (6,), gop=6, options={})


def convert(film: Path, output: Path, *options: str) -> int:
    return main(
        [
            "convert",
            str(film),
            str(output),
            "--depth",
            "tiny",
            "--depth-size",
            "64",
            "--device",
            "cpu",
            "--refine",
            "everywhere",
            *options,
        ]
    )


def test_a_conversion_uses_the_refiner_that_is_named_and_says_so(tmp_path):
    file = save_refiner(tmp_path / "mine.safetensors", seed=1)
    for choice, said in (("refiner-small", "refined by refiner-small"), (str(file), "refined by mine.safetensors")):
        converter = Converter(replace(FAST, refiner=choice))
        assert converter.refiner.digest == Refiner.load(choice).digest
        assert converter.written == f"poly, propagation, expansion {said}, in the holes"
    assert "fused by the untrained refiner's initial blend" in Converter(replace(FAST, refiner="blend")).written


def test_the_blend_can_be_asked_for_where_trained_weights_are_the_default(monkeypatch):
    monkeypatch.setitem(DEFAULTS, "small", "refiner-small")
    assert Refiner.load().trained
    assert not Refiner.load("blend").trained
    assert Refiner.load("blend", size="base").network.size == SIZES["base"]


def test_another_refiner_makes_the_film_anew_and_the_same_one_does_not(film, tmp_path, capsys):
    output, file = tmp_path / "out.mp4", save_refiner(tmp_path / "mine.safetensors", seed=1)
    assert convert(film, output, "--quality", "fast", "--refiner", str(file)) == 0
    assert "refined by mine.safetensors" in capsys.readouterr().out
    first = output.read_bytes()
    moved = tmp_path / "elsewhere" / file.name
    moved.parent.mkdir()
    file.rename(moved)
    assert convert(film, output, "--quality", "fast", "--refiner", str(moved)) == 0
    assert "done already by the same command" in capsys.readouterr().out
    save_refiner(moved, seed=2)
    assert convert(film, output, "--quality", "fast", "--refiner", str(moved)) == 2  # another film
    assert convert(film, output, "--quality", "fast", "--refiner", str(moved), "--overwrite") == 0
    assert output.read_bytes() != first


def test_what_cannot_be_a_refiner_is_one_line(film, tmp_path, capsys):
    no_weights = tmp_path / "notes.txt"
    no_weights.write_text("no weights")
    for choice, said in (
        ("nothing", "nothing does not exist, expected a file of refiner weights, a name of `spatialme weights list`"),
        (str(no_weights), "notes.txt cannot be read as safetensors"),
        (str(tmp_path), "cannot be read as safetensors"),
        ("tiny", "expected refiner weights"),
    ):
        assert convert(film, tmp_path / "out.mp4", "--quality", "fast", "--refiner", choice) != 0
        error = capsys.readouterr().err.strip()
        assert said in error
        assert len(error.splitlines()) == 1


def test_a_refiner_that_nothing_would_run_is_refused():
    for clash in ({"quality": "draft"}, {"branch": "poly"}):
        with pytest.raises(OptionError, match=r"--refiner refiner-small has no use with --(quality draft|branch poly)"):
            Converter(replace(FAST, refiner="refiner-small", **clash))


def test_the_journals_key_tells_refiners_apart(tmp_path):
    names = ["refiner-small", *(str(save_refiner(tmp_path / f"{seed}.safetensors", seed)) for seed in (1, 2))]
    assert len({weights_digest(Converter(replace(FAST, refiner=name))) for name in names}) == 3


def test_a_comparison_has_a_row_for_each_refiner_that_is_named(tmp_path):
    file = save_refiner(tmp_path / "mine.safetensors", seed=1)
    names = ["refined=blend", f"refined={file}", f"everywhere={file}", "refined", "everywhere"]
    assert _method_names(",".join(names), (), []) == names
    scene = square_scene(frames=1)
    flow = open_flow("dis", CPU)
    views = {name: MethodRunner(name, CPU, flow)(scene.left, scene.disparity).view for name in names}
    assert torch.equal(views["refined=blend"], views["refined"])
    assert not torch.equal(views[f"refined={file}"], views["refined"])
    apart = (views[f"everywhere={file}"] != views[f"refined={file}"]).any(1)
    assert apart.float().mean() > 0.9  # the whole picture, where the other has the warp
    said = _refiner(["poly", *names])["refiner"]
    assert "refined=blend: untrained" in said
    assert f"trained, mine.safetensors {Refiner.load(file).digest[:12]}" in said
    assert _refiner(["poly"]) == {}
    assert _refiner(["refined=nothing"]) == {"refiner": "refined=nothing: not loaded"}


def test_a_method_that_is_not_known_names_those_that_are():
    assert method_spec("poly") is METHODS["poly"]
    for name in ("poly=refiner-small", "refined=", "telly"):
        with pytest.raises(OptionError, match=f"method '{name}' is not known; use .*poly.* or refined=WEIGHTS"):
            method_spec(name)
