"""Checkpoints of the diffusion methods: found, loaded, refused in one line."""

from __future__ import annotations

import hashlib
import logging
import sys
from pathlib import Path

import pytest
import torch

from spatialme.errors import OptionError, WeightsError
from spatialme.evaluation.baselines import DIFFUSION_METHODS, METHODS
from spatialme.evaluation.baselines.diffusion.checkpoints import CHECKPOINTS, diffusers
from spatialme.evaluation.commands import compare
from tests.stereo_files import crowd, measure_psnr_alone, write_pair

CPU = torch.device("cpu")
NEEDS = {
    "stereocrafter_25": "stereocrafter",
    "stereocrafter_1": "stereocrafter",
    "m2svid": "m2svid",
    "svg": "svd",
    "stereodiffusion": "stable-diffusion",
}


@pytest.fixture(autouse=True)
def no_checkpoints(monkeypatch, tmp_path):
    monkeypatch.setenv("SPATIALME_WEIGHTS", str(tmp_path / "none"))
    for checkpoint in CHECKPOINTS.values():
        monkeypatch.delenv(checkpoint.variable, raising=False)


def needs_diffusers():
    return pytest.importorskip("diffusers", reason="the extra `diffusion` is not installed")


def test_the_issues_names_are_methods_and_say_licence_and_what_was_not_checked():
    assert list(DIFFUSION_METHODS) == list(NEEDS)
    for name in NEEDS:
        summary = METHODS[name].summary
        assert "not run on published weights" in summary
        assert CHECKPOINTS[NEEDS[name]].licence in summary
        assert CHECKPOINTS[NEEDS[name]].published in summary


