"""The training step, runs that go on where they stopped, the commands, and the exported file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch.utils.data import DataLoader

from spatialme.data.mixture import Mixture
from spatialme.data.mono import round_trip
from spatialme.data.sample import Budget, Sample, build_sample
from spatialme.data.scenes import Scenes
from spatialme.errors import OptionError, SpatialmeError, WeightsError
from spatialme.refine import Refiner, compose
from spatialme.refine.mhfu import initial_blend
from spatialme.training import commands
from spatialme.training.losses import LossWeights
from tests.test_data import picture, square_nearness

pl = pytest.importorskip("lightning.pytorch", reason="training needs lightning")

from lightning.pytorch.callbacks import ModelCheckpoint  # noqa: E402
from lightning.pytorch.loggers import TensorBoardLogger  # noqa: E402

from spatialme.training import cli, module  # noqa: E402
from spatialme.training.callbacks import Panels, sample_panels  # noqa: E402
from spatialme.training.data_module import StereoData  # noqa: E402
from spatialme.training.module import StereoModule  # noqa: E402
from spatialme.training.schedule import Schedule  # noqa: E402
from spatialme.training.scores import view_scores  # noqa: E402

SMOKE = Path(__file__).parents[1] / "configs/fit/smoke.yaml"
# the depth ones are started by test_depth_training.py
CONFIGS = sorted(path for path in SMOKE.parent.glob("*.yaml") if not path.stem.startswith("depth_"))
NO_VGG = LossWeights(perceptual=0)
ONLY_CONTENT = LossWeights(perceptual=0, adversarial=0)

pytestmark = [
    pytest.mark.filterwarnings("ignore::lightning.pytorch.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),  # Lightning's advice on workers, loggers and log folders
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def single_thread():
    """Networks this small run faster on one thread, and many times so on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def samples():
    """Two scenes of 48 px as one batch."""
    mixture = Mixture({"s": Scenes(48)}, {"s": 1.0}, seed=3, length=2)
    return next(iter(DataLoader(mixture, batch_size=2)))


@pytest.fixture(scope="module")
def vgg19(tmp_path_factory):
    """A file of random VGG19 weights."""
    from torchvision.models.vgg import cfgs, make_layers

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    torch.save(make_layers(cfgs["E"])[:20].state_dict(), path)
    return path


class SameBatch(torch.utils.data.IterableDataset):
    """One batch again and again."""

    def __init__(self, batch):
        self.batch = batch

    def __iter__(self):
        while True:
            yield self.batch


def make_module(**settings):
    torch.manual_seed(0)
    return StereoModule(**{"critic_channels": (16, 32), "weights": NO_VGG, **settings})


def make_trainer(steps, **settings):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    quiet |= {"enable_model_summary": False, "num_sanity_val_steps": 0, "limit_val_batches": 0}
    defaults = {**cli.TRAINER_DEFAULTS, **quiet, "devices": 1}
    return pl.Trainer(accelerator="cpu", max_steps=steps, **{**defaults, **settings})


def fit_same(subject, batch, steps, **settings):
    make_trainer(steps, **settings).fit(subject, DataLoader(SameBatch(batch), batch_size=None))
    return subject


def answer_of(network, batch):
    with torch.no_grad():
        return network(batch.poly, batch.expansion, batch.dl, batch.hole)


def view_of(network, batch):
    return answer_of(network, batch).fused


def psnr(first, second):
    return float(-10 * torch.log10((first - second).square().mean()))


@pytest.mark.parametrize("kind", ["wasserstein", "hinge"])
@pytest.mark.parametrize("sign", [1, -1])
def test_critic_and_refiner_each_step_their_own_way(samples, monkeypatch, kind, sign):
    """With a flipped sign both go the other way, so this test would notice."""
    for name in ("critic_loss", "generator_loss"):
        original = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *scores, original=original: sign * original(*scores))
    subject = make_module(weights=LossWeights(content=0, perceptual=0, adversarial=1), adversarial=kind)
    before = [make_module().network, make_module(adversarial=kind).critic.eval()]
    before[1].load_state_dict(subject.critic.state_dict())
    fit_same(subject, samples, 1)
    critic = subject.critic.eval()
    fake = view_of(before[0], samples)
    with torch.no_grad():
        margin = [float(judge(samples.right).mean() - judge(fake).mean()) for judge in (before[1], critic)]
        score = [float(critic(view).mean()) for view in (fake, view_of(subject.network, samples))]
    assert (margin[1] > margin[0]) == (sign > 0)  # equation 10 falls
    assert (score[1] > score[0]) == (sign > 0)  # mean D(fake) rises


