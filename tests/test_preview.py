"""`spatialme preview`: which spots it takes, how it judges them, what it draws, and how it estimates."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from spatialme import estimate, preview_spots
from spatialme.cli import main
from spatialme.errors import InputError, OptionError, OutputError
from spatialme.estimate import Cost, duration_text, measure_cost, size_text
from spatialme.pipeline import Converter
from spatialme.preview import Estimate, preview
from spatialme.preview_sheet import HOLE_COLOUR, TILE_WIDTH, draw_sheet, write_png
from spatialme.preview_spots import SPOT_FRAMES, SPOTS, JudgedSpot, Spot, hardest, judge, read_spots
from spatialme.settings import ConverterSettings
from spatialme.types import DepthClip
from spatialme.video.reader import open_source
from spatialme.video.writer import OutputOptions
from tests import media

HEIGHT, WIDTH = 48, 64
SQUARE = np.s_[16:32, 24:40]


class KnownDepth:
    """Gives each spot, by its shot's number, the nearness that a test wants."""

    name = "known"
    lookback = lookahead = 0

    def __init__(self, nearness: list[torch.Tensor]):
        self.nearness = nearness
        self.notices: list[str] = []

    def stream(self, clips):
        for clip in clips:
            yield DepthClip(clip, self.nearness[clip.shot])


def square(rows_down: int = 0) -> torch.Tensor:
    """(1, H, W) nearness: a near square before a far plane."""
    nearness = torch.zeros(1, HEIGHT, WIDTH)
    nearness[:, SQUARE[0], SQUARE[1]] = 1
    return nearness.roll(rows_down, 1)


def spot(seconds: float, holes: float = 0.0, change: float = 0.0) -> JudgedSpot:
    picture = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    return JudgedSpot(
        seconds, holes, change, picture, picture[..., 0], picture, np.zeros((HEIGHT, WIDTH), bool), picture
    )


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    """800 numbered frames with a key picture at every 40th: too long to be read as a whole."""
    return media.write_video(tmp_path_factory.mktemp("film") / "film.mp4", frames=800, gop=40)


def test_spots_are_spread_over_a_long_film_and_begin_at_key_pictures(film):
    spots = read_spots(film)
    numbers = [[media.read_number(frame) for frame in each.frames] for each in spots]
    assert all(first % 40 == 0 for first, *_ in numbers)
    assert all(each == list(range(each[0], each[0] + SPOT_FRAMES)) for each in numbers)
    assert [each.seconds for each in spots] == [each[0] / 25 for each in numbers]
    assert len(spots) == SPOTS
    assert numbers[0][0] < 40
    assert numbers[-1][0] >= 760


def test_a_short_film_is_read_as_a_whole(tmp_path):
    spots = read_spots(media.write_video(tmp_path / "short.mp4", frames=160))
    assert [media.read_number(each.frames[0]) for each in spots] == list(range(0, 160, 10))


def test_an_image_is_one_spot(tmp_path):
    (tmp_path / "photo.png").write_bytes(media.image_bytes(media.numbered_frame(5, pixel_format="rgb24"), "png"))
    (only,) = read_spots(tmp_path / "photo.png")
    assert (only.seconds, len(only.frames)) == (0, 1)


def test_frames_are_judged_in_small_and_in_eight_bits(tmp_path):
    source = media.write_video(
        tmp_path / "deep.mkv", frames=2, width=1280, height=720, codec="ffv1", pixel_format="yuv420p10le"
    )
    (only,) = read_spots(source)
    assert only.frames[0].shape == (288, 512, 3)
    assert only.frames[0].dtype == np.uint8


def test_a_damaged_spot_is_passed_over(film, monkeypatch):
    def refuse_the_second_half(path, *, start_seconds=None, **options):
        if start_seconds is not None and start_seconds >= 16:
            raise InputError("damaged")
        return open_source(path, start_seconds=start_seconds, **options)

    monkeypatch.setattr(preview_spots, "open_source", refuse_the_second_half)
    assert len(read_spots(film)) == SPOTS // 2