@pytest.mark.parametrize("name", NEEDS)
def test_without_diffusers_a_method_says_what_to_install(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(
        OptionError, match=r"need the package diffusers \(.*\); run `pip install 'spatialme\[diffusion\]'`"
    ):
        METHODS[name].make(CPU)


@pytest.mark.parametrize(("name", "checkpoint"), NEEDS.items())
def test_without_weights_a_method_says_what_to_set_and_the_licence(name, checkpoint):
    needs_diffusers()
    wanted = CHECKPOINTS[checkpoint]
    with pytest.raises(WeightsError) as caught:
        METHODS[name].make(CPU)
    assert str(caught.value) == (
        f"the weights {checkpoint} are not here; set {wanted.variable} to your copy or hub id of "
        f"{wanted.published} ({wanted.licence})"
    )


def test_a_place_is_a_path_a_hub_id_or_the_folder_beside_the_other_weights(monkeypatch, tmp_path):
    svd = CHECKPOINTS["svd"]
    monkeypatch.setenv("SPATIALME_SVD", "owner/some-model_1.1")
    assert svd.place() == "owner/some-model_1.1"
    monkeypatch.setenv("SPATIALME_SVD", str(tmp_path))
    assert svd.place() == str(tmp_path)
    monkeypatch.setenv("SPATIALME_SVD", "/no/such/folder")
    with pytest.raises(
        WeightsError, match="SPATIALME_SVD is /no/such/folder, neither here nor a hub id such as owner/n"
    ):
        svd.place()
    monkeypatch.delenv("SPATIALME_SVD")
    (tmp_path / "none" / "svd").mkdir(parents=True)
    assert svd.place() == str(tmp_path / "none" / "svd")


def test_a_checkpoints_files_of_weights_are_named_and_nothing_else(monkeypatch, tmp_path):
    svd = CHECKPOINTS["svd"]
    assert svd.files() == []
    monkeypatch.setenv("SPATIALME_SVD", "owner/some-model_1.1")
    assert svd.files() == []
    files = [tmp_path / "copy" / "unet" / "a.safetensors", tmp_path / "copy" / "vae" / "b.bin"]
    for path in (*files, tmp_path / "copy" / "unet" / "config.json"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)
    monkeypatch.setenv("SPATIALME_SVD", str(tmp_path / "copy"))
    assert svd.files() == files
    monkeypatch.setenv("SPATIALME_SVD", str(files[0]))
    assert svd.files() == files[:1]


def test_a_report_has_the_hash_of_the_users_own_weights(monkeypatch, tmp_path):
    contents = {"m2svid.pt": b"one", "svd.safetensors": b"two"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        monkeypatch.setenv(f"SPATIALME_{Path(name).stem.upper()}", str(tmp_path / name))
    measure_psnr_alone(monkeypatch)
    clips = tmp_path / "clips"
    clips.mkdir()
    write_pair(clips, "a", crowd(width=160, height=120))
    summary = compare(data=clips, out=tmp_path / "out", methods="copy_left,m2svid", disparity="sgbm", device="cpu")
    said = summary.comparison.conditions["weights (sha256)"]
    for name, content in contents.items():
        assert f"{Path(name).stem} {hashlib.sha256(content).hexdigest()[:12]}" in said


def test_the_variables_are_those_of_the_documentation():
    assert [checkpoint.variable for checkpoint in CHECKPOINTS.values()] == [
        "SPATIALME_SVD",
        "SPATIALME_STEREOCRAFTER",
        "SPATIALME_M2SVID",
        "SPATIALME_ZEROSCOPE",
        "SPATIALME_STABLE_DIFFUSION",
    ]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Tiny checkpoints in the layout of the published ones, and the networks in them."""
    needs_diffusers()
    from tests.diffusion_networks import svd_networks, text_networks

    root = tmp_path_factory.mktemp("checkpoints")
    for name in CHECKPOINTS:
        (root / name / "tokenizer").mkdir(parents=True)
    crafter, m2svid = svd_networks(9), svd_networks(13)
    video = text_networks("video", root / "zeroscope" / "tokenizer")
    image = text_networks("image", root / "stable-diffusion" / "tokenizer")
    crafter.vae.save_pretrained(root / "svd" / "vae")
    crafter.image_encoder.save_pretrained(root / "svd" / "image_encoder")
    crafter.unet.save_pretrained(root / "stereocrafter" / "unet_diffusers")
    m2svid.unet.save_pretrained(root / "m2svid", variant="fp16")
    for name, networks in (("zeroscope", video), ("stable-diffusion", image)):
        networks.unet.save_pretrained(root / name / "unet")
        networks.text_encoder.save_pretrained(root / name / "text_encoder")
        networks.tokenizer.save_pretrained(root / name / "tokenizer")
    image.vae.save_pretrained(root / "stable-diffusion" / "vae")
    unets = {"stereocrafter": crafter.unet, "m2svid": m2svid.unet, "svd": video.unet, "stable-diffusion": image.unet}
    return root, unets


@pytest.mark.parametrize(("name", "checkpoint"), NEEDS.items())
def test_a_method_loads_the_users_copies(name, checkpoint, folders, monkeypatch, caplog):
    root, unets = folders
    for each in CHECKPOINTS.values():
        monkeypatch.setenv(each.variable, str(root / each.name))
    caplog.set_level(logging.INFO, logger="spatialme")
    method = METHODS[name].make(CPU)
    networks = method._networks
    loaded = networks.unet.state_dict()
    for key, value in unets[checkpoint].state_dict().items():
        assert torch.equal(loaded[key], value)
    assert not any(parameter.requires_grad for parameter in networks.unet.parameters())
    assert networks.vae.dtype == torch.float32
    assert f"licence: {CHECKPOINTS[checkpoint].licence}" in caplog.text
    if name.startswith("stereocrafter"):
        assert method._settings.steps == int(name.rpartition("_")[2])
    if hasattr(networks, "prompt"):
        assert networks.prompt("a cat").shape == (1, 77, 16)
        assert not torch.equal(networks.prompt("a cat"), networks.prompt(""))


def test_a_folder_without_the_network_is_refused(folders, monkeypatch):
    root, _ = folders
    monkeypatch.setenv("SPATIALME_STEREOCRAFTER", str(root / "svd"))
    with pytest.raises(
        WeightsError, match=r"svd has no UNetSpatioTemporalConditionModel in it \(.*\); expected the files"
    ):
        METHODS["stereocrafter_1"].make(CPU)


def test_a_checkpoint_that_lacks_weights_is_refused_instead_of_filled_with_noise(folders, monkeypatch):
    root, _ = folders
    monkeypatch.setenv("SPATIALME_STABLE_DIFFUSION", str(root / "svd"))  # its VAE has another decoder
    with pytest.raises(
        WeightsError, match=r"svd is no AutoencoderKL: it lacks decoder.* and \d+ more weights; expected"
    ):
        METHODS["stereodiffusion"].make(CPU)


def test_the_names_in_stable_diffusion_1s_vae_are_understood(tmp_path, monkeypatch):
    from safetensors.torch import load_file, save_file

    from spatialme.evaluation.baselines.diffusion.checkpoints import load_part

    package = needs_diffusers()
    from tests.diffusion_networks import image_vae

    vae = image_vae()
    vae.save_pretrained(tmp_path / "vae")
    path = tmp_path / "vae" / "diffusion_pytorch_model.safetensors"
    old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    renamed = {}
    for name, value in load_file(path).items():
        for new_part, old_part in old.items():
            name = name.replace(new_part, old_part)
        renamed[name] = value
    assert "encoder.mid_block.attentions.0.query.weight" in renamed
    save_file(renamed, path, metadata={"format": "pt"})
    checkpoint = CHECKPOINTS["stable-diffusion"]
    monkeypatch.setenv(checkpoint.variable, str(tmp_path))
    loaded = load_part(package.AutoencoderKL, checkpoint, CPU, torch.float32, "vae").state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in vae.state_dict().items())


def test_a_checkpoint_without_tokenizer_is_refused(folders, monkeypatch):
    from spatialme.evaluation.baselines.diffusion.checkpoints import load_tokenizer

    root, _ = folders
    monkeypatch.setenv("SPATIALME_ZEROSCOPE", str(root / "svd" / "vae"))
    with pytest.raises(WeightsError, match=r"vae has no tokenizer \(.*\); expected the files of cerspense/zeroscope"):
        load_tokenizer(CHECKPOINTS["zeroscope"])


def test_a_large_network_on_the_cpu_is_warned_of(folders, monkeypatch, caplog):
    from spatialme.evaluation.baselines.diffusion import checkpoints

    root, _ = folders
    monkeypatch.setattr(checkpoints, "LARGE_PARAMETERS", 1000)
    monkeypatch.setenv("SPATIALME_SVD", str(root / "svd"))
    network = diffusers().AutoencoderKLTemporalDecoder
    checkpoints.load_part(network, CHECKPOINTS["svd"], CPU, torch.float32, "vae")
    assert "runs on the CPU: expect minutes per frame and step" in caplog.text