@pytest.fixture(scope="module")
def one_pair():
    """A pair made of one smooth picture with a near square, as one batch: no branch reaches 30 dB."""
    budget = Budget(span_px=8.0, convergence=0.0, frame_width_px=640)
    sample = build_sample(round_trip(picture(64, 160), square_nearness(), budget), budget, 24, 48)
    return Sample(*(view[None] for view in sample))


@pytest.mark.slow
def test_300_steps_overfit_one_batch(one_pair, vgg19):
    assert max(psnr(getattr(one_pair, name), one_pair.right) for name in ("poly", "expansion", "dl")) < 30
    # the critic asks for likely pictures, not for this one; C starts as a fair picture, and the rate does not shake it,
    # for from METHOD's start M3 may shut it out before it has learnt anything
    weights = LossWeights(adversarial=0, generated=10)
    start = {"first_m3": 0.5, "learning_rate": 5e-4, "schedule": Schedule(warmup_steps=30, decay="cosine")}
    subject = make_module(size="base", weights=weights, vgg19=vgg19, **start)
    fit_same(subject, one_pair, 300)
    assert psnr(view_of(subject.network, one_pair), one_pair.right) > 35


def test_40_steps_bring_one_batch_nearer_and_a_flipped_sign_farther(one_pair, monkeypatch):
    start = psnr(view_of(make_module().network, one_pair), one_pair.right)
    subject = fit_same(make_module(weights=ONLY_CONTENT, learning_rate=4e-3), one_pair, 40)
    assert psnr(view_of(subject.network, one_pair), one_pair.right) > start + 2
    monkeypatch.setattr(module, "content_loss", lambda *terms, **_: -torch.nn.functional.l1_loss(*terms[:2]))
    flipped = fit_same(make_module(weights=ONLY_CONTENT, learning_rate=4e-3), one_pair, 20)
    assert psnr(view_of(flipped.network, one_pair), one_pair.right) < start


def test_total_is_the_weighted_sum_of_equation_11(samples, vgg19):
    subject = make_module(weights=LossWeights(), vgg19=vgg19)
    terms = subject.refiner_terms(answer_of(subject.network, samples), samples)
    trainer = make_trainer(1)
    trainer.fit(subject, DataLoader(SameBatch(samples), batch_size=None))
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert logged["train/content"] == pytest.approx(float(terms["content"]))
    assert logged["train/perceptual"] == pytest.approx(float(terms["perceptual"]))
    total = sum(logged[f"train/{name}"] * getattr(LossWeights(), name) for name in terms)
    assert logged["train/loss"] == pytest.approx(total, rel=1e-5)


def test_generated_content_is_scored_alone(samples):
    subject = make_module(weights=LossWeights(perceptual=0, adversarial=0, generated=1))
    answer = answer_of(subject.network, samples)
    found = subject.refiner_terms(answer, samples)["generated"]
    # an untrained C is mid-grey everywhere
    weight = 1 + 9 * samples.hole.float()
    torch.testing.assert_close(found, (weight * (0.5 - samples.right).abs()).mean())


def test_terms_that_are_off_need_nothing(samples):
    subject = make_module(weights=ONLY_CONTENT)
    assert subject.critic is None
    assert subject.vgg is None
    assert set(subject.refiner_terms(answer_of(subject.network, samples), samples)) == {"content"}


def test_gradients_are_clipped(samples):
    subject = fit_same(make_module(weights=ONLY_CONTENT, clip_norm=1e-3), samples, 1)
    free = fit_same(make_module(weights=ONLY_CONTENT, clip_norm=None), samples, 1)
    norms = [float(torch.nn.utils.get_total_norm(_gradients(each.network))) for each in (subject, free)]
    assert norms[0] == pytest.approx(1e-3, rel=1e-3)
    assert norms[1] > 2e-3


