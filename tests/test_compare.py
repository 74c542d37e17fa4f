"""`spatialme compare`: pairs, protocols, matching, statistics, tables, and all of it together on known scenes."""

from __future__ import annotations

import csv
import dataclasses
import html
import itertools
import json
import logging
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch

from spatialme.errors import InputError, OptionError, OutputError, SpatialmeError, WeightsError
from spatialme.evaluation import compare as compare_module
from spatialme.evaluation import pairs as pairs_module
from spatialme.evaluation.baselines import METHODS, MethodSpec, method_spec
from spatialme.evaluation.checks import check_distinct, check_eye_order, check_rectified
from spatialme.evaluation.comfort import Comfort
from spatialme.evaluation.commands import compare
from spatialme.evaluation.external import parse_externals
from spatialme.evaluation.eye_order import vote_eye_order
from spatialme.evaluation.matching import (
    FlowMatcher,
    fill_from_background,
    match,
    match_cached,
    open_matcher,
    read_maps,
    sgbm,
)
from spatialme.evaluation.metrics import columns
from spatialme.evaluation.page import page
from spatialme.evaluation.pairs import PairFiles, StereoPair, find_pairs, fit_disparity, read_frames, read_pieces
from spatialme.evaluation.parallax import cut_shared, median_shift
from spatialme.evaluation.protocols import CONFIGS, Protocol, load_protocol
from spatialme.evaluation.published import PUBLISHED
from spatialme.evaluation.report import markdown, means_table, results_csv, test_table
from spatialme.evaluation.results import Comparison, Row, Shown, best_of
from spatialme.evaluation.session import ComparisonSummary
from spatialme.evaluation.statistics import bootstrap_interval, sign_flip_p
from spatialme.evaluation.worst import worst_holes
from spatialme.flow import WEIGHT_NAMES
from spatialme.weights import find
from tests.stereo_files import arrays, crowd, measure_psnr_alone, write_image, write_pair, write_video

test_table.__test__ = False  # a table of a test, not a test

CONTRACT = [
    "clip", "method", "frames", "mae", "psnr", "ssim", "ms_ssim", "lpips", "psnr_hole", "lpips_hole", "psnr_border",
    "siou", "e_warp", "flicker", "detail_ratio", "level_shift", "seconds_per_frame", "peak_memory_mb", "error",
]  # fmt: skip


@pytest.fixture(scope="module")
def scene():
    return crowd()


@pytest.fixture(scope="module")
def pair(scene):
    return StereoPair("crowd", 0, scene.left, scene.right)


def swapped(pair: StereoPair) -> StereoPair:
    return replace(pair, left=pair.right, right=pair.left)


# ---- protocols ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_is_a_protocol_and_begins_with_its_command(path):
    protocol = load_protocol(path.stem)
    command = rf"# spatialme compare --data FOLDER(/manifest.json)? --out FOLDER --protocol {path.stem}\n"
    assert re.match(command, path.read_text())
    assert set(protocol.metrics) <= set(columns())
    assert all(method_spec(name).summary for name in protocol.methods)


def test_m2svid_takes_a_square_from_the_middle_of_the_reduced_picture():
    protocol = load_protocol("m2svid")
    assert protocol.resized(1920, 1080) == (910, 512)
    assert protocol.cut_out(910, 512) == (slice(0, 512), slice(199, 711))


def test_sizes_of_protocols():
    assert Protocol(size=(832, 480)).resized(100, 100) == (832, 480)
    assert Protocol(most_width=640).resized(1280, 720) == (640, 360)
    assert Protocol(most_width=640).resized(320, 240) == (320, 240)
    assert Protocol(crop_side=500).cut_out(640, 360) == (slice(0, 360), slice(70, 570))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("speed: 3", "holds speed, expected a protocol's .*score_every"),
        ("- 3", "holds list, expected a protocol"),
        ("frames: [", "is not YAML"),
        ("score_every: 0", "score_every is 0, expected a whole number from 1"),
        ("frames: 2.5", "frames is 2.5, expected"),
        ("size: [3]", r"size is \[3\], expected width and height"),
        ("frame_rate: 0", "frame_rate is 0, expected more than 0"),
        ("parallax: lots", "parallax is 'lots', expected as_shot or centred"),
        ("note: [1]", r"note is \(1,\), expected a sentence"),
        ("metrics: [psnr, beauty]", "metric beauty is not known; use .*psnr"),
    ],
)
def test_a_wrong_protocol_is_refused(tmp_path, text, message):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(OptionError, match=message):
        load_protocol(str(tmp_path / "mine.yaml"))


