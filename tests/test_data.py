"""Training pairs: exact scenes, the round trip of a 2D frame, cached clips, augmentation and mixing."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from spatialme.data.augment import BRANCH_FIELDS, Augmentation, augment
from spatialme.data.clip_files import read_frame, write_frames
from spatialme.data.manifest import CachedClip, CachedFile, cached_file, read_manifest, write_manifest
from spatialme.data.mixture import Mixture, NumberedSamples, open_sources
from spatialme.data.mono import MonoClips, round_trip
from spatialme.data.sample import Budget, Sample, build_sample, draw_budget
from spatialme.data.scenes import Layer, Scenes, draw_scene, render
from spatialme.data.stereo import StereoClips
from spatialme.errors import InputError, OptionError
from spatialme.evaluation.pixels import laplacian_variance, luma
from spatialme.warp import forward_warp

BUDGET = Budget(span_px=8.0, convergence=0.5, frame_width_px=640)
NEVER = Augmentation(drop=0, swap=0, degrade=0, reveal=0)


def psnr(first, second, mask):
    error = (first - second).square().mean(0, keepdim=True)[mask]
    return float(-10 * torch.log10(error.mean()))


def picture(height, width, seed=0):
    """A smooth picture, so that one resampling hardly changes it."""
    torch.manual_seed(seed)
    coarse = torch.rand(1, 3, height // 8, width // 8)
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)[0].clamp(0, 1)


def square_nearness(height=64, width=160):
    """A near square in the middle of a far plane."""
    nearness = torch.zeros(1, height, width)
    nearness[:, 16:48, 60:100] = 1
    return nearness


def save_clip(folder, name, kind="mono", frames=3, size=(64, 96), **changes):
    """A cached clip of random pictures, each file's from its own seed."""
    height, width = size
    files = {}
    shapes = {"nearness": (np.uint16, ()), "hole": (np.uint8, ())}
    names = ("frames", "nearness") if kind == "mono" else ("left", "right", "warped", "poly", "dl", "de", "hole")
    for number, part in enumerate(names):
        dtype, channels = shapes.get(part, (np.uint8, (3,)))
        random = np.random.default_rng(number)
        levels = random.integers(0, np.iinfo(dtype).max + 1, (frames, height, width, *channels), dtype)
        if part == "hole":
            levels = (levels > 127).astype(np.uint8) * 255
        write_frames(folder / f"{name}_{part}.mkv", levels)
        files[part] = cached_file(folder / f"{name}_{part}.mkv")
    about = {"scene": name, "source": "ours", "licence": "CC0-1.0", "commercial": True, "split": "train"}
    return CachedClip(kind, name, **{**about, **changes}, frames=frames, width=width, height=height, files=files)


# --- scenes ---------------------------------------------------------------------------------------------------------


def test_flat_layer_moves_by_its_disparity_in_the_right_view():
    # nearness 1 is 4 px in front of the screen: x_right = x_left - 4, a whole number, so both eyes sample alike
    colour = picture(64, 256).permute(1, 2, 0).numpy()
    pair = render([Layer(colour, None, 1.0, (0.0, 0.0), margin_px=32)], BUDGET, height=32, width=64)
    torch.testing.assert_close(pair.disparity, torch.full((1, 32, 64), 4.0))
    torch.testing.assert_close(pair.right[..., :-4], pair.left[..., 4:])


def test_slanted_layer_lands_where_the_warp_puts_it():
    random = np.random.default_rng(3)
    colour = picture(128, 320).permute(1, 2, 0).numpy()
    layer = Layer(colour, None, 0.5, (0.3, -0.2), margin_px=32, offset_px=float(random.random()))
    pair = render([layer], BUDGET, height=64, width=96)
    warped = forward_warp(pair.left[None], pair.disparity[None])
    assert psnr(warped.view[0], pair.right, ~warped.hole[0]) > 45  # smooth texture: only interpolation differs