def test_a_film_that_cannot_be_sought_in_is_read_from_its_start(film, monkeypatch):
    def refuse_to_seek(path, *, start_seconds=None, **options):
        if start_seconds is not None:
            raise InputError("no seek leads there")
        return open_source(path, **options)

    monkeypatch.setattr(preview_spots, "open_source", refuse_to_seek)
    spots = read_spots(film)
    assert media.read_number(spots[0].frames[0]) == 0
    assert media.read_number(spots[-1].frames[0]) < preview_spots.LONGEST_PASS


def test_holes_and_changes_are_those_of_a_known_scene():
    frames = [np.full((HEIGHT, WIDTH, 3), 100, np.uint8)] * 2
    flat = torch.zeros(2, 1, HEIGHT, WIDTH)
    still = torch.stack([square(), square()])
    moving = torch.stack([square(), square(rows_down=16)])
    settings = ConverterSettings(quality="draft", max_disparity=12.5, device="cpu")  # of 64 px: 8 px
    converter = Converter(settings, depth=KnownDepth([flat, still, moving]))
    judged = judge([Spot(float(number), frames) for number in range(3)], converter)
    area = HEIGHT * WIDTH
    # the square, 16 rows high, uncovers 8 px more than the plane on its right; the plane's own hole is at the edge
    edge = judged[0].hole_share
    assert edge == pytest.approx(4 * HEIGHT / area)  # the plane moves 4 px
    assert judged[1].hole_share - edge == pytest.approx(16 * 8 / area)
    assert [each.change_percent for each in judged[:2]] == [0, 0]
    # two places of 16 x 16 px change by 12.5 % of the width
    assert judged[2].change_percent == pytest.approx(12.5 * 2 * 256 / area)
    assert judged[1].nearness[20, 30] == 255
    assert judged[1].nearness[0, 0] == 0
    assert judged[1].hole.mean() == pytest.approx(judged[1].hole_share)
    assert (judged[1].filled == 100).all()  # a picture of one colour, filled


def test_the_hardest_have_the_largest_holes_or_the_strongest_changes_and_stand_in_order():
    spots = [spot(0, 0.1, 0.1), spot(1, 0.9, 0), spot(2, 0, 0.9), spot(3, 0.8, 0), spot(4, 0, 0.8), spot(5, 0, 0)]
    assert [each.seconds for each in hardest(spots, 2)] == [1, 2]
    assert [each.seconds for each in hardest(spots, 4)] == [1, 2, 3, 4]
    assert [each.seconds for each in hardest(spots[:1], 6)] == [0]


def test_the_sheet_has_a_row_per_spot_with_the_holes_in_magenta():
    holey = spot(1)
    holey.hole[SQUARE] = True
    empty = draw_sheet([], [], ["heading"])
    one, two = (draw_sheet([holey] * count, ["label"] * count, ["heading"]) for count in (1, 2))
    assert len(two) - len(one) == len(one) - len(empty) > TILE_WIDTH * HEIGHT / WIDTH
    magenta = (one == HOLE_COLOUR).all(axis=-1)
    assert magenta.any()
    assert np.nonzero(magenta)[1].min() > 2 * TILE_WIDTH  # in the third column
    assert np.nonzero(magenta)[1].max() < 3 * (TILE_WIDTH + 6)