def test_an_unknown_protocol_names_the_known_ones():
    with pytest.raises(OptionError, match=r"fast is not known; use one of ablation, .*m2svid"):
        load_protocol("fast")


# ---- pairs --------------------------------------------------------------------------------------------------------


def numbered(count: int, width: int = 32) -> list[np.ndarray]:
    return [np.full((24, width, 3), 10 * number, np.uint8) for number in range(count)]


def test_pairs_are_found_by_name(tmp_path):
    for name in ("b_left.png", "b_right.jpg", "a_c_sbs.mp4", "notes.txt", "other.png"):
        (tmp_path / name).touch()
    wanted = [
        PairFiles("a_c", tmp_path / "a_c_sbs.mp4", None),
        PairFiles("b", tmp_path / "b_left.png", tmp_path / "b_right.jpg"),
    ]
    assert find_pairs(tmp_path) == wanted


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["b_left.png"], r"b_left.png has no b_right.\* beside it"),
        (["b_right.png", "c_sbs.mp4"], r"b_right.png has no b_left.\* beside it"),
        (["b.png"], "holds no .*_left"),
    ],
)
def test_what_is_no_folder_of_pairs_is_refused(tmp_path, names, message):
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=message):
        find_pairs(tmp_path)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="nowhere is not a folder"):
        find_pairs(tmp_path / "nowhere")