def test_near_layer_covers_the_far_one_in_both_eyes():
    far = np.zeros((64, 192, 3), np.float32)
    near = np.ones((64, 192, 3), np.float32)
    inside = np.zeros((64, 192), np.uint8)
    inside[:, 80:112] = 255  # columns 40..56 with the margin, 24..40 of the left view
    layers = [Layer(near, inside, 1.0, (0, 0), margin_px=16), Layer(far, None, 0.0, (0, 0), margin_px=16)]
    pair = render(layers, BUDGET, height=32, width=64)
    assert (pair.left[0, 5] > 0.5).nonzero().flatten().tolist() == list(range(24, 40))
    assert (pair.right[0, 5] > 0.5).nonzero().flatten().tolist() == list(range(20, 36))


def test_random_scene_is_explained_by_its_disparity_outside_holes():
    found = []
    for seed in range(6):
        random = np.random.default_rng(seed)
        pair = draw_scene(random, BUDGET, height=64, width=96)
        warped = forward_warp(pair.left[None], pair.disparity[None])
        found.append(psnr(warped.view[0], pair.right, ~warped.hole[0]))
        assert (pair.disparity >= -4).all()
        assert (pair.disparity <= 4).all()
    # hard outlines are mixed pixels in both eyes, one warped and one drawn; a wrong sign gives under 15 dB
    assert np.median(found) > 30


def test_scene_samples_have_the_crops_size_and_holes_worth_filling():
    samples = [Scenes(48).sample(np.random.default_rng(seed)) for seed in range(4)]
    for sample in samples:
        assert {view.shape[-2:] for view in sample} == {(48, 48)}
        assert sample.hole.dtype == torch.bool
        assert all(view.min() >= 0 and view.max() <= 1 for view in sample[:-1])
        # the background fill leaves known pixels as the warp has them
        torch.testing.assert_close(torch.where(sample.hole, 0, sample.dl), sample.warped, atol=0, rtol=0)
    assert np.mean([float(sample.hole.float().mean()) for sample in samples]) > 0.01


def test_budget_stays_in_proportion_to_the_crop():
    for seed in range(50):
        budget = draw_budget(np.random.default_rng(seed), 64)
        assert 0 < budget.span_px <= 16
        assert 640 <= budget.frame_width_px <= 1920
        low, high = budget.range_px
        assert high - low == pytest.approx(budget.span_px)


# --- mono -----------------------------------------------------------------------------------------------------------


def test_round_trip_loses_exactly_what_the_left_view_hides():
    nearness = square_nearness()
    budget = Budget(span_px=8.0, convergence=0.0, frame_width_px=640)  # the plane on the screen, the square 8 px out
    pair = round_trip(picture(64, 160), nearness, budget)
    warped = forward_warp(pair.left[None], pair.disparity[None])
    # halved, the square is columns 30..50 of the frame; in the left view it stands 8 px to the right and hides 50..58
    expected = torch.zeros(1, 32, 80, dtype=torch.bool)
    expected[:, 8:24, 50:58] = True
    assert (warped.hole[0] == expected).float().mean() > 0.995  # at most a column at its outline
    assert psnr(warped.view[0], pair.right, ~warped.hole[0]) > 40


def test_frame_is_the_right_view_of_the_pair():
    frame = picture(64, 160)
    pair = round_trip(frame, square_nearness(), BUDGET)
    torch.testing.assert_close(pair.right, torch.nn.functional.avg_pool2d(frame[None], 2)[0])


def test_round_trip_leaves_no_blur_of_its_own():
    torch.manual_seed(0)
    noise = torch.nn.functional.avg_pool2d(torch.rand(1, 3, 258, 258), 3, 1)[0]  # detail up to a camera's limit
    pair = round_trip(noise, torch.full((1, 256, 256), 0.77), Budget(9.0, 0.0, 640))  # 6.93 px: no whole number
    detail = [float(laplacian_variance(luma(view[None, ..., 20:-20]), None)) for view in (pair.left, pair.right)]
    assert detail[0] / detail[1] == pytest.approx(1, abs=0.1)  # one Lanczos pass at full size alone would take 0.2


def test_halved_disparity_holds_no_mean_of_two_surfaces():
    pair = round_trip(picture(64, 160), square_nearness().roll(1, -1), Budget(8.0, 0.0, 640))
    assert set(pair.disparity.unique().tolist()) <= {0.0, 8.0}


