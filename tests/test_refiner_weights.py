"""The packaged refiner: there, undamaged, licensed, and used."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open

from spatialme import weights
from spatialme.errors import WeightsError
from spatialme.pipeline import Converter
from spatialme.refine import DEFAULTS, Refiner
from spatialme.refine.mhfu import SIZES
from spatialme.settings import ConverterSettings
from tests.test_refine import views, warped_clip

PACKAGED = [name for name in weights.WEIGHTS if name.startswith("refiner-")]


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_file_is_the_one_in_the_table_and_says_how_it_was_made(name):
    (line,) = weights.verify(name)
    assert "as published" in line
    path = weights.find(name)
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["spatialme_training"])["steps"] > 0
        assert {file.get_tensor(key).dtype for key in file.keys()} == {torch.float16}  # noqa: SIM118 - no mapping
    refiner = Refiner.load(name)
    assert refiner.trained
    assert refiner.network.size in SIZES.values()
    assert path.stat().st_size < weights.WEIGHTS[name].megabytes * 1.1e6


def test_packaged_weights_are_used_when_named_and_only_then():
    """They are no better than the untrained blend on cameras that they have not seen (assets/REFINER.md)."""
    assert PACKAGED == ["refiner-small"]
    assert not Refiner.load().trained
    assert not Refiner.load(size="base").trained
    assert Refiner.load("refiner-small", size="small", licence="commercial").trained
    with pytest.raises(WeightsError, match=r"holds a refiner of .*, expected 'base'"):
        Refiner.load("refiner-small", size="base")


def test_default_of_a_size_is_loaded_without_asking(monkeypatch):
    monkeypatch.setitem(DEFAULTS, "small", "refiner-small")
    assert Refiner.load().trained
    assert Refiner.load(licence="commercial").trained
    assert not Refiner.load(size="base").trained
    assert not Refiner.untrained().trained
    made = Converter(ConverterSettings(depth="tiny", quality="fast", device="cpu"))
    assert made.written == "poly, propagation, expansion refined by refiner-small, in the holes"


def test_weights_of_non_commercial_material_are_refused_where_they_must_be(monkeypatch):
    """None are packaged, so the table is told that these are."""
    forbidding = replace(weights.WEIGHTS["refiner-small"], commercial=False)
    monkeypatch.setitem(weights.WEIGHTS, "refiner-small", forbidding)
    assert Refiner.load("refiner-small", licence="any").trained
    refused = "the refiner refiner-small forbids commercial use .* use a file of your own"
    with pytest.raises(WeightsError, match=refused):
        Refiner.load("refiner-small", licence="commercial")
    with pytest.raises(WeightsError, match=refused):
        Converter(ConverterSettings(depth="tiny", device="cpu", refiner="refiner-small", licence="commercial"))


def test_named_weights_that_are_not_here_say_how_to_get_them(monkeypatch):
    monkeypatch.setattr("spatialme.refine.find", lambda name: None)
    with pytest.raises(WeightsError, match="the refiner refiner-small is not here; run `spatialme weights fetch"):
        Refiner.load("refiner-small")


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_refiner_keeps_a_colour_that_all_branches_show(name):
    _, hole = views(frames=1, height=64, width=96)
    warped = warped_clip(hole)
    refiner = Refiner.load(name)
    for level in (0.1, 0.5, 0.9):
        flat = torch.full((1, 3, 64, 96), level)
        refined = refiner(warped, poly=flat, expansion=flat, dl=flat, mode="everywhere")
        assert (refined - level).abs().max() < 0.05  # flat colours are rare in training
