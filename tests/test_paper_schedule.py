"""The paper's schedule with its critic, as its config runs it, for a few steps."""

from __future__ import annotations

import pytest
import torch

from spatialme.refine.mhfu import MHFU, initial_blend
from tests.test_training import SMOKE, answer_of, cli, psnr, pytestmark, vgg19  # noqa: F401 - pytest finds the latter two

STEPS = 20


@pytest.mark.slow
def test_twenty_steps_with_the_critic_move_both_networks_and_keep_the_picture(tmp_path, monkeypatch, vgg19):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    small = [f"--trainer.max_steps={STEPS}", "--trainer.accelerator=cpu", "--trainer.val_check_interval=20"]
    small += ["--trainer.log_every_n_steps=1", "--trainer.enable_progress_bar=false", f"--model.vgg19={vgg19}"]
    small += ["--data.sources={synthetic: 1}", "--data.crop=48", "--data.workers=0", "--data.held_out_samples=2"]
    first: dict[str, torch.Tensor] = {}

    def remember(callback, trainer, module):
        first.update({name: value.clone() for name, value in module.state_dict().items()})

    monkeypatch.setattr(cli.Panels, "on_train_start", remember, raising=False)
    finished = cli.run_cli("fit", ["--config", str(SMOKE.parent / "stereov1k.yaml"), *small])
    trained, figures = finished.model, finished.trainer.logged_metrics
    assert int(trained.steps) == finished.trainer.global_step == STEPS
    last = trained.state_dict()
    for network in ("network.", "critic."):
        moved = [
            name for name, value in first.items() if name.startswith(network) and not torch.equal(last[name], value)
        ]
        assert len(moved) > 0.9 * sum(name.startswith(network) for name, _ in trained.named_parameters())
    assert {"train/critic", "train/adversarial", "train/perceptual", "train/content"} <= set(figures)
    assert all(torch.isfinite(torch.as_tensor(value)) for value in figures.values())
    batch = next(iter(finished.datamodule.val_dataloader()[0]))
    blend = initial_blend(batch.poly, batch.expansion, batch.dl)
    made = answer_of(trained.average, batch).fused
    # 20 steps of 1e-4 are too few to learn or to spoil anything: within 1 dB of where METHOD's start was
    assert psnr(made, batch.right) == pytest.approx(psnr(blend, batch.right), abs=1.0)
    assert not torch.equal(made, blend)
    assert isinstance(trained.network, MHFU)