@pytest.mark.parametrize("seed", range(6))
def test_mono_samples_fit_their_truth_wherever_the_crop_lies(tmp_path, seed):
    clip = save_clip(tmp_path, "clip", size=(128, 256))
    frame, nearness = picture(128, 256), torch.zeros(1, 128, 256)
    nearness[:, 20:100, 100:150] = 1
    levels = (frame.permute(1, 2, 0)[None] * 255).round().byte().numpy()
    write_frames(tmp_path / "clip_frames.mkv", np.repeat(levels, 3, 0))
    write_frames(tmp_path / "clip_nearness.mkv", np.repeat((nearness * 65535).numpy().astype(np.uint16), 3, 0))
    sample = MonoClips([clip], 64).sample(np.random.default_rng(seed))
    assert sample.right.shape == (3, 64, 64)
    # mixed pixels along the square and resampling leave 30 dB; a crop misplaced by one column gives 20 dB
    assert psnr(sample.warped, sample.right, ~sample.hole) > 27


def test_clips_too_small_for_the_crop_are_refused(tmp_path):
    with pytest.raises(OptionError, match="clip small is 96x64, a crop of 40 needs 80 px"):
        MonoClips([save_clip(tmp_path, "small")], 40)
    with pytest.raises(OptionError, match="clip pair is 96x64, smaller than the crop of 80 px"):
        StereoClips([save_clip(tmp_path, "pair", "stereo")], 80)


# --- cached clips ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "channels"), [(np.uint8, (3,)), (np.uint8, ()), (np.uint16, ())])
def test_cached_frames_come_back_bit_for_bit_in_any_order(tmp_path, dtype, channels):
    levels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (7, 18, 34, *channels), dtype)
    write_frames(tmp_path / "clip.mkv", levels)
    for index in (6, 0, 3, 3, 5):
        frame = read_frame(tmp_path / "clip.mkv", index)
        found = (frame * np.iinfo(dtype).max).round().numpy().astype(dtype)
        np.testing.assert_array_equal(found.transpose(1, 2, 0) if channels else found[0], levels[index])


def test_unreadable_cached_frames_are_told(tmp_path):
    write_frames(tmp_path / "clip.mkv", np.zeros((2, 16, 16), np.uint8))
    with pytest.raises(InputError, match=r"clip.mkv has no frame 2"):
        read_frame(tmp_path / "clip.mkv", 2)
    with pytest.raises(InputError, match=r"other.mkv cannot be read as a cached clip"):
        read_frame(tmp_path / "other.mkv", 0)
    with pytest.raises(ValueError, match=r"frames must be .* got \(16, 16\) float32"):
        write_frames(tmp_path / "clip.mkv", np.zeros((2, 16, 16), np.float32))


def test_stereo_samples_are_the_same_crop_of_every_file(tmp_path):
    clip = save_clip(tmp_path, "pair", "stereo")
    sample = StereoClips([clip], 40).sample(np.random.default_rng(0))
    whole = [{name: read_frame(clip.path(name), t) for name in clip.files} for t in range(3)]
    views = {"left": sample.left, "right": sample.right, "warped": sample.warped, "poly": sample.poly}
    views |= {"dl": sample.dl, "de": sample.expansion, "hole": sample.hole.float()}
    places = [
        (t, y, x)
        for t in range(3)
        for y in range(25)
        for x in range(57)
        if torch.equal(whole[t]["left"][:, y : y + 40, x : x + 40], sample.left)
    ]
    assert len(places) == 1
    t, y, x = places[0]
    for name, view in views.items():
        torch.testing.assert_close(view, whole[t][name][:, y : y + 40, x : x + 40], atol=0, rtol=0)


def test_manifest_comes_back_as_written(tmp_path):
    clips = [save_clip(tmp_path, "one"), save_clip(tmp_path, "two", "stereo", known_psnr_db=31.5, split="test")]
    write_manifest(tmp_path / "manifest.json", clips)
    assert read_manifest(tmp_path / "manifest.json", check_hashes=True) == clips


