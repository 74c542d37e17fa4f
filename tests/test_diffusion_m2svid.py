"""M2SVid: one step from nought, what the network is shown, and its published file's names."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

pytest.importorskip("diffusers", reason="the extra `diffusion` is not installed")

from diffusers import UNetSpatioTemporalConditionModel
from safetensors.torch import save_file

from spatialme.errors import WeightsError
from spatialme.evaluation.baselines.diffusion.sgm_keys import PREFIX, from_sgm, sgm_name
from spatialme.evaluation.baselines.diffusion.svd import svd_scheduler
from spatialme.evaluation.baselines.m2svid import M2Svid, M2SvidSettings, closing, dilation, load_sgm
from spatialme.evaluation.run_method import warped_clips
from tests.diffusion_networks import svd_networks
from tests.scenes import square_scene


@pytest.fixture(scope="module")
def scene():
    return square_scene(frames=5, square_velocity=(2.0, 0.0))


@pytest.fixture(scope="module")
def networks():
    return svd_networks(13)


@pytest.fixture
def shown(networks):
    """What the U-Net is given at each run, and what it answers."""
    calls = []

    def note(module, args, kwargs, output):
        calls.append({"sample": args[0], "timestep": args[1], "answer": output.sample, **kwargs})

    handle = networks.unet.register_forward_hook(note, with_kwargs=True)
    yield calls
    handle.remove()


def view_of(method, scene):
    with torch.inference_mode():
        return torch.cat(list(method.stream(warped_clips(scene.left, scene.disparity))))


def test_one_step_from_nought_is_minus_v(networks, shown):
    draw = torch.Generator().manual_seed(0)
    left, view = torch.rand(2, 2, 3, 64, 64)
    hole = torch.zeros(2, 1, 64, 64)
    hole[..., 16:40] = 1
    with torch.inference_mode():
        found = M2Svid(networks).latents(left, view, hole, draw)
    (call,) = shown
    assert float(call["sample"][0, :, :4].abs().max()) == 0
    assert float(call["timestep"]) == pytest.approx(0.25 * math.log(700))
    assert torch.equal(found, -call["answer"][0])
    # the same by the scheduler: a step from sigma 700 to 0 from latents of nought
    scheduler = svd_scheduler()
    scheduler.set_timesteps(1)
    stepped = scheduler.step(call["answer"], scheduler.timesteps[0], torch.zeros_like(call["answer"])).prev_sample
    torch.testing.assert_close(found, stepped[0], atol=1e-5, rtol=1e-4)  # 700 / sqrt(700^2 + 1) is 1 - 1e-6


def test_the_network_is_shown_left_view_warped_view_and_holes(networks, shown, scene):
    quiet = M2SvidSettings(numbers=(5.0, 127.0, 0.0))  # no noise on the conditions
    view_of(M2Svid(networks, quiet), scene)
    (warped,) = warped_clips(scene.left, scene.disparity)
    closed = closing(warped.hole.float(), 11)
    sample = shown[0]["sample"][0]
    with torch.inference_mode():
        for channels, picture in ((slice(4, 8), scene.left), (slice(8, 12), warped.view * (1 - closed))):
            torch.testing.assert_close(sample[:, channels], networks.encode(picture), atol=1e-5, rtol=1e-4)
        pictures = networks.embed(scene.left)
    assert sample.shape[1] == 13
    mask = dilation(closed, 3)
    middle = mask.unfold(2, 8, 8).unfold(3, 8, 8)[..., 3:5, 3:5].mean((-2, -1))  # bilinear halfway between four
    torch.testing.assert_close(sample[:, 12:], middle * 2 - 1)
    assert sample[:, 12:].max() == 1
    torch.testing.assert_close(shown[0]["encoder_hidden_states"][0], pictures)
    assert shown[0]["added_time_ids"].tolist() == [[5.0, 127.0, 0.0]]


def test_the_conditions_noise_is_a_fiftieth_of_the_range_from_minus_one_to_one(networks, monkeypatch):
    encoded = []
    monkeypatch.setattr(
        type(networks), "encode", lambda self, frames: encoded.append(frames) or torch.zeros(2, 4, 8, 8)
    )
    pictures, hole = torch.full((2, 3, 64, 64), 0.5), torch.zeros(2, 1, 64, 64)
    with torch.inference_mode():
        M2Svid(networks).latents(pictures, pictures, hole, torch.Generator().manual_seed(0))
    noise = [frames - 0.5 for frames in encoded]
    for one in noise:
        assert float(one.std()) == pytest.approx(0.01, rel=0.02)  # of [0, 1], from 24,576 draws
    assert not torch.equal(*noise)


def test_later_rounds_know_the_frames_taken_over(networks, shown, scene):
    settings = M2SvidSettings(window=3, overlap=1, numbers=(5.0, 127.0, 0.0))
    view = view_of(M2Svid(networks, settings), scene)
    second = shown[1]["sample"][0]
    with torch.inference_mode():
        torch.testing.assert_close(second[:1, 8:12], networks.encode(view[2:3]), atol=1e-5, rtol=1e-4)
    assert float(second[0, 12].max()) == -1  # no holes in what is made
    assert float(second[1, 12].max()) == 1
    assert view.shape == scene.left.shape
    assert bool(view.isfinite().all())
    assert torch.equal(view_of(M2Svid(networks, settings), scene), view)


def test_masks_are_closed_and_widened_as_scipy_does():
    mask = np.random.default_rng(0).random((40, 50)) > 0.98
    mask[:, 0] = True
    given = torch.from_numpy(mask)[None, None].float()
    square = np.ones((3, 3), bool)
    assert np.array_equal(dilation(given, 3)[0, 0].numpy() > 0, ndimage.binary_dilation(mask, square))
    wide = np.ones((11, 11), bool)
    # outside the frame is nothing that an erosion could stop at
    eroded = ndimage.binary_erosion(ndimage.binary_dilation(mask, wide), wide, border_value=True)
    assert np.array_equal(closing(given, 11)[0, 0].numpy() > 0, eroded)


def sgm_names(heads_at: tuple[int, ...] = (0, 1, 2)) -> set[str]:
    """Names of Stability AI's VideoUNet, block by block as its constructor makes them; checked by eye against SVD's."""
    found: set[str] = set()

    def add(prefix, *parts):
        found.update(f"{prefix}.{part}.{kind}" for part in parts for kind in ("weight", "bias"))

    def residual(prefix, skip):
        parts = ("in_layers.0", "in_layers.2", "emb_layers.1", "out_layers.0", "out_layers.3")
        add(prefix, *parts, *(f"time_stack.{part}" for part in parts), *(["skip_connection"] if skip else []))
        found.add(f"{prefix}.time_mixer.mix_factor")

    def transformer(prefix):
        add(prefix, "norm", "proj_in", "proj_out", "time_pos_embed.0", "time_pos_embed.2")
        found.add(f"{prefix}.time_mixer.mix_factor")
        for block in ("transformer_blocks.0", "time_stack.0"):
            for layer in ("attn1", "attn2"):
                found.update(f"{prefix}.{block}.{layer}.to_{letter}.weight" for letter in "qkv")
                add(f"{prefix}.{block}", f"{layer}.to_out.0")
            add(f"{prefix}.{block}", "norm1", "norm2", "norm3", "ff.net.0.proj", "ff.net.2")
        add(f"{prefix}.time_stack.0", "norm_in", "ff_in.net.0.proj", "ff_in.net.2")

    add("time_embed", "0", "2")
    add("label_emb.0", "0", "2")
    add("input_blocks.0", "0")
    number = 0
    for level in range(4):
        for layer in range(2):
            number += 1
            residual(f"input_blocks.{number}.0", skip=layer == 0 and level in (1, 2))
            if level in heads_at:
                transformer(f"input_blocks.{number}.1")
        if level < 3:
            number += 1
            add(f"input_blocks.{number}.0", "op")
    residual("middle_block.0", skip=False)
    transformer("middle_block.1")
    residual("middle_block.2", skip=False)
    for number in range(12):
        level = 3 - number // 3
        residual(f"output_blocks.{number}.0", skip=True)
        if level in heads_at:
            transformer(f"output_blocks.{number}.1")
        if number % 3 == 2 and level > 0:
            add(f"output_blocks.{number}.{2 if level in heads_at else 1}", "conv")
    add("out", "0", "2")
    return found


def test_every_weight_of_the_published_layout_has_one_place():
    with torch.device("meta"):
        unet = UNetSpatioTemporalConditionModel(in_channels=13)
    renamed = [sgm_name(name) for name in unet.state_dict()]
    assert len(set(renamed)) == len(renamed)
    assert set(renamed) == sgm_names()


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("conv_in.weight", "input_blocks.0.0.weight"),
        ("down_blocks.0.downsamplers.0.conv.bias", "input_blocks.3.0.op.bias"),
        ("down_blocks.3.resnets.1.temporal_res_block.conv1.weight", "input_blocks.11.0.time_stack.in_layers.2.weight"),
        ("down_blocks.0.resnets.0.time_mixer.mix_factor", "input_blocks.1.0.time_mixer.mix_factor"),
        (
            "down_blocks.0.attentions.0.temporal_transformer_blocks.0.ff_in.net.0.proj.weight",
            "input_blocks.1.1.time_stack.0.ff_in.net.0.proj.weight",
        ),
        ("down_blocks.0.attentions.0.time_pos_embed.linear_2.bias", "input_blocks.1.1.time_pos_embed.2.bias"),
        ("mid_block.resnets.1.spatial_res_block.norm2.weight", "middle_block.2.out_layers.0.weight"),
        ("up_blocks.0.upsamplers.0.conv.weight", "output_blocks.2.1.conv.weight"),
        ("up_blocks.1.upsamplers.0.conv.weight", "output_blocks.5.2.conv.weight"),
        ("up_blocks.3.attentions.2.transformer_blocks.0.attn1.to_q.weight", None),
        ("add_embedding.linear_1.weight", "label_emb.0.0.weight"),
    ],
)
def test_names_are_those_that_stable_video_diffusions_file_has(name, published):
    wanted = published or "output_blocks.11.1.transformer_blocks.0.attn1.to_q.weight"
    assert sgm_name(name) == wanted


@pytest.fixture(scope="module")
def small_unet():
    """All of the published layout's blocks, one channel group wide."""
    torch.manual_seed(1)
    return UNetSpatioTemporalConditionModel(
        in_channels=13,
        block_out_channels=(32, 32, 32, 32),
        num_attention_heads=2,
        cross_attention_dim=8,
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24,
    )


