"""Samples that are kept, patches around their holes, and disparity with the errors of a real one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from spatialme.data.augment import Augmentation
from spatialme.data.disturb import LARGEST_SHIFT_PX, disturb_disparity
from spatialme.data.mixture import Mixture
from spatialme.data.mono import MonoClips
from spatialme.data.patches import Patches, cut_patch
from spatialme.data.pool import Pool
from spatialme.data.sample import Sample
from spatialme.data.scenes import Scenes
from tests.test_data import save_clip

HALF_LEVEL = 0.5 / 255 + 1e-6  # what rounding to 8 bits may change


class Counting(Dataset[Sample]):
    """Random samples of 40x40, and how often each was asked for; one hole pixel each."""

    def __init__(self, hole_at=(30, 5)):
        self.asked = []
        self.hole_at = hole_at

    def __getitem__(self, index):
        self.asked.append(index)
        torch.manual_seed(index)
        hole = torch.zeros(1, 40, 40, dtype=torch.bool)
        if self.hole_at:
            hole[(0, *self.hole_at)] = True
        return Sample(*(torch.rand(3, 40, 40) for _ in range(6)), hole=hole)


def assert_close(kept, made):
    for mine, other in zip(kept, made):
        torch.testing.assert_close(mine.float(), other.float(), atol=HALF_LEVEL, rtol=0)


def test_pool_makes_each_sample_once_and_keeps_it_for_the_next_process(tmp_path):
    samples = Counting()
    pool = Pool(samples, 5, 40, tmp_path / "folder" / "a.samples")
    assert len(pool) == 5
    first = pool[3]
    assert_close(first, Counting()[3])
    assert_close(pool[0], Counting()[0])
    again = Pool(samples, 5, 40, tmp_path / "folder" / "a.samples")
    for mine, other in zip(again[3], first):
        assert torch.equal(mine, other)
    assert samples.asked == [3, 0]
    assert pool[3].hole.dtype == torch.bool


def test_pool_travels_to_workers_without_its_mapping(tmp_path):
    pool = Pool(Counting(), 2, 40, tmp_path / "a.samples")
    kept = pool[1]
    assert pool._mapped is not None
    state = pool.__getstate__()
    assert state["_mapped"] is None
    copied = Pool.__new__(Pool)
    copied.__dict__.update(state)
    assert torch.equal(copied[1].left, kept.left)


@pytest.mark.parametrize("hole_at", [(30, 5), (0, 0), (39, 39), (20, 20)])
def test_patch_lies_around_a_hole_inside_the_sample(hole_at):
    sample = Counting(hole_at)[0]
    shown = 0
    for seed in range(40):
        patch = cut_patch(sample, 16, np.random.default_rng(seed))
        assert patch.left.shape == (3, 16, 16)
        assert patch.hole.shape == (1, 16, 16)
        shown += bool(patch.hole.any())
    assert shown >= 32  # nine of ten are to show it


def test_patch_without_a_hole_lies_anywhere():
    sample = Counting(None)[0]
    corners = {float(cut_patch(sample, 16, np.random.default_rng(seed)).left[0, 0, 0]) for seed in range(20)}
    assert len(corners) > 15


def test_patch_depends_on_seed_and_number_alone_and_keeps_its_views_together():
    class Marked(Counting):
        def __getitem__(self, index):
            """Every view is the same picture, so that whatever is done to one must be done to all."""
            sample = super().__getitem__(index)
            return Sample(*[sample.left] * 6, hole=sample.hole)

    patches = Patches(Marked(), 3, 16, seed=1)
    orders = set()
    for number in range(12):
        patch, again = patches[number], Patches(Marked(), 3, 16, seed=1)[number]
        assert all(torch.equal(mine, other) for mine, other in zip(patch, again))
        assert all(torch.equal(view, patch.left) for view in patch[:-1])
        original = [Counting()[k].left for k in range(3)]
        corner = patch.left[:, 0, 0]
        place = [(picture == corner[0]).nonzero() for picture in original]
        orders |= {int(found[0, 0]) for found in place if len(found)}
    assert orders == {0, 1, 2}  # primary colours change places
    assert not torch.equal(patches[0].left, Patches(Marked(), 3, 16, seed=2)[0].left)


def test_patches_are_augmented_each_anew():
    always = Augmentation(drop=1, swap=0, degrade=0, reveal=0)
    patch = Patches(Counting(), 3, 16, seed=1, augmentation=always)[0]
    branches = [patch.poly, patch.expansion, patch.dl]
    assert sum(torch.equal(a, b) for i, a in enumerate(branches) for b in branches[:i]) == 1


def test_disturbed_disparity_is_smooth_off_and_steps_move_by_little():
    exact = torch.zeros(1, 80, 120)
    exact[:, :, 60:] = 10
    for seed in range(10):
        found = disturb_disparity(exact, np.random.default_rng(seed))
        assert found.shape == exact.shape
        assert found.dtype == torch.float32
        away = torch.cat([found[..., : 60 - LARGEST_SHIFT_PX], found[..., 60 + LARGEST_SHIFT_PX :] - 10], -1)
        assert away.abs().max() < 3  # five deviations and the overshoot of cubic interpolation
        assert (away.diff(dim=-2).abs() < 0.75).all()  # far from a tear, which is at 1.5 px
    moved = (disturb_disparity(exact, np.random.default_rng(3)) > 5) != (exact > 5)
    assert moved.any()
    assert not torch.equal(exact[..., 60:], torch.zeros(1, 80, 60))  # the map given is left as it was


def test_sources_disturb_the_share_they_are_told(tmp_path):
    def drawn(source, seed):
        return source.sample(np.random.default_rng(seed))

    clip = save_clip(tmp_path, "a", size=(64, 160))
    for exact, never, always in [
        (Scenes(32), Scenes(32, 0.0), Scenes(32, 1.0)),
        (MonoClips([clip], 32), MonoClips([clip], 32, 0.0), MonoClips([clip], 32, 1.0)),
    ]:
        assert torch.equal(drawn(exact, 0).warped, drawn(never, 0).warped)
        assert not torch.equal(drawn(exact, 0).warped, drawn(always, 0).warped)
        assert torch.equal(drawn(exact, 0).right, drawn(always, 0).right)  # the truth has no errors


def test_kept_scenes_are_those_of_the_mixture(tmp_path):
    mixture = Mixture({"s": Scenes(32)}, {"s": 1.0}, seed=3, length=4)
    assert_close(Pool(mixture, 4, 32, tmp_path / "a.samples")[2], mixture[2])