def test_damaged_and_missing_files_are_told(tmp_path):
    clip = save_clip(tmp_path, "one")
    write_manifest(tmp_path / "manifest.json", [clip])
    clip.path("frames").write_bytes(b"something else")
    read_manifest(tmp_path / "manifest.json")
    with pytest.raises(InputError, match=r"one_frames.mkv is not the file that was prepared"):
        read_manifest(tmp_path / "manifest.json", check_hashes=True)
    clip.path("frames").unlink()
    with pytest.raises(InputError, match=r"one_frames.mkv is missing"):
        read_manifest(tmp_path / "manifest.json")


def test_wrong_manifests_are_told(tmp_path):
    path = tmp_path / "manifest.json"
    with pytest.raises(InputError, match="cannot be read"):
        read_manifest(path)
    for content in ("no json", "[]", '{"version": 1}', '{"version": 1, "clips": [{"kind": "mono", "files": {}}]}'):
        path.write_text(content)
        with pytest.raises(InputError, match="is no manifest of prepared clips"):
            read_manifest(path)
    path.write_text(json.dumps({"version": 2, "clips": []}))
    with pytest.raises(InputError, match="of version 2, expected 1"):
        read_manifest(path)


def test_one_scene_in_two_splits_is_refused(tmp_path):
    clips = [save_clip(tmp_path, "a", scene="park"), save_clip(tmp_path, "b", scene="park", split="validation")]
    write_manifest(tmp_path / "manifest.json", clips)
    with pytest.raises(InputError, match="scene 'park' is in both train and validation"):
        read_manifest(tmp_path / "manifest.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "film"}, "kind must be one of stereo, mono, got 'film'"),
        ({"split": "exam"}, "split must be one of train, validation, test, got 'exam'"),
        ({"kind": "stereo"}, "a stereo clip has the files left, right"),
        ({"frames": 0}, "got 0 frames of 2x2"),
    ],
)
def test_clips_check_themselves(tmp_path, change, message):
    files = {name: CachedFile(tmp_path / name, "") for name in ("frames", "nearness")}
    clip = CachedClip("mono", "a", "a", "ours", "CC0-1.0", True, "train", 1, 2, 2, files)
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(clip, **change)


# --- augmentation and mixing ----------------------------------------------------------------------------------------


def example(seed=0):
    torch.manual_seed(seed)
    hole = torch.zeros(1, 32, 32, dtype=torch.bool)
    hole[:, 4:28, 8:20] = True
    return Sample(*(torch.rand(3, 32, 32) for _ in range(6)), hole)


def branches_of(sample):
    return [getattr(sample, name) for name in BRANCH_FIELDS]


def test_no_chance_changes_nothing():
    sample = example()
    for mine, before in zip(augment(sample, NEVER, np.random.default_rng(0)), sample):
        assert mine is before


@pytest.mark.parametrize("kind", ["drop", "swap", "degrade", "reveal"])
def test_augmentation_touches_branches_only(kind):
    sample = example()
    changed = augment(sample, dataclasses.replace(NEVER, **{kind: 1.0}), np.random.default_rng(1))
    for name in ("left", "right", "warped", "hole"):
        assert getattr(changed, name) is getattr(sample, name)
    same = [torch.equal(mine, before) for mine, before in zip(branches_of(changed), branches_of(sample))]
    assert not all(same)
    if kind in ("degrade", "reveal"):
        for mine, before in zip(branches_of(changed), branches_of(sample)):
            outside = ~sample.hole.expand(3, -1, -1)
            assert torch.equal(mine[outside], before[outside])
            assert mine.min() >= 0
            assert mine.max() <= 1


def test_dropped_branch_is_another_and_swapped_ones_change_places():
    sample = example()
    dropped = branches_of(augment(sample, dataclasses.replace(NEVER, drop=1.0), np.random.default_rng(2)))
    assert len({id(view) for view in dropped}) == 2
    swapped = branches_of(augment(sample, dataclasses.replace(NEVER, swap=1.0), np.random.default_rng(2)))
    assert {id(view) for view in swapped} == {id(view) for view in branches_of(sample)}


def test_revealed_branch_is_nearer_the_truth():
    sample = example()._replace(right=picture(32, 32))
    for seed in range(5):
        changed = augment(sample, dataclasses.replace(NEVER, reveal=1.0), np.random.default_rng(seed))
        assert psnr(changed.dl, sample.right, sample.hole) >= psnr(sample.dl, sample.right, sample.hole)