def test_frames_are_picked_at_the_protocols_rate(tmp_path):
    path = write_video(tmp_path / "a.mkv", numbered(12), rate=10)

    def picked(**settings) -> list[int]:
        return [int(frame[0, 0, 0]) // 10 for frame in read_frames(path, Protocol(**settings))]

    assert picked() == list(range(12))
    assert picked(frames=3) == [0, 1, 2]
    assert picked(frame_rate=5) == [0, 2, 4, 6, 8, 10]
    assert picked(frame_rate=4) == [0, 3, 5, 8, 10]  # times 0, 0.25, 0.5, 0.75, 1
    assert picked(frame_rate=50) == list(range(12))


def test_pieces_hold_the_clip_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(pairs_module, "PIECE_FRAMES", 5)
    both = [np.concatenate((frame, frame + 5), axis=1) for frame in numbered(12)]
    write_video(tmp_path / "a_sbs.mkv", both)
    pieces = list(read_pieces(find_pairs(tmp_path)[0], Protocol()))
    assert [(piece.first_index, len(piece)) for piece in pieces] == [(0, 5), (5, 5), (10, 2)]
    left = torch.cat([piece.left for piece in pieces])[:, 0, 0, 0] * 255
    right = torch.cat([piece.right for piece in pieces])[:, 0, 0, 0] * 255
    assert left.round().tolist() == [10 * number for number in range(12)]
    assert torch.equal(right.round(), left.round() + 5)


def test_eyes_of_different_size_number_or_odd_width_are_refused(tmp_path):
    def read(left: Path, right: Path | None) -> None:
        list(read_pieces(PairFiles("clip", left, right), Protocol()))

    small, large = write_image(tmp_path / "s.png", numbered(1)[0]), write_image(tmp_path / "l.png", numbered(1, 48)[0])
    with pytest.raises(InputError, match="clip: the left eye is 32 x 24 at 8 bits and the right eye 48 x 24 at 8 bits"):
        read(small, large)
    long, short = write_video(tmp_path / "l.mkv", numbered(5)), write_video(tmp_path / "s.mkv", numbered(3))
    with pytest.raises(InputError, match=r"clip: .*s.mkv ends after 3 frames and its other eye goes on"):
        read(long, short)
    with pytest.raises(InputError, match=r"clip: .*s.mkv ends after 3 frames"):
        read(short, long)
    with pytest.raises(InputError, match="is 33 px wide, expected two eyes"):
        read(write_image(tmp_path / "o.png", numbered(1, 33)[0]), None)


def test_a_disparity_map_scales_with_its_picture():
    disparity = np.repeat(np.array([[4.0, 8.0, 4.0, 8.0]], np.float32), 2, axis=0)
    found = fit_disparity(disparity, Protocol(size=(8, 2), crop_side=2))
    assert found.tolist() == [[16.0, 8.0]] * 2  # columns 3 and 4 of eight
    assert set(np.unique(fit_disparity(disparity, Protocol(size=(8, 4))))) == {8.0, 16.0}


# ---- parallax -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [-3, 0, 5])
def test_shifted_eyes_still_show_the_same_points(shift):
    columns_of = torch.arange(20.0).view(1, 1, 1, 20)
    disparity = torch.full_like(columns_of, 2.0)
    # the colour of a pixel is the number of the point it shows: at x in the left view, at x - 2 in the right one
    left, right, moved = cut_shared(columns_of, columns_of + 2, disparity, shift)
    assert left.shape == right.shape == moved.shape == (1, 1, 1, 20 - abs(shift))
    assert float(moved[0, 0, 0, 0]) == 2 - shift
    for x in range(left.shape[3]):
        there = x - (2 - shift)
        if 0 <= there < right.shape[3]:
            assert left[0, 0, 0, x] == right[0, 0, 0, there]


def test_the_median_shift_ignores_what_is_unknown():
    assert median_shift(torch.tensor([torch.nan, 3.0, 4.2, 90.0, torch.nan])) == 4


# ---- matching -----------------------------------------------------------------------------------------------------


def test_sgbm_finds_the_true_disparity(pair, scene):
    found = match(pair, sgbm)
    known = found.agreed.isfinite()
    error = (found.agreed - scene.disparity).abs()[known]
    assert float(known.float().mean()) > 0.8
    # a tenth of the pixels lies within 2 px of a border, where a block shows two surfaces
    assert float((error < 1).float().mean()) > 0.9
    assert float(error.median()) < 0.2
    everywhere = (found.filled - scene.disparity).abs()
    assert float((everywhere < 1).float().mean()) > 0.85


def test_sgbm_finds_disparities_of_both_signs(pair, scene):
    left, right, disparity = cut_shared(pair.left, pair.right, scene.disparity, 12)
    found = match(replace(pair, left=left, right=right), sgbm)
    known = found.agreed.isfinite()
    assert float(known.float().mean()) > 0.8
    assert float(found.agreed[known].min()) < -11
    assert float(found.agreed[known].max()) > 3
    assert float((found.agreed - disparity).abs()[known].median()) < 0.2


class HalfSizeFlow:
    """Knows that everything lies 3 px further left in the second picture, and tells it on a grid of half the size."""

    def grid(self, height, width):
        return height // 2, width // 2

    def prepare(self, frame):
        return frame

    def both_ways(self, first, second):
        flow = torch.zeros((2, *self.grid(*first.shape[1:])))
        flow[0] = -1.5
        return flow, -flow


def test_flow_matching_has_the_disparitys_sign_and_scale(pair):
    found = match(pair, FlowMatcher(HalfSizeFlow()))
    assert bool((found.agreed[..., 3:] == 3).all())
    assert bool(found.agreed[..., :3].isnan().all()), "there the right eye's picture has ended"
    assert bool((found.filled == 3).all())


def test_the_background_is_continued_over_what_is_unknown():
    nan = np.nan
    disparity = np.array([[nan] * 6, [nan, 1, nan, nan, 5, nan], [nan, 5, nan, 2, nan, nan]], np.float32)
    wanted = [[1, 1, 1, 1, 5, 5], [1, 1, 1, 1, 5, 5], [5, 5, 2, 2, 2, 2]]
    assert fill_from_background(disparity).tolist() == wanted
    assert fill_from_background(np.full((2, 3), nan, np.float32)).tolist() == [[0] * 3] * 2


def test_a_pair_is_matched_once(pair, tmp_path):
    calls = []

    def engine(left, right):
        calls.append(1)
        return sgbm(left, right)

    first = match_cached(pair, engine, "sgbm", tmp_path)
    again = match_cached(pair, engine, "sgbm", tmp_path)
    assert len(calls) == 1
    assert torch.equal(first.filled, again.filled)
    assert torch.equal(first.agreed.isnan(), again.agreed.isnan())
    match_cached(replace(pair, right=pair.right.flip(2)[..., :, :]), engine, "raft", tmp_path)
    assert len(calls) == 2, "other pixels or another engine are another entry"


def test_two_scenes_do_not_match(pair):
    noise = torch.rand(pair.right.shape, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match=r"crowd: .* % of the left eye is found in the right one"):
        match(replace(pair, right=noise), lambda left, right: np.full(left.shape[1:], np.nan, np.float32))


def test_maps_are_read_from_a_folder(pair, scene, tmp_path):
    true_map = scene.disparity[0, 0].numpy().copy()
    true_map[:, :5] = np.inf
    np.savez(tmp_path / "crowd.npz", true_map)
    found = read_maps(tmp_path, pair, Protocol())
    assert torch.equal(found.filled[..., 5:], scene.disparity[..., 5:])
    assert bool(found.agreed[..., :5].isnan().all())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "has no crowd.npy or .npz"),
        (b"nonsense", "cannot be read as an array of disparities"),
        (np.zeros((5, 5)), "does not fit its clip"),
        (np.full((192, 256), np.nan), "0.0 % of the left eye is found"),
    ],
)
def test_wrong_maps_are_refused(pair, tmp_path, content, message):
    if isinstance(content, bytes):
        (tmp_path / "crowd.npy").write_bytes(content)
    elif content is not None:
        np.save(tmp_path / "crowd.npy", content)
    with pytest.raises(InputError, match=message):
        read_maps(tmp_path, pair, Protocol())