def published_file(unet, folder, suffix, **changes):
    weights = {PREFIX + sgm_name(name): value.clone() for name, value in unet.state_dict().items()}
    weights["first_stage_model.encoder.conv_in.weight"] = torch.zeros(1)
    weights |= changes
    path = folder / f"m2svid_weights{suffix}"
    if suffix == ".safetensors":
        save_file(weights, path)
    else:
        torch.save({"module": {f"module.{name}": value for name, value in weights.items()}}, path)
    return path


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_file_of_the_published_layout_is_loaded(suffix, small_unet, tmp_path):
    path = published_file(small_unet, tmp_path, suffix)
    other = UNetSpatioTemporalConditionModel.from_config(small_unet.config)
    assert not torch.equal(other.conv_in.weight, small_unet.conv_in.weight)
    load_sgm(other, path)
    loaded = other.state_dict()
    for name, value in small_unet.state_dict().items():
        assert torch.equal(loaded[name], value), name


def test_another_file_is_refused(small_unet, tmp_path):
    wrong_size = {PREFIX + "input_blocks.0.0.weight": torch.zeros(32, 8, 3, 3)}
    path = published_file(small_unet, tmp_path, ".pt", **wrong_size)
    with pytest.raises(
        WeightsError, match=r"has conv_in.weight of \[32, 8, 3, 3\], expected \[32, 13, 3, 3\]; give m2s"
    ):
        load_sgm(small_unet, path)
    path.write_bytes(b"nothing")
    with pytest.raises(WeightsError, match=r"m2svid_weights.pt cannot be read as weights \(.*\); fetch it anew"):
        load_sgm(small_unet, path)
    torch.save([1, 2], path)
    with pytest.raises(WeightsError, match="no U-Net of Stable Video Diffusion in sgm's layout"):
        load_sgm(small_unet, path)


def test_missing_and_surplus_weights_are_named():
    weights = {PREFIX + "input_blocks.0.0.weight": torch.zeros(1)}
    with pytest.raises(WeightsError, match=r"it lacks .*input_blocks.0.0.bias; 1 names are missing and 0 too many"):
        from_sgm(weights, ["conv_in.weight", "conv_in.bias"])
    weights[PREFIX + "surplus"] = torch.zeros(1)
    with pytest.raises(WeightsError, match=r"it has .*surplus besides; 0 names are missing and 1 too many"):
        from_sgm(weights, ["conv_in.weight"])