def _gradients(network):
    return [parameter.grad for parameter in network.parameters() if parameter.grad is not None]


def test_average_follows_the_weights(samples):
    subject = make_module(weights=ONLY_CONTENT, average_decay=0.75)
    start = {name: value.clone() for name, value in subject.network.state_dict().items()}
    fit_same(subject, samples, 1)
    for name, value in subject.average.state_dict().items():
        torch.testing.assert_close(value, 0.75 * start[name] + 0.25 * subject.network.state_dict()[name])
    without = fit_same(make_module(weights=ONLY_CONTENT, average_decay=None), samples, 2)
    for name, value in without.average.state_dict().items():
        torch.testing.assert_close(value, without.network.state_dict()[name])


def test_average_decay_is_checked():
    with pytest.raises(OptionError, match=r"average_decay is 1\.0, expected at least 0 and less than 1"):
        make_module(average_decay=1.0)


def test_bf16_trains(samples, vgg19):
    subject = make_module(weights=LossWeights(), vgg19=vgg19, learning_rate=2e-3)
    start = psnr(view_of(subject.network, samples), samples.right)
    fit_same(subject, samples, 6, precision="bf16-mixed")
    assert {value.dtype for value in subject.network.parameters()} == {torch.float32}
    assert psnr(view_of(subject.network, samples), samples.right) > start


def synthetic(**settings):
    return StereoData(**{"crop": 32, "batch_size": 2, "held_out_samples": 3, **settings})


def test_resumed_run_equals_one_that_never_stopped(tmp_path):
    def run(steps, checkpoint=None):
        subject = make_module()
        make_saver = ModelCheckpoint(dirpath=tmp_path, filename=f"after-{steps}", every_n_train_steps=steps)
        trainer = make_trainer(steps, enable_checkpointing=True, callbacks=[make_saver])
        trainer.fit(subject, datamodule=synthetic(), ckpt_path=checkpoint)
        assert trainer.global_step == int(subject.steps) == steps  # a step is a batch, for Lightning too
        return subject.state_dict()

    whole = run(5)
    run(2)
    resumed = run(5, tmp_path / "after-2.ckpt")
    for name, value in whole.items():
        assert torch.equal(resumed[name], value), name


@pytest.mark.slow
def test_two_processes_equal_one_with_twice_the_batch(tmp_path):
    def run(processes, batch_size):
        path = tmp_path / f"{processes}.ckpt"
        script = (
            "from tests.test_training import *\n"
            "torch.set_num_threads(1)\n"
            "if __name__ == '__main__':\n"
            f"    trainer = make_trainer(4, devices={processes}, strategy='ddp_find_unused_parameters_true')\n"
            f"    trainer.fit(make_module(), datamodule=synthetic(batch_size={batch_size}))\n"
            f"    trainer.save_checkpoint({str(path)!r})\n"
        )
        (tmp_path / "run.py").write_text(script)
        root = str(Path(__file__).parents[1])
        environment = {**os.environ, "PYTHONPATH": root, "PL_TORCH_DISTRIBUTED_BACKEND": "gloo", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, tmp_path / "run.py"]
        subprocess.run(command, check=True, env=environment, timeout=300, capture_output=True, cwd=tmp_path)
        return torch.load(path, weights_only=False)["state_dict"]

    one, two = run(1, 2), run(2, 1)
    assert int(two["steps"]) == 4
    for name, value in one.items():
        # four steps of Adam move a weight by 4e-4 at most; sums in another order change a hundredth of that
        torch.testing.assert_close(two[name], value, atol=4e-6, rtol=1e-3)


def test_workers_give_the_samples_of_the_main_process():
    batches = []
    for workers in (0, 1):
        data = synthetic(workers=workers, held_out_samples=2)
        batches.append(next(iter(data.val_dataloader()[0])))
    for mine, other in zip(*batches):
        assert torch.equal(mine, other)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"sources": {"synthetic": 0.0}}, "shares are .* expected more than 0"), ({"crop": 16}, "crop is 16 px")],
)
def test_data_settings_are_checked(settings, message):
    with pytest.raises(OptionError, match=message):
        synthetic(**settings)