def test_auto_is_raft_where_its_weights_are(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr("spatialme.weights.find", lambda name: None)
    assert open_matcher("auto", cpu)[0] == open_matcher("sgbm", cpu)[0] == "sgbm"
    with pytest.raises(WeightsError, match="weights fetch"):
        open_matcher("raft", cpu)
    with pytest.raises(OptionError, match="--disparity magic is neither auto, raft, sgbm nor a folder"):
        open_matcher("magic", cpu)


@pytest.mark.weights
def test_real_raft_finds_the_true_disparity(pair, scene):
    if not any(find(name) for name in WEIGHT_NAMES):
        pytest.skip("needs RAFT: spatialme weights fetch raft-large")
    name, engine = open_matcher("auto", torch.device("cpu"))
    assert name == "raft"
    found = match(pair, engine)
    known = found.agreed.isfinite()
    # of 256 x 192 px RAFT sees 32 x 24 places, and mixes at every border of two surfaces: found were 72 % and 84 %
    assert float(known.float().mean()) > 0.65
    assert float(((found.agreed - scene.disparity).abs()[known] < 1).float().mean()) > 0.75


# ---- checks -------------------------------------------------------------------------------------------------------


def test_good_pairs_pass_every_check(pair):
    check_distinct(pair)
    check_rectified(pair)
    check_eye_order(pair, match(pair, sgbm))


def test_identical_eyes_are_refused(pair):
    with pytest.raises(InputError, match=r"crowd: the eyes differ by 0\.00 of 255"):
        check_distinct(replace(pair, right=pair.left))


def test_unrectified_eyes_are_refused(pair):
    with pytest.raises(InputError, match=r"crowd: points lie [34]\.\d px apart in height"):
        check_rectified(replace(pair, right=pair.right.roll(4, 2)))


def test_swapped_eyes_are_refused(pair):
    other = swapped(pair)
    with pytest.raises(InputError, match="crowd: the eyes seem to be swapped"):
        check_eye_order(other, match(other, sgbm))


def test_eye_order_is_told_by_half_hidden_areas(pair):
    straight = vote_eye_order(pair.left, match(pair, sgbm).agreed)
    turned = vote_eye_order(pair.right, match(swapped(pair), sgbm).agreed)
    assert straight.share > 0.7
    assert turned.share < 0.3
    assert vote_eye_order(pair.left, torch.zeros_like(pair.left[:, :1])).share is None


# ---- statistics ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [5, 20])
def test_the_paired_test_is_scipys(count):
    differences = np.random.default_rng(count).normal(0.4, 1, count)
    wanted = scipy.stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf if count < 13 else 20_000, rng=0
    ).pvalue
    # exact for 5; for 20 both draw signs: 3 standard errors of p = 0.1 from 10,000
    assert sign_flip_p(differences) == pytest.approx(wanted, abs=1e-9 if count < 13 else 0.01)