def test_chances_outside_their_range_are_refused():
    with pytest.raises(ValueError, match=r"swap is a chance in \[0, 1\], got 1.5"):
        Augmentation(swap=1.5)


class Constant:
    """A source whose every sample shows one value."""

    def __init__(self, value):
        self.value = value

    def sample(self, random):
        return Sample(*[torch.full((3, 2, 2), self.value)] * 6, torch.zeros(1, 2, 2, dtype=torch.bool))


def test_sources_are_mixed_by_weight():
    sources = {"a": Constant(0.0), "b": Constant(1.0), "unused": Constant(0.5)}
    mixture = Mixture(sources, {"a": 1.0, "b": 3.0}, seed=0, length=600)
    values = [float(mixture[i].left.mean()) for i in range(len(mixture))]
    assert set(values) == {0.0, 1.0}
    assert np.mean(values) == pytest.approx(0.75, abs=0.07)  # four standard deviations


def test_sample_depends_on_seed_and_number_alone():
    def draw(seed, number):
        return Mixture({"s": Scenes(32)}, {"s": 1.0}, seed=seed, length=9, augmentation=Augmentation())[number]

    first, again, other = draw(0, 5), draw(0, 5), draw(1, 5)
    assert all(torch.equal(mine, same) for mine, same in zip(first, again))
    assert not torch.equal(first.left, other.left)
    assert not torch.equal(first.left, draw(0, 6).left)


def test_processes_share_the_numbers_without_gap_or_overlap():
    takes = []
    for process in range(3):
        numbers = iter(NumberedSamples(start=12, process=process, processes=3))
        takes.append([next(numbers) for _ in range(4)])
    assert sorted(number for take in takes for number in take) == list(range(12, 24))


def test_sources_hold_the_wanted_clips_only(tmp_path):
    clips = [
        save_clip(tmp_path, "good", "stereo", known_psnr_db=30.0, frames=1),
        save_clip(tmp_path, "misfit", "stereo", known_psnr_db=24.9, frames=1),
        save_clip(tmp_path, "closed", "stereo", commercial=False, frames=1),
        save_clip(tmp_path, "held", "stereo", split="validation", known_psnr_db=20.0, frames=1),
    ]
    write_manifest(tmp_path / "manifest.json", clips)

    def names(split, commercial_only=False, source="ours"):
        found = open_sources(
            [tmp_path / "manifest.json"], split, 32, names=["synthetic", source], commercial_only=commercial_only
        )
        assert isinstance(found["synthetic"], Scenes)
        return {clip.name for clip in found[source].clips} if source in found else set()

    assert names("train") == {"good", "closed"}
    assert names("train", commercial_only=True) == {"good"}
    assert names("validation") == {"held"}  # validation keeps all
    assert names("test") == set()
    with pytest.raises(OptionError, match="source 'theirs' has no clips to train on; the sources are ours, synthetic"):
        names("train", source="theirs")


def test_one_source_of_two_kinds_is_refused(tmp_path):
    write_manifest(tmp_path / "manifest.json", [save_clip(tmp_path, "a"), save_clip(tmp_path, "b", "stereo")])
    with pytest.raises(OptionError, match="source 'ours' has both stereo and mono clips"):
        open_sources([tmp_path / "manifest.json"], "train", 32, names=["ours"], commercial_only=False)


def test_sample_is_what_a_conversion_computes():
    """The single-frame branches here are those of `spatialme.inpaint` on a one-frame shot."""
    from spatialme.inpaint.polyline import Polyline
    from spatialme.types import Clip, WarpedClip

    pair = draw_scene(np.random.default_rng(4), BUDGET, height=48, width=64)
    sample = build_sample(pair, BUDGET, 0, 64)
    warped = forward_warp(pair.left[None], pair.disparity[None])
    clip = Clip(pair.left[None], (None,), 0, 0, starts_shot=True, ends_shot=True)
    conversion = WarpedClip(clip, pair.disparity[None], warped.view, warped.disparity, warped.hole)
    torch.testing.assert_close(next(Polyline().stream([conversion])).view[0], sample.poly, atol=0, rtol=0)
    assert torch.equal(sample.hole, warped.hole[0])
