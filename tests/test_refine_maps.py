"""The picture of what the refiner does with a frame."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from spatialme import cli
from spatialme.errors import InputError, OptionError, OutputError
from spatialme.pipeline import Converter
from spatialme.refine.panels import COLUMNS, draw_panels
from spatialme.refine_maps import look, refine_maps
from spatialme.settings import ConverterSettings

HEIGHT, WIDTH = 48, 64


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "frame.png"
    levels = np.random.default_rng(0).integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
    cv2.imwrite(str(path), cv2.resize(levels, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC))
    return path


def tile(picture, row, column):
    return picture[row * HEIGHT : (row + 1) * HEIGHT, column * WIDTH : (column + 1) * WIDTH]


def test_command_draws_branches_above_what_the_refiner_makes_of_them(image, tmp_path, capsys):
    picture = tmp_path / "maps.png"
    assert cli.main(["refine-maps", str(image), str(picture), "--depth", "tiny", "--device", "cpu"]) == 0
    assert "left, poly, expansion, dl, holes; below them refined, M1, M2, M3 and C" in capsys.readouterr().out
    drawn = cv2.imread(str(picture))
    assert drawn.shape == (2 * HEIGHT, 5 * WIDTH, 3)
    assert np.array_equal(tile(drawn, 0, 0), cv2.imread(str(image)))
    settings = ConverterSettings(depth="tiny", quality="fast", inpaint="propagation", device="cpu")
    seen = look(Converter(settings), image, None)
    for column, view in enumerate(seen.branches, start=1):
        expected = (view[0].permute(1, 2, 0).numpy()[..., ::-1] * 255).round()
        assert np.abs(tile(drawn, 0, column) - expected).max() <= 1  # half levels may round either way
    shares = tile(drawn, 1, 1)
    assert np.ptp(shares, axis=2).max() == 0  # a mask is grey
    assert np.abs(shares[..., 0] - seen.answer.m1[0, 0].numpy() * 255).max() <= 1


def test_panels_fill_rows_from_the_left_and_leave_the_rest_black():
    views = [torch.full((2, 3 if index % 2 else 1, 4, 6), index / 10) for index in range(1, COLUMNS + 3)]
    drawn = draw_panels(views)
    assert drawn.shape == (3, 2 * 2 * 4, COLUMNS * 6)
    for sample in range(2):
        for index, view in enumerate(views):
            row, column = divmod(index, COLUMNS)
            place = drawn[:, 4 * (2 * sample + row) :, 6 * column :][:, :4, :6]
            assert torch.equal(place, view[sample].expand(3, 4, 6))
        assert (drawn[:, 4 * (2 * sample + 1) :, 12:][:, :4] == 0).all()


def test_wrong_files_and_times_are_one_line(image, tmp_path):
    with pytest.raises(OptionError, match=r"maps\.jpg is the picture of the maps; give a name that ends with \.png"):
        refine_maps(image, tmp_path / "maps.jpg")
    with pytest.raises(OptionError, match="--start 'soon' is not a time"):
        refine_maps(image, tmp_path / "maps.png", start="soon", depth="tiny", device="cpu")
    with pytest.raises(InputError):
        refine_maps(tmp_path / "missing.mp4", tmp_path / "maps.png", depth="tiny", device="cpu")
    with pytest.raises(OutputError, match="cannot be written"):
        refine_maps(image, tmp_path / "nowhere" / "maps.png", depth="tiny", device="cpu")