def test_the_interval_is_scipys_percentile_bootstrap():
    values = np.random.default_rng(0).normal(30, 2, 15)
    wanted = scipy.stats.bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, rng=0)
    # both draw: a percentile of 10,000 draws is good to a few hundredths of the mean's deviation of 0.5
    assert bootstrap_interval(values) == pytest.approx(tuple(wanted.confidence_interval), abs=0.05)
    assert bootstrap_interval(np.array([7.0])) == (7.0, 7.0)


# ---- tables -------------------------------------------------------------------------------------------------------


def small_comparison(rows: list[Row], metrics=("psnr", "lpips", "detail_ratio")) -> Comparison:
    methods = {row.method: "what it is" for row in rows}
    return Comparison(Protocol(metrics=metrics), tuple(rows), (), methods, ("telea", "stretch"), {"machine": "this"})


def row(clip: str, method: str, seconds: float | None = 1.0, **values: float | None) -> Row:
    return Row(clip, method, 1, values, seconds, 100.0)


def test_the_best_of_each_column_is_bold():
    comparison = small_comparison(
        [
            row("a", "stretch", 1.0, psnr=30, lpips=0.2, detail_ratio=1.2),
            row("a", "poly", 2.0, psnr=28, lpips=0.1, detail_ratio=0.9),
        ]
    )
    heading, *rows = means_table(comparison)
    assert heading[1:4] == ["psnr (higher is better)", "lpips (lower is better)", "detail_ratio (best 1)"]
    assert rows == [["stretch", "**30**", "0.2", "1.2", "**1**"], ["poly", "28", "**0.1**", "**0.9**", "2"]]


def test_means_are_over_the_clips_that_all_methods_have():
    rows = [row("a", "poly", psnr=20), row("b", "poly", psnr=40), row("b", "stretch", psnr=30), row("a", "tool", None)]
    values = small_comparison(rows).common_values("psnr")
    assert {name: found.tolist() for name, found in values.items()} == {"poly": [40], "stretch": [30]}
    assert small_comparison(rows).common_values("siou") == {}


def test_methods_are_tested_against_the_best_baseline():
    rows = [row(str(clip), "stretch", psnr_hole=20 + clip) for clip in range(6)]
    rows += [row(str(clip), "telea", psnr_hole=22 + clip) for clip in range(6)]
    rows += [row(str(clip), "poly", psnr_hole=25 + clip) for clip in range(6)]
    (line,) = test_table(small_comparison(rows))[1:]
    # of 64 patterns of signs two are as extreme
    assert line == ["poly", "psnr_hole", "telea", "+3 [3, 3]", "0.031", "6"]


