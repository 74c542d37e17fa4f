"""What the shipped refiner's training adds to the paper's: kept patches, schedule, starting weights, seams, LPIPS."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from spatialme.errors import OptionError, WeightsError
from spatialme.evaluation.perceptual import Lpips
from spatialme.refine import Refiner, compose
from spatialme.refine.mhfu import MHFU, SIZES, initial_blend
from spatialme.training.initial import start_from_differences, start_from_mean
from spatialme.training.schedule import Schedule
from tests.test_refine import trained

pytest.importorskip("lightning.pytorch", reason="training needs lightning")

from lightning.pytorch.callbacks import ModelCheckpoint

from spatialme.training.losses import LossWeights, content_loss, perceptual_loss
from tests.test_training import (  # noqa: F401 - fixtures
    answer_of,
    fit_same,
    make_module,
    make_trainer,
    pytestmark,
    samples,
    single_thread,
    synthetic,
    vgg19,
)


def kept_data(folder: Path, **settings):
    return synthetic(**{"crop": 48, "patch": 32, "pool": 3, "pool_folder": folder, "disturbance": 0.5, **settings})


def test_run_on_kept_patches_resumes_to_the_step(tmp_path):
    """The whole run makes its samples, the resumed one finds them."""

    def run(steps, checkpoint=None):
        subject = make_module(schedule=Schedule(warmup_steps=2), first_m3=0.9)
        saver = ModelCheckpoint(dirpath=tmp_path, filename=f"after-{steps}", every_n_train_steps=steps)
        trainer = make_trainer(steps, enable_checkpointing=True, callbacks=[saver])
        trainer.fit(subject, datamodule=kept_data(tmp_path / "pools"), ckpt_path=checkpoint)
        return subject.state_dict()

    whole = run(4)
    assert len(list((tmp_path / "pools").glob("*.samples"))) == 1
    run(2)
    resumed = run(4, tmp_path / "after-2.ckpt")
    for name, value in whole.items():
        assert torch.equal(resumed[name], value), name


def test_pools_of_other_settings_are_other_files(tmp_path):
    keys = {
        kept_data(tmp_path, **change)._pool_key()
        for change in (
            {},
            {"seed": 1},
            {"crop": 64},
            {"disturbance": 0.1},
            {"pool": 4},
            {"sources": {"synthetic": 2.0}},
        )
    }
    assert len(keys) == 6
    assert kept_data(tmp_path, patch=40)._pool_key() in keys  # patches are cut from the same samples


@pytest.mark.parametrize("settings", [{"pool": 3}, {"patch": 32}, {"pool": 3, "patch": 24}, {"pool": 3, "patch": 40}])
def test_pool_and_patch_come_together_and_fit(settings):
    with pytest.raises(OptionError, match="expected both or neither, and patches of 32 to 32 px"):
        synthetic(**settings)


def test_schedule_rises_and_falls_as_said():
    schedule = Schedule(decay="cosine", warmup_steps=9)
    shares = [schedule.share(step, 100) for step in range(101)]
    assert shares[0] == pytest.approx(0.1, rel=1e-3)
    assert shares[9] == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.09)))
    assert shares[50] == pytest.approx(0.5)
    assert shares[100] == 0
    assert Schedule().share(0, 100) == Schedule().share(10**6, 100) == 1.0
    with pytest.raises(ValueError, match="warmup_steps must not be negative, got -1"):
        Schedule(warmup_steps=-1)


def test_optimisers_follow_the_schedule(samples):  # noqa: F811 - fixture
    subject = make_module(schedule=Schedule(decay="cosine"), learning_rate=1e-3)
    fit_same(subject, samples, 4)
    # the last of four steps is step 3
    expected = 1e-3 * 0.5 * (1 + math.cos(math.pi * 0.75))
    for optimiser in subject.optimizers(use_pl_optimizer=False):
        assert [group["lr"] for group in optimiser.param_groups] == pytest.approx([expected])


def test_first_m3_is_what_the_run_starts_from(samples):  # noqa: F811 - fixture
    answer = answer_of(make_module(first_m3=0.8).network, samples)
    torch.testing.assert_close(answer.m3, torch.full_like(answer.m3, 0.8))
    assert (answer_of(make_module().network, samples).content == 0.5).all()  # METHOD's start
    with pytest.raises(OptionError, match=r"first_m3 is 1\.0, expected more than 0 and less than 1"):
        make_module(first_m3=1.0)


def test_run_goes_on_from_exported_weights(tmp_path, samples):  # noqa: F811 - fixture
    path = tmp_path / "start.safetensors"
    network = trained(SIZES["small"])
    Refiner(network, trained=True).save(path)
    subject = make_module(start=path)
    for name, value in network.state_dict().items():
        assert torch.equal(subject.network.state_dict()[name], value), name
        assert torch.equal(subject.average.state_dict()[name], value), name
    fit_same(subject, samples, 1)
    assert not torch.equal(subject.network.tail[-1].weight, network.tail[-1].weight)
    Refiner(MHFU(SIZES["base"]), trained=True).save(path)
    with pytest.raises(WeightsError, match=r"holds a refiner of .* expected .* set model.size"):
        make_module(start=path)


def test_perceptual_loss_looks_at_the_middle_of_the_first_samples(samples, vgg19):  # noqa: F811 - fixtures
    settings = {"weights": LossWeights(content=0, adversarial=0), "vgg19": vgg19}
    subject = make_module(perceptual_patches=1, perceptual_side=16, **settings)
    answer = answer_of(subject.network, samples)
    middle = [view[:1, :, 16:32, 16:32] for view in (answer.fused, samples.right)]
    expected = perceptual_loss(*(subject.vgg(view) for view in middle))
    torch.testing.assert_close(subject.refiner_terms(answer, samples)["perceptual"], expected)


@pytest.mark.parametrize("size", SIZES)
def test_start_from_the_mean_makes_it_the_content(size):
    torch.manual_seed(0)
    network = MHFU(SIZES[size])
    start_from_mean(network, 0.7)
    branches = [smooth_picture() for _ in range(3)]
    answer = network(*branches, torch.zeros(1, 1, 48, 48))
    error = (answer.content - sum(branches) / 3)[..., 8:-8, 8:-8]
    assert float(error.square().mean().sqrt()) < 0.01  # broken lines for a curve; a straight one leaves 0.017
    torch.testing.assert_close(answer.m3, torch.full_like(answer.m3, 0.7))
    assert (answer.m1 == 0.5).all()
    torch.testing.assert_close(answer.m2, torch.full_like(answer.m2, 2 / 3))
    torch.testing.assert_close(answer.fused, 0.7 * sum(branches) / 3 + 0.3 * answer.content)


@pytest.mark.parametrize("size", SIZES)
def test_start_from_differences_tells_branches_apart_at_every_level(size):
    torch.manual_seed(0)
    plain, network = MHFU(SIZES[size]), MHFU(SIZES[size])
    start_from_differences(network)
    picture = smooth_picture()
    alike = [(picture + 0.03 * torch.randn_like(picture)).clamp(0, 1) for _ in range(3)]
    hole = torch.zeros(1, 1, 48, 48)
    torch.testing.assert_close(network(*alike, hole).fused, initial_blend(*alike))

    def spread(subject):
        """Of what the levels' encoders and the tail's last layer but one tell: its least standard deviation."""
        told = []
        hooks = [
            layers.register_forward_hook(lambda *seen: told.append(float(seen[2].std((2, 3)).mean())))
            for layers in (*subject.encoders, subject.tail[0])
        ]
        subject(*alike, hole)
        for hook in hooks:
            hook.remove()
        return min(told)

    assert spread(network) > 0.1  # of PyTorch's own start 0.001 to 0.03 is left
    assert spread(plain) < 0.03


def test_start_from_differences_is_a_setting(samples):  # noqa: F811 - fixture
    subject, plain = make_module(first_contrast=True), make_module()
    assert not torch.equal(subject.network.encoders[1][0].weight, plain.network.encoders[1][0].weight)
    torch.testing.assert_close(answer_of(subject.network, samples).fused, answer_of(plain.network, samples).fused)
    both = make_module(first_contrast=True, first_m3=0.8)
    torch.testing.assert_close(answer_of(both.network, samples).m3, torch.full_like(samples.poly[:, :1], 0.8))


def smooth_picture():
    coarse = 0.05 + 0.9 * torch.rand(1, 3, 6, 6)
    return torch.nn.functional.interpolate(coarse, (48, 48), mode="bilinear", align_corners=False)


def test_every_weight_learns_from_that_start(samples):  # noqa: F811 - fixture
    subject = make_module(first_m3=0.5, weights=LossWeights(perceptual=0, adversarial=0, generated=1))
    before = {name: value.clone() for name, value in subject.network.state_dict().items()}
    fit_same(subject, samples, 2)
    for name, value in subject.network.state_dict().items():
        assert not torch.equal(value, before[name]), name


def test_relative_loss_counts_every_sample_by_its_branches_mean(samples):  # noqa: F811 - fixture
    reference = (samples.poly + samples.expansion + samples.dl) / 3
    own = content_loss(reference, samples.right, samples.hole, 10.0, reference=reference)
    assert float(own) == pytest.approx(1.0)
    halved = (reference + samples.right) / 2
    assert float(content_loss(halved, samples.right, samples.hole, 10.0, reference=reference)) == pytest.approx(0.5)
    exact = samples.right  # divided by no less than one level
    assert float(content_loss(exact + 0.5 / 255, exact, samples.hole, 1.0, reference=exact)) == pytest.approx(0.5, 1e-4)
    answer = answer_of(make_module().network, samples)
    weights = LossWeights(perceptual=0, adversarial=0, generated=1, relative=True)
    terms = make_module(weights=weights).refiner_terms(answer, samples)
    for name, view in (("content", answer.fused), ("generated", answer.content)):
        torch.testing.assert_close(
            terms[name], content_loss(view, samples.right, samples.hole, 10.0, reference=reference)
        )


def test_losses_see_soft_seams_in_the_holes_and_the_refined_view_elsewhere(samples):  # noqa: F811 - fixture
    subject = make_module(soft_seams=True, weights=LossWeights(perceptual=0, adversarial=0, generated=1))
    answer = answer_of(subject.network, samples)
    written = compose(samples.warped, samples.hole, answer.fused, soft=True)
    seen = torch.where(samples.hole, written, answer.fused)
    terms = subject.refiner_terms(answer, samples)
    torch.testing.assert_close(terms["content"], content_loss(seen, samples.right, samples.hole, 10.0))
    content = content_loss(answer.content, samples.right, samples.hole, 10.0)
    torch.testing.assert_close(terms["generated"], content)
    hard = make_module(weights=LossWeights(perceptual=0, adversarial=0)).refiner_terms(answer, samples)
    assert abs(float(hard["content"] - terms["content"])) > 1e-4


def test_lpips_term_is_that_of_the_tables_and_falls_when_trained_on(samples):  # noqa: F811 - fixture
    lpips = Lpips()
    weights = LossWeights(content=0, perceptual=0, adversarial=0, lpips=1, hole=1e6)
    subject = make_module(weights=weights, soft_seams=True, learning_rate=2e-3)

    def in_holes():
        written = compose(samples.warped, samples.hole, answer_of(subject.network, samples).fused, soft=True)
        seen = torch.where(samples.hole, written, answer_of(subject.network, samples).fused)
        return float(lpips(seen, samples.right)[1][samples.hole].mean())

    before = in_holes()
    term = subject.refiner_terms(answer_of(subject.network, samples), samples)["lpips"]
    assert float(term) == pytest.approx(before, rel=1e-3)
    fit_same(subject, samples, 8)
    assert in_holes() < before - 1e-3
    assert not any("lpips" in name for name in subject.state_dict())