def test_a_sheet_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(OutputError, match=r"no\.png cannot be written"):
        write_png(tmp_path / "nowhere" / "no.png", np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(OutputError, match=r"taken\.png cannot be written"):
        write_png(tmp_path / "taken.png", np.zeros((4, 4, 3), np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == ["taken.png"]


def test_preview_makes_a_sheet_and_estimates(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(estimate, "FEWEST_FRAMES", 2)
    monkeypatch.setattr(estimate, "MEASURED_SECONDS", 0.0)
    clip = media.write_video(tmp_path / "clip.mp4", frames=8)
    words = ["preview", str(clip), str(tmp_path / "sheet.png"), "--depth", "tiny", "--device", "cpu"]
    assert main(words) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "clip.mp4: 64x48, 0:00:00.3, 8 frames"
    assert any(line.startswith("  draft  about ") and "over 2 frames" in line for line in printed)
    assert any(line.startswith("  fast   about ") for line in printed)
    assert any(line.startswith("  full   not measured: ProPainter") for line in printed)
    assert cv2.imread(str(tmp_path / "sheet.png")).shape[1] > 4 * TILE_WIDTH
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "sheet.png"]
    assert main(words) == 2
    assert "add --overwrite" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "output", "options", "message"),
    [
        ("", "sheet.png", {}, "is a folder, expected one video"),
        ("clip.mp4", "sheet.jpg", {}, "ends with .png"),
        ("clip.mp4", "nowhere/sheet.png", {}, "is not an existing folder"),
        ("photo.png", "photo.png", {"overwrite": True}, "would overwrite the input"),
        ("nothing.mp4", "sheet.png", {}, "does not exist"),
        ("clip.mp4", "sheet.png", {"depth": "crystal-ball"}, "crystal-ball"),
    ],
)
def test_what_cannot_be_previewed_is_refused(name, output, options, message, tmp_path):
    media.write_video(tmp_path / "clip.mp4", frames=2)
    (tmp_path / "photo.png").write_bytes(media.image_bytes(media.numbered_frame(5, pixel_format="rgb24"), "png"))
    with pytest.raises((InputError, OptionError, OutputError), match=message):
        preview(tmp_path / name, tmp_path / output, device="cpu", **options)
    assert not (tmp_path / "sheet.png").exists()


def test_a_depth_video_is_refused_as_spots_are_judged_one_by_one(tmp_path):
    clip = media.write_video(tmp_path / "clip.mp4", frames=2)
    depth = media.write_video(tmp_path / "depth.mkv", frames=2, codec="ffv1", pixel_format="gray16le")
    with pytest.raises(OptionError, match="is a video, but spots are judged one by one"):
        preview(clip, tmp_path / "sheet.png", depth=str(depth), device="cpu")


def test_a_cost_counts_frames_of_one_eye_and_bytes_of_the_packed_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(estimate, "FEWEST_FRAMES", 48)
    clip = media.write_video(tmp_path / "clip.mp4", frames=12, sounds=[media.Sound()])
    depth = KnownDepth([torch.zeros(16, 1, HEIGHT, WIDTH)])
    depth.stream = lambda clips: (DepthClip(clip, torch.zeros(len(clip), 1, HEIGHT, WIDTH)) for clip in clips)
    converter = Converter(ConverterSettings(quality="draft", device="cpu"), depth=depth)
    cost = measure_cost(lambda: open_source(clip), converter, OutputOptions(codec="ffv1"))
    assert cost.frames == 12  # all there are
    assert 0 < cost.seconds_per_frame < 1
    assert 500 < cost.bytes_per_frame < 2 * WIDTH * HEIGHT * 1.5 + 500  # lossless: at most what the planes hold


@pytest.mark.parametrize("gop", [4, 1000])
def test_the_size_of_a_film_does_not_depend_on_how_many_key_pictures_the_excerpt_has(gop, tmp_path):
    noise = np.random.default_rng(1).integers(16, 235, (HEIGHT, WIDTH), np.uint8)  # expensive once, cheap to repeat
    grey = np.full((HEIGHT // 2, WIDTH // 2), 128, np.uint8)
    frames = [media.make_frame([noise, grey, grey], "yuv420p") for _ in range(24)]
    path = media.write_video(tmp_path / "clip.mkv", pictures=frames, gop=gop, options={"bf": "0", "sc_threshold": "0"})
    # one key picture of some 3000 bytes in 250 frames, and next to nothing for the others
    assert 10 < estimate._video_bytes_per_frame(path) < 40


def test_estimates_are_told_in_units_for_people():
    assert [duration_text(seconds) for seconds in (0.4, 89, 100, 5400, 11100)] == [
        "0 s",
        "89 s",
        "2 min",
        "1 h 30 min",
        "3 h 05 min",
    ]
    assert [size_text(size) for size in (4e4, 2.5e6, 1.23e10)] == ["0.0 MB", "2.5 MB", "12.3 GB"]
    cost = Cost(seconds_per_frame=0.25, bytes_per_frame=1e5, frames=12)
    assert Estimate("draft", cost).line(172_800) == "draft  about 12 h 00 min, 17.3 GB (4.00 fps over 12 frames)"
    assert Estimate("draft", cost).line(None).endswith("0.1 MB a frame; its length is not known")