def test_smoke_run_learns_validates_and_exports(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    finished = cli.run_cli("fit", ["--config", str(SMOKE)])
    trained, data = finished.model, finished.datamodule
    batch = next(iter(data.val_dataloader()[0]))
    start = make_module().refiner_terms(answer_of(make_module().network, batch), batch)["content"]
    # 2.3 % here: METHOD's start is the branches' blend already, and 20 steps of 2e-3 move a mask's logit by 0.04 at
    # most. A run that does not learn stays at 1, one of the wrong sign goes above it
    assert float(trained.refiner_terms(answer_of(trained.network, batch), batch)["content"]) < 0.985 * float(start)
    assert {"validation/synthetic/psnr_hole/refined", "validation/synthetic/psnr_hole/gain"} <= set(trained.scores)

    checkpoint = tmp_path / "lightning_logs/smoke/version_0/checkpoints/last.ckpt"
    weights = tmp_path / "refiner.safetensors"
    line = commands.export(checkpoint, weights)
    assert "after 20 steps" in line
    refiner = Refiner.load(weights, size="small")
    for name, value in refiner.network.state_dict().items():
        torch.testing.assert_close(value, trained.average.state_dict()[name], atol=1e-3, rtol=1e-3)  # half precision
    with safe_open(weights, framework="pt") as file:
        report = json.loads(file.metadata()["spatialme_training"])
    assert report["steps"] == 20
    assert report["scores"] == trained.scores

    judged = cli.run_cli("validate", ["--config", str(SMOKE), "--ckpt_path", str(checkpoint)])
    assert judged.trainer.callback_metrics["validation/synthetic/psnr_hole/refined"] == pytest.approx(
        trained.scores["validation/synthetic/psnr_hole/refined"], abs=1e-3
    )


def test_panels_reach_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(tmp_path)
    trainer = make_trainer(1, logger=logger, callbacks=[Panels(2)], limit_val_batches=1.0, val_check_interval=1)
    trainer.fit(make_module(), datamodule=synthetic())
    logger.finalize("success")
    events = EventAccumulator(logger.log_dir).Reload()
    assert events.Tags()["images"] == ["panels/synthetic"]


def test_panel_shows_every_view_once(samples):
    answer = make_module().network(samples.poly, samples.expansion, samples.dl, samples.hole)
    picture = sample_panels(samples, answer)
    assert picture.shape == (3, 2 * 3 * 48, 5 * 48)
    torch.testing.assert_close(picture[:, :48, :48], samples.left[0])
    torch.testing.assert_close(picture[:, 48:96, :48], samples.right[0])
    torch.testing.assert_close(picture[:, 144:192, 48:96], samples.poly[1])


def test_scores_are_psnr_of_composed_views_and_gain_is_over_the_best(samples):
    exact = samples._replace(dl=samples.right)
    scores = view_scores(exact, samples.poly)
    inside = samples.hole.expand(-1, 3, -1, -1)
    expected = [psnr(samples.poly[i][inside[i]], samples.right[i][inside[i]]) for i in range(2)]
    assert float(scores["psnr_hole/refined"][0]) == pytest.approx(sum(expected) / 2, abs=1e-3)
    assert float(scores["psnr_hole/dl"][0]) == 100
    written = compose(samples.warped, samples.hole, samples.poly, soft=True)
    expected_soft = [psnr(written[i][inside[i]], samples.right[i][inside[i]]) for i in range(2)]
    assert float(scores["psnr_hole/soft"][0]) == pytest.approx(sum(expected_soft) / 2, abs=1e-3)
    assert abs(sum(expected_soft) - sum(expected)) > 0.01
    blended = view_scores(exact, initial_blend(exact.poly, exact.expansion, exact.dl))
    torch.testing.assert_close(blended["psnr_hole/soft"], blended["psnr_hole/soft_blend"])
    torch.testing.assert_close(blended["psnr_hole/soft_blend"], scores["psnr_hole/soft_blend"])
    assert float(scores["psnr_hole/gain"][0]) == pytest.approx(sum(expected) / 2 - 100, abs=1e-3)
    assert float(scores["psnr_frame/everywhere"][0]) == pytest.approx(
        sum(psnr(samples.poly[i], samples.right[i]) for i in range(2)) / 2, abs=1e-3
    )


def test_samples_without_holes_do_not_count(samples):
    hole = samples.hole.clone()
    hole[0] = False
    value, count = view_scores(samples._replace(hole=hole), samples.dl)["psnr_hole/refined"]
    assert count == 1
    assert value.isfinite()


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_is_a_run_that_starts(path, tmp_path, monkeypatch, vgg19):
    """Its own settings, on synthetic scenes, at a small crop and for one step."""
    monkeypatch.chdir(tmp_path)
    assert path.read_text().startswith(f"# spatialme fit --config configs/fit/{path.name}")
    small = ["--trainer.fast_dev_run=1", "--trainer.accelerator=cpu", f"--model.vgg19={vgg19}", "--data.workers=0"]
    small += ["--data.sources={synthetic: 1}", "--data.crop=32", "--data.batch_size=1", "--data.held_out_samples=1"]
    if "pool:" in path.read_text():
        small += ["--data.pool=1", "--data.patch=32"]
    if "watched:" in path.read_text():
        small += ["--data.watched=[]"]
    finished = cli.run_cli("fit", ["--config", str(path), *small])
    assert int(finished.model.steps) == 1


def test_papers_schedule_is_to_the_letter():
    import yaml

    settings = yaml.safe_load((SMOKE.parent / "stereov1k.yaml").read_text())
    model, data = settings["model"], settings["data"]
    assert settings["trainer"]["max_steps"] == 300_000
    assert (model["learning_rate"], model["betas"], data["batch_size"]) == (1e-4, [0.5, 0.999], 4)
    assert model["weights"] == {"hole": 10, "content": 10, "perceptual": 2, "adversarial": 0.1, "generated": 0}
    assert (model["adversarial"], model["hole_input"]) == ("wasserstein", False)
    assert (model["clip_norm"], model["average_decay"], data["augmentation"]) == (None, None, None)


def test_wrong_option_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OptionError, match=r"colour.*see spatialme fit --help"):
        commands.run("fit", ["--config", str(SMOKE), "--model.colour", "red"])