def test_csv_has_the_promised_columns_and_one_warning_for_empty_cells(caplog):
    comparison = small_comparison([row("a", "poly", psnr=30, rmse=0.5), Row("b", "poly", error="it, broke")])
    with caplog.at_level(logging.WARNING):
        lines = list(csv.DictReader(results_csv(comparison).splitlines()))
    assert list(lines[0])[: len(CONTRACT)] == CONTRACT
    assert set(lines[0]) - set(CONTRACT) >= set(columns()) - set(CONTRACT) | {"group", "lpips_vgg", "dists"}
    assert set(lines[0]) >= {field.name for field in dataclasses.fields(Comfort)}
    assert (lines[0]["psnr"], lines[0]["rmse"], lines[0]["siou"]) == ("30", "0.5", "")
    assert lines[1]["error"] == "it, broke"
    assert len(caplog.records) == 1
    assert "siou (1 of 1 rows)" in caplog.text
    assert "VGG16 is needed: spatialme weights fetch vgg16" in caplog.text
    assert "psnr (" not in caplog.text


def test_the_ablation_says_what_stands_in_for_the_papers_branches():
    protocol = load_protocol("ablation")
    comparison = replace(small_comparison([row("a", "propagation", psnr=30)]), protocol=protocol)
    summary = ComparisonSummary(comparison, ())
    for text in (markdown(comparison), html.unescape(page(comparison)), "\n".join(summary.lines())):
        assert "here propagation and expansion stand in for them" in text


def test_markdown_marks_what_is_published_and_tells_what_failed():
    text = markdown(small_comparison([row("a", "poly", psnr=30), Row("b", "poly", error="it broke")]))
    assert "| method (published) |" in text
    assert all(f"| {published.method} | {published.source} |" in text for published in PUBLISHED)
    assert "- b, poly: it broke" in text
    assert "- machine: this" in text


def test_best_of_knows_costs():
    assert best_of("seconds_per_frame", {"a": 2.0, "b": 1.0}) == "b"
    assert best_of("psnr", {"a": 2.0, "b": 1.0}) == "a"


def test_worst_holes_are_where_all_methods_err():
    truth = np.zeros((60, 100, 3), np.uint8)
    views = {name: truth.copy() for name in ("a", "b", "c")}
    for name, view in views.items():
        view[10:14, 20:24] = 200
        view[40:44, 70:74] = 100
        view[5:9, 80:84] = 255 if name == "a" else 0  # one method alone
        view[50:54, 5:9] = 255  # outside the hole
    hole = np.zeros((60, 100), bool)
    hole[:, 15:95] = True
    shown = Shown("clip", 0, truth, truth, hole, views)
    places = worst_holes(shown, size_px=16, count=5)
    assert len(places) == 2
    for (top, left), (y, x) in zip(places, ((10, 20), (40, 70))):
        assert top <= y
        assert y + 4 <= top + 16
        assert left <= x
        assert x + 4 <= left + 16
    assert worst_holes(shown, size_px=64, count=1) == []


# ---- all together -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A still, `a`, and a video, `b`, with their true maps and a perfect tool's results beside them."""
    root = tmp_path_factory.mktemp("compare")
    still, video = crowd(width=160, height=120), crowd(frames=4, velocity=1.0, width=160, height=120)
    for name in ("clips", "maps", "perfect"):
        (root / name).mkdir()
    for name, made in (("a", still), ("b", video)):
        write_pair(root / "clips", name, made)
        np.save(root / "maps" / f"{name}.npy", made.disparity[:, 0].numpy())
    write_image(root / "perfect" / "a_right.png", arrays(still.right)[0])
    write_video(root / "perfect" / "b.mkv", arrays(video.right))
    return root


@pytest.fixture(scope="module")
def finished(folder):
    summary = compare(
        data=folder / "clips",
        out=folder / "out",
        methods="copy_left,stretch,poly",
        disparity=str(folder / "maps"),
        external=f"perfect={folder / 'perfect'}",
        device="cpu",
    )
    rows = list(csv.DictReader((folder / "out" / "results.csv").read_text().splitlines()))
    return summary, {(row["clip"], row["method"]): row for row in rows}


