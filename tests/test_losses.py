"""The losses against hand-computed values, VGG19 against torchvision's, and the critic's promises."""

from __future__ import annotations

from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models.vgg import cfgs, make_layers

from spatialme.errors import WeightsError
from spatialme.training.critic import PatchCritic
from spatialme.training.losses import (
    LossWeights,
    content_loss,
    critic_loss,
    distance_loss,
    generator_loss,
    perceptual_loss,
)
from spatialme.training.vgg import CHANNELS, Vgg19Features, vgg19_weights


@pytest.fixture(scope="module")
def torchvision_features():
    """VGG19's layers up to conv4_1 and its ReLU, randomly initialised."""
    torch.manual_seed(0)
    return make_layers(cfgs["E"])[:21].eval()


def test_content_counts_hole_pixels_ten_times_and_averages_over_all():
    truth = torch.zeros(1, 3, 1, 2)
    view = torch.tensor([0.1, 0.2]).expand(1, 3, 1, 2)
    hole = torch.tensor([[[[False, True]]]])
    # (1 * 0.1 + 10 * 0.2) / 2
    torch.testing.assert_close(content_loss(view, truth, hole, 10.0), torch.tensor(1.05))
    torch.testing.assert_close(content_loss(view, truth, hole, 1.0), torch.tensor(0.15))
    # (1 * 0.01 + 10 * 0.04) / 2; against (1 * 0.04 + 10 * 0.16) / 2
    torch.testing.assert_close(content_loss(view, truth, hole, 10.0, squared=True), torch.tensor(0.205))
    relative = content_loss(view, truth, hole, 10.0, reference=2 * view, squared=True)
    torch.testing.assert_close(relative, torch.tensor(0.25))


def test_distance_counts_hole_pixels_ten_times_and_averages_over_what_counts():
    distance, hole = torch.tensor([[[[0.1, 0.2]]]]), torch.tensor([[[[False, True]]]])
    # (1 * 0.1 + 10 * 0.2) / 11
    torch.testing.assert_close(distance_loss(distance, hole, 10.0), torch.tensor(2.1 / 11))


def test_perceptual_sums_the_layers_mean_differences():
    mine = [torch.tensor([1.0, 2.0]), torch.tensor([5.0])]
    true = [torch.tensor([0.0, 4.0]), torch.tensor([2.0])]
    torch.testing.assert_close(perceptual_loss(mine, true), torch.tensor(1.5 + 3.0))


def test_critic_loss_is_equation_10_or_hinge():
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 1.0])
    torch.testing.assert_close(critic_loss(real, fake, "wasserstein"), torch.tensor(-1.0 - 1.25))
    # relu(1 - real) = 0, 0.5; relu(1 + fake) = 0, 2
    torch.testing.assert_close(critic_loss(real, fake, "hinge"), torch.tensor(0.25 + 1.0))


def test_generator_wants_high_scores():
    torch.testing.assert_close(generator_loss(torch.tensor([-3.0, 1.0])), torch.tensor(1.0))


def test_default_weights_are_the_papers():
    papers = {"hole": 10.0, "content": 10.0, "perceptual": 2.0, "adversarial": 0.1}
    assert vars(LossWeights()) == {**papers, "generated": 0.0, "relative": False, "squared": False, "lpips": 0.0}


def test_negative_weight_is_refused():
    with pytest.raises(ValueError, match="weight of perceptual must not be negative, got -1"):
        LossWeights(perceptual=-1)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_features_are_torchvisions_conv2_1_conv3_1_and_conv4_1_after_relu(tmp_path, torchvision_features, suffix):
    path = tmp_path / f"vgg19{suffix}"
    state = {f"features.{name}": value for name, value in torchvision_features.state_dict().items()}
    (save_file if suffix == ".safetensors" else torch.save)(state, path)
    pictures = torch.rand(2, 3, 24, 32)
    normalised = (pictures - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)
    with torch.no_grad():
        expected = [torchvision_features[: index + 1](normalised) for index in (6, 11, 20)]
    found = Vgg19Features(vgg19_weights(path))(pictures)
    assert [part.shape[1] for part in found] == [128, 256, 512]
    for mine, true in zip(found, expected):
        torch.testing.assert_close(mine, true)


def test_features_are_neither_trained_nor_saved(torchvision_features):
    network = Vgg19Features(torchvision_features.state_dict())
    assert not list(network.parameters())
    assert not network.state_dict()


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "vgg16.pth"
    torch.save(make_layers(cfgs["D"])[:20].state_dict(), path)  # VGG16 has three convolutions where VGG19 has four
    with pytest.raises(WeightsError, match=r"vgg16.pth has no VGG19 layer 16 of 256 channels"):
        vgg19_weights(path)


def test_unreadable_weights_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="cannot be read as VGG19 weights"):
        vgg19_weights(tmp_path / "missing.pth")
    (tmp_path / "text.safetensors").write_text("no weights")
    with pytest.raises(WeightsError, match="cannot be read as VGG19 weights"):
        vgg19_weights(tmp_path / "text.safetensors")


def test_failed_download_names_the_ways_out(monkeypatch):
    def unreachable(*arguments, **settings):
        raise URLError("no network")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", unreachable)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    with pytest.raises(WeightsError, match=r"cannot be downloaded .*--model.vgg19.*--model.weights.perceptual 0"):
        vgg19_weights(None)


def test_channel_table_is_vgg19s(torchvision_features):
    convolutions = {i: layer.out_channels for i, layer in enumerate(torchvision_features) if hasattr(layer, "weight")}
    assert convolutions == CHANNELS


def test_critic_scores_patches_of_46_px():
    torch.manual_seed(0)
    critic = PatchCritic().eval()
    pictures = torch.rand(1, 3, 128, 128, requires_grad=True)
    scores = critic(pictures)
    assert scores.shape == (1, 1, 15, 15)
    scores[0, 0, 7, 7].backward()
    touched = pictures.grad[0].abs().sum(0) > 0
    assert touched.any(0).sum() == touched.any(1).sum() == 46


def test_every_layer_of_the_critic_has_spectral_norm_one():
    torch.manual_seed(0)
    critic = PatchCritic((8, 16))
    for _ in range(50):  # the power iteration converges over passes in training mode
        critic(torch.rand(1, 3, 16, 16))
    for layer in critic.eval().layers:
        if hasattr(layer, "weight"):
            largest = torch.linalg.matrix_norm(layer.weight.flatten(1), ord=2)
            torch.testing.assert_close(largest, torch.tensor(1.0), atol=0.01, rtol=0)  # of an iteration cut short