def test_what_the_user_can_mend_comes_through_lightning(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    quick = ["--config", str(SMOKE), "--trainer.fast_dev_run=1"]
    with pytest.raises(WeightsError, match=r"none.pth cannot be read as VGG19 weights"):
        commands.run("fit", [*quick, "--model.weights.perceptual=1", "--model.vgg19=none.pth"])
    with pytest.raises(OptionError, match="source 'mine' has no clips to train on"):
        commands.run("fit", [*quick, "--data.sources={mine: 1}"])
    with pytest.raises(OptionError, match=r"none.yaml.*see spatialme fit --help"):
        commands.run("fit", ["--config", "none.yaml"])


def test_other_commands_are_refused():
    with pytest.raises(OptionError, match="command 'predict' is not known; the training commands are fit"):
        commands.run("predict", [])


def test_missing_lightning_is_told(monkeypatch):
    monkeypatch.setattr(commands, "find_spec", lambda name: None if name == "lightning" else object())
    with pytest.raises(SpatialmeError, match="training needs lightning; run `pip install lightning`"):
        commands.run("fit", [])


def test_wrong_checkpoints_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="cannot be read as a checkpoint"):
        commands.export(tmp_path / "missing.ckpt", tmp_path / "out.safetensors")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(WeightsError, match="is no checkpoint of a refiner"):
        commands.export(tmp_path / "other.ckpt", tmp_path / "out.safetensors")


def test_inference_does_not_import_lightning():
    code = (
        "import sys, spatialme.refine, spatialme.training.commands, spatialme.training.export, spatialme.data.mixture;"
        "sys.exit('lightning' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