def test_one_row_per_clip_and_method(finished):
    _, rows = finished
    assert list(rows) == list(itertools.product("ab", ("copy_left", "stretch", "poly", "perfect")))
    assert all(row["error"] == "" for row in rows.values())
    assert [rows[clip, "poly"]["frames"] for clip in "ab"] == ["1", "4"]


def test_better_views_score_better(finished):
    _, rows = finished
    for clip in "ab":
        scores = [float(rows[clip, method]["psnr"]) for method in ("copy_left", "stretch", "perfect")]
        assert scores == sorted(scores)
        assert scores[-1] == 100  # the files' own pixels
        assert float(rows[clip, "stretch"]["psnr_border"]) > 30, "with the true disparity only holes are invented"
        assert float(rows[clip, "stretch"]["psnr_hole"]) < 30


def test_external_tools_have_no_holes_and_no_time_of_ours(finished):
    _, rows = finished
    assert [rows["b", "perfect"][name] for name in ("psnr_hole", "lpips_hole", "psnr_border", "seconds_per_frame")] == [
        ""
    ] * 4
    assert float(rows["b", "perfect"]["e_warp"]) > 0


def test_columns_over_time_are_for_videos_alone(finished):
    _, rows = finished
    for method in ("copy_left", "stretch", "poly", "perfect"):
        assert rows["a", method]["flicker"] == rows["a", method]["e_warp"] == ""
        assert float(rows["b", method]["flicker"]) > 0


def test_the_page_stands_alone_and_shows_every_method(finished, folder):
    text = (folder / "out" / "report.html").read_text()
    assert not re.search(r"<[^>]*(src|href)=['\"]?(?!data:)\w", text)
    pictures = [json.loads(found) for found in re.findall(r"<script type=application/json>(.*?)</script>", text)]
    wanted = ["copy_left", "stretch", "poly", "perfect"]
    assert [list(found) for found in pictures] == [
        ["real right view", *wanted, "left view", *(f"anaglyph, {name}" for name in wanted)]
    ] * 2
    assert "<svg" in text
    assert "3D-Photography" in text


def test_the_summary_names_methods_and_files(finished, folder):
    summary, _ = finished
    lines = summary.lines()
    assert [line.split()[0] for line in lines[:5]] == ["method", "copy_left", "stretch", "poly", "perfect"]
    assert all(str(folder / "out" / name) in lines[-1] for name in ("results.csv", "results.md", "report.html"))
    assert "maps of" in (folder / "out" / "results.md").read_text()


@pytest.fixture
def quick(monkeypatch):
    """Takes PSNR alone, for tests of what goes on around the metrics."""

    measure_psnr_alone(monkeypatch)


@pytest.mark.usefixtures("quick")
def test_pieces_and_skipped_frames_change_no_still_picture_method(folder, tmp_path, monkeypatch):
    (tmp_path / "two.yaml").write_text("score_every: 2")
    monkeypatch.setattr(compare_module, "SHOWN_CLIPS", 0)

    def psnr() -> float:
        summary = compare(
            data=folder / "clips",
            out=tmp_path / "out",
            methods="stretch",
            protocol=str(tmp_path / "two.yaml"),
            disparity=str(folder / "maps"),
            device="cpu",
        )
        return summary.comparison.rows[1].value("psnr")

    whole = psnr()
    monkeypatch.setattr(pairs_module, "PIECE_FRAMES", 3)  # frames 0 and 2, then none but 3: nothing to score
    assert psnr() == pytest.approx(whole, abs=1e-6)


class Broken:
    """Fails, as methods do."""

    needs_motion = False
    calls = 0

    def stream(self, clips):
        for clip in clips:
            Broken.calls += 1
            if Broken.calls > 1:  # the first is the warm-up
                raise RuntimeError("out of\nmemory")
            yield clip.view


@pytest.mark.usefixtures("quick")
def test_a_method_that_fails_leaves_the_others_alone(folder, tmp_path, monkeypatch):
    def no_weights(device):
        raise WeightsError("no weights here; fetch them")

    Broken.calls = 0
    monkeypatch.setitem(METHODS, "broken", MethodSpec(lambda device: Broken(), "breaks"))
    monkeypatch.setitem(METHODS, "weightless", MethodSpec(no_weights, "has none"))
    summary = compare(
        data=folder / "clips",
        out=tmp_path,
        methods="broken,weightless,stretch",
        disparity=str(folder / "maps"),
        external=f"tool={tmp_path}",
        device="cpu",
    )
    errors = {row.method: row.error for row in summary.comparison.rows if row.clip == "a"}
    assert errors.pop("stretch") == ""
    assert errors["broken"] == "RuntimeError: out of memory"
    assert errors["weightless"] == "no weights here; fetch them"
    assert re.search(r"has no file for clip a, expected a_right.\*", errors["tool"])
    assert "failed: 6 of 8 rows" in "\n".join(summary.lines())


@pytest.mark.usefixtures("quick")
def test_external_files_must_fit(folder, tmp_path):
    tool = tmp_path / "tool"
    tool.mkdir()
    write_image(tool / "a.png", np.zeros((120, 150, 3), np.uint8))
    write_video(tool / "b_sbs.mkv", [np.zeros((120, 320, 3), np.uint8)] * 3)
    summary = compare(
        data=folder / "clips",
        out=tmp_path / "out",
        methods="copy_left",
        disparity=str(folder / "maps"),
        external=f"tool={tool}",
        device="cpu",
    )
    errors = [row.error for row in summary.comparison.rows if row.method == "tool"]
    assert "a is 150 x 120 under the protocol, expected 160 x 120" in errors[0]
    assert "b ends after 3 frames, expected 4 at least" in errors[1]


@pytest.mark.usefixtures("quick")
def test_a_bad_pair_is_told_and_the_others_go_on(folder, tmp_path, caplog):
    clips, scene = tmp_path / "clips", crowd(width=160, height=120)
    clips.mkdir()
    write_pair(clips, "a", scene)
    write_image(clips / "same_left.png", arrays(scene.left)[0])
    write_image(clips / "same_right.png", arrays(scene.left)[0])
    summary = compare(
        data=clips, out=tmp_path / "out", methods="copy_left", disparity=str(folder / "maps"), device="cpu"
    )
    good, bad = summary.comparison.rows
    assert good.error == ""
    assert re.search("same: the eyes differ by 0.00 of 255", bad.error)
    assert "same: the eyes differ" in caplog.text
    for name in ("a_left.png", "a_right.png"):
        (clips / name).unlink()
    with pytest.raises(InputError, match="same: the eyes differ"):
        compare(data=clips, out=tmp_path / "out", methods="copy_left", disparity="sgbm", device="cpu")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"data": None}, OptionError, "--data is missing"),
        ({"out": None}, OptionError, "--out is missing"),
        ({"methods": "poly,magic"}, OptionError, "method 'magic' is not known; use copy_left, no_fill"),
        ({"methods": "poly,poly"}, OptionError, "name poly, poly; name each method once"),
        ({"methods": ""}, OptionError, "name nothing; name each method once"),
        ({"external": "iw3"}, OptionError, "--external 'iw3' is not NAME=FOLDER"),
        ({"external": "iw3=/nowhere"}, OptionError, "--external iw3: /nowhere is not a folder"),
        ({"disparity": "magic"}, OptionError, "--disparity magic is neither"),
        ({"device": "tpu"}, OptionError, "--device 'tpu' is not known"),
        ({"out": "FILE"}, OutputError, "cannot be made a folder"),
    ],
)
def test_wrong_options_are_refused_in_one_line(folder, tmp_path, options, error, message):
    (tmp_path / "file").touch()
    options = {name: tmp_path / "file" if value == "FILE" else value for name, value in options.items()}
    wanted = {"data": folder / "clips", "out": tmp_path / "out", "methods": "copy_left", **options}
    with pytest.raises(error, match=message) as caught:
        compare(**wanted)
    assert isinstance(caught.value, SpatialmeError)
    assert "\n" not in str(caught.value)


def test_no_externals_are_none():
    assert parse_externals(None) == parse_externals("") == []
