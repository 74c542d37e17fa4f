"""Depth networks and where their edges land; names, paths and options of `open_depth`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spatialme import weights
from spatialme.depth import anything, edges, network, open_depth, tiny
from spatialme.depth.sidecar import DepthVideoWriter
from spatialme.errors import InputError, OptionError, WeightsError
from spatialme.types import Clip

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def empty_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights but the packaged ones, and no network."""
    monkeypatch.setenv("SPATIALME_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr("spatialme.depth._in_hub_cache", lambda hub_id: False)
    monkeypatch.setattr("spatialme.weights.urllib.request.urlopen", _refuse)
    monkeypatch.setattr("spatialme.depth.anything.urllib.request.urlopen", _refuse)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Pictures this small gain nothing from threads, and wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _refuse(*_: object, **__: object) -> None:
    raise OSError("no network in this test")


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def whole_shot(frames: Tensor) -> Clip:
    return Clip(frames, (None,) * len(frames), 0, 0, True, True)


# --- tiny


def test_tiny_sees_a_person_before_a_wall_as_nearer():
    """A real-looking cue that the packaged weights must have learnt: floor near the camera is nearer than above it."""
    rows = torch.linspace(0, 1, 256).view(1, 1, 256, 1)
    checks = ((torch.arange(448) // 32) % 2).view(1, 1, 1, 448)
    floor = (0.3 + 0.2 * checks) * (rows > 0.5) + (0.7 + 0.0 * checks) * (rows <= 0.5)
    raw = tiny.TinyNetwork(device=CPU)(floor.expand(1, 3, -1, -1))
    assert raw[..., 100:, :].mean() > raw[..., :60, :].mean()


@pytest.mark.parametrize("name", ["tiny", "tiny-clean"])
def test_the_packaged_networks_are_small_and_see_the_same_way(name: str):
    assert weights.WEIGHTS[name].megabytes <= 8
    assert weights.verify(name)[0].startswith(f"{name}: as published")
    sky_over_field = torch.cat((torch.full((1, 3, 96, 256), 0.8), 0.3 + 0.2 * random(1, 3, 96, 256)), 2)
    raw = open_depth(name).network(sky_over_field)  # type: ignore[attr-defined]
    assert raw[..., -16:, :].mean() > raw[..., :16, :].mean()


def test_one_of_our_own_files_takes_the_place_of_the_packaged(tmp_path: Path):
    file = tmp_path / "mine.safetensors"
    file.write_bytes(weights.PACKAGED.joinpath("depth_tiny.safetensors").read_bytes())
    mine, packaged = (open_depth(name, input_size=64) for name in (str(file), "tiny"))
    assert mine.name == "mine.safetensors"
    frames = random(1, 3, 64, 96)
    assert torch.equal(mine.network(frames), packaged.network(frames))  # type: ignore[attr-defined]


def test_tiny_answers_at_half_its_input_for_any_size():
    net = tiny.TinyNetwork(device=CPU, short_side=64)
    assert net(random(1, 3, 90, 160)).shape == (1, 1, 32, 64)
    assert net(random(2, 3, 161, 91)).shape == (2, 1, 64, 32)


def test_folding_batch_norms_changes_nothing_but_rounding():
    model = tiny.TinyDepth()
    model.load_state_dict({n: random(*v.shape) * 0.2 + 0.1 if v.dtype.is_floating_point else v
                           for n, v in model.state_dict().items()})  # fmt: skip
    model.eval().requires_grad_(False)
    images = random(1, 3, 64, 64, seed=1)
    before = model(images)
    tiny.fold_batch_norms(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    torch.testing.assert_close(model(images), before, rtol=1e-4, atol=1e-4)  # float32 over some sixty layers


def test_the_rim_of_tiny_is_level_with_what_lies_inside():
    raw = tiny.TinyNetwork(device=CPU, short_side=64)(random(1, 3, 64, 64))
    rim = tiny.FRAME_RIM
    for side in (raw, raw.mT, raw.flip(-1), raw.mT.flip(-1)):
        assert torch.equal(side[..., :rim], side[..., rim : rim + 1].expand(-1, -1, -1, rim))


@pytest.mark.parametrize(
    ("size", "short_side", "multiple", "expected"),
    [
        ((720, 1280), 256, 32, (256, 448)),
        ((1080, 1920), 518, 14, (518, 924)),  # 518 / 1080 * 1920 = 920.9 = 65.8 patches
        ((1920, 1080), 518, 14, (924, 518)),
        ((16, 1000), 256, 32, (256, 16000)),
    ],
)
def test_the_input_keeps_its_aspect(size: tuple, short_side: int, multiple: int, expected: tuple):
    assert network.fit_size(size, short_side, multiple) == expected


def test_every_batch_on_a_gpu_has_the_same_shape():
    shapes = []

    class Recorder:
        name = "recorder"
        device = torch.device("meta")  # any that is not the CPU takes the batched way

        def __call__(self, frames: Tensor) -> Tensor:
            shapes.append(tuple(frames.shape))
            return frames[:, :1]

    frames = random(network.GPU_BATCH + 3, 3, 8, 8)
    raw = network.NetworkDepth(Recorder())._infer(frames, None)
    assert torch.equal(raw, frames[:, :1])
    assert shapes == [(network.GPU_BATCH, 3, 8, 8)] * 2


# --- Depth Anything


def official_state(width: int = 64, depth: int = 4, neck: tuple = (8, 16, 24, 32), fusion: int = 16) -> dict:
    """A checkpoint with the authors' names and shapes, smaller, with seeded random values."""
    generator = torch.Generator().manual_seed(0)
    state: dict[str, Tensor] = {}

    def add(name: str, *shape: int) -> None:
        state[name] = torch.randn(shape, generator=generator) * 0.1

    def layer(name: str, *shape: int) -> None:
        add(f"{name}.weight", *shape)
        add(f"{name}.bias", shape[0])

    add("pretrained.cls_token", 1, 1, width)
    add("pretrained.mask_token", 1, width)
    add("pretrained.pos_embed", 1, 1 + 5 * 5, width)
    layer("pretrained.patch_embed.proj", width, 3, 14, 14)
    layer("pretrained.norm", width)
    for i in range(depth):
        block = f"pretrained.blocks.{i}"
        layer(f"{block}.norm1", width)
        layer(f"{block}.norm2", width)
        layer(f"{block}.attn.qkv", 3 * width, width)
        layer(f"{block}.attn.proj", width, width)
        layer(f"{block}.mlp.fc1", 4 * width, width)
        layer(f"{block}.mlp.fc2", width, 4 * width)
        add(f"{block}.ls1.gamma", width)
        add(f"{block}.ls2.gamma", width)
    for level, channels in enumerate(neck):
        layer(f"depth_head.projects.{level}", channels, width, 1, 1)
        add(f"depth_head.scratch.layer{level + 1}_rn.weight", fusion, channels, 3, 3)
        for unit in (1, 2):
            for conv in (1, 2):
                layer(f"depth_head.scratch.refinenet{level + 1}.resConfUnit{unit}.conv{conv}", fusion, fusion, 3, 3)
        layer(f"depth_head.scratch.refinenet{level + 1}.out_conv", fusion, fusion, 1, 1)
    for level, kernel in ((0, 4), (1, 2), (3, 3)):
        layer(f"depth_head.resize_layers.{level}", neck[level], neck[level], kernel, kernel)
    layer("depth_head.scratch.output_conv1", fusion // 2, fusion, 3, 3)
    layer("depth_head.scratch.output_conv2.0", 8, fusion // 2, 3, 3)
    layer("depth_head.scratch.output_conv2.2", 1, 8, 1, 1)
    return state


@pytest.fixture(scope="module")
def loaded() -> tuple[dict, nn.Module]:
    state = official_state()
    return state, anything.from_official(state, "test").eval().requires_grad_(False)


def test_the_authors_names_set_every_parameter_exactly_once(loaded: tuple):
    state, model = loaded
    renamed = list(anything.rename_official(state, modern=anything._is_modern(model)))
    names = [name for name, _ in renamed]
    assert len(names) == len(set(names))
    wanted = model.state_dict()
    assert set(wanted) <= set(names)
    assert set(names) - set(wanted) <= {"backbone.embeddings.mask_token"}
    for name, value in renamed:
        if name in wanted:
            assert torch.equal(wanted[name], value)
    moved = sum(value.numel() for name, value in renamed)
    assert moved == sum(value.numel() for value in state.values())


@pytest.mark.parametrize("modern", [True, False])
def test_both_ways_of_naming_attention_are_known(modern: bool):
    names = [name for name, _ in anything.rename_official(official_state(depth=1), modern=modern)]
    part = "attention.q_proj.weight" if modern else "attention.attention.query.weight"
    assert f"backbone.encoder.layer.0.{part}" in names
    assert not any(name.startswith(("pretrained", "depth_head")) for name in names)


def test_a_block_computes_what_dinov2_defines(loaded: tuple):
    """Attention, scale and perceptron of one block, from the authors' tensors, by the paper's formulae."""
    state, model = loaded
    weight = {name.removeprefix("pretrained.blocks.1."): value for name, value in state.items() if ".blocks.1." in name}
    tokens = torch.randn(1, 10, 64, generator=torch.Generator().manual_seed(1))

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ weight[f"{name}.weight"].T + weight[f"{name}.bias"]

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (64,), weight[f"{name}.weight"], weight[f"{name}.bias"], 1e-6)

    query, key, value = linear(norm(tokens, "norm1"), "attn.qkv").split(64, dim=-1)
    mixed = torch.softmax(query @ key.mT / 64**0.5, dim=-1) @ value  # one head of 64
    x = tokens + weight["ls1.gamma"] * linear(mixed, "attn.proj")
    x = x + weight["ls2.gamma"] * linear(F.gelu(linear(norm(x, "norm2"), "mlp.fc1")), "mlp.fc2")
    found = model.backbone.encoder.layer[1](tokens)
    found = found[0] if isinstance(found, tuple) else found
    torch.testing.assert_close(found, x, rtol=1e-4, atol=1e-5)  # float32, sums of 256 terms


def test_the_coarsest_fusion_is_the_authors_fourth(loaded: tuple):
    state, model = loaded
    sizes = []
    handles = [
        layer.register_forward_hook(lambda _, inputs, __: sizes.append(inputs[0].shape[-1]))
        for layer in model.neck.fusion_stage.layers
    ]
    model(pixel_values=random(1, 3, 70, 70))
    for handle in handles:
        handle.remove()
    assert sizes == sorted(sizes)
    first = model.neck.fusion_stage.layers[0]
    assert torch.equal(first.projection.weight, state["depth_head.scratch.refinenet4.out_conv.weight"])


@pytest.mark.parametrize(("depth", "stages"), [(12, [3, 6, 9, 12]), (24, [5, 12, 18, 24])])
def test_published_encoders_are_tapped_where_published(depth: int, stages: list[int]):
    config = anything._config(official_state(depth=depth))
    assert list(config.backbone_config.out_features) == [f"stage{stage}" for stage in stages]


def test_depth_anything_runs_from_the_authors_file(tmp_path: Path):
    path = tmp_path / "depth_anything_v2_vitx.pth"
    torch.save(official_state(), path)
    estimator = open_depth(str(path), input_size=70)
    assert estimator.name == path.name
    assert "on a CPU" in estimator.notices[0]
    frames = random(2, 3, 40, 60)
    (value,) = estimator.stream([whole_shot(frames)])
    assert value.nearness.shape == (2, 1, 40, 60)
    assert value.nearness.min() >= 0
    assert value.nearness.max() <= 1


def test_depth_anything_runs_from_a_transformers_folder(tmp_path: Path, loaded: tuple):
    _, model = loaded
    folder = tmp_path / "network"
    model.save_pretrained(folder)
    again = open_depth(str(folder), input_size=70)
    images = random(1, 3, 70, 84)
    expected = anything.AnythingNetwork(model, name="x", device=CPU, short_side=70)(images)
    torch.testing.assert_close(again.network(images), expected)
    assert expected.shape == (1, 1, 70, 84)


def test_frames_are_normalised_as_published(loaded: tuple):
    seen = []

    class Spy(nn.Module):
        def forward(self, pixel_values: Tensor) -> SimpleNamespace:
            seen.append(pixel_values)
            return SimpleNamespace(predicted_depth=pixel_values[:, 0])

    frames = torch.tensor([0.485, 0.456, 0.406 + 0.225]).view(1, 3, 1, 1).expand(1, 3, 300, 400)
    anything.AnythingNetwork(Spy(), name="spy", device=CPU)(frames)
    assert seen[0].shape == (1, 3, 518, 686)
    # the mean becomes 0, one deviation above it 1
    torch.testing.assert_close(seen[0].mean(dim=(0, 2, 3)), torch.tensor([0.0, 0.0, 1.0]), atol=1e-4, rtol=0)


def test_a_file_that_does_not_fit_is_one_clear_line(tmp_path: Path):
    other = tmp_path / "other.pth"
    torch.save({"pretrained.cls_token": torch.zeros(1, 1, 64)}, other)
    with pytest.raises(WeightsError, match="does not fit Depth Anything V2"):
        open_depth(str(other))
    state = official_state()
    del state["pretrained.norm.bias"]
    torch.save(state, other)
    with pytest.raises(WeightsError, match=r"1 entries differ, as backbone\.layernorm\.bias"):
        open_depth(str(other))
    other.write_bytes(b"not a checkpoint")
    with pytest.raises(WeightsError, match="is not a PyTorch checkpoint"):
        open_depth(str(other))
    with pytest.raises(WeightsError, match="does not exist"):
        open_depth(str(tmp_path / "none.pth"))


def test_a_folder_without_a_network_is_refused(tmp_path: Path):
    with pytest.raises(WeightsError, match="holds no Depth Anything network"):
        open_depth(str(tmp_path))


def test_an_unreachable_hub_id_is_one_clear_line():
    with pytest.raises(WeightsError, match="nobody/nothing is neither here nor on the hub") as caught:
        open_depth("nobody/nothing")
    assert "\n" not in str(caught.value)


# --- open_depth


def test_auto_falls_back_to_tiny_and_says_what_is_lost():
    estimator = open_depth("auto")
    assert estimator.name == "tiny"
    (notice,) = estimator.notices
    assert "softer edges" in notice
    assert "`spatialme weights fetch depth-anything-v2-small`" in notice


def test_auto_takes_depth_anything_small_where_it_is(tmp_path: Path):
    folder = tmp_path / "weights"
    folder.mkdir()
    torch.save(official_state(), folder / "depth_anything_v2_vits.pth")
    assert open_depth("auto").name == "depth-anything-v2-small"


def test_auto_tells_damaged_weights_instead_of_hiding_them(tmp_path: Path):
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "depth_anything_v2_vits.pth").write_bytes(b"damaged")
    with pytest.raises(WeightsError, match="is not a PyTorch checkpoint"):
        open_depth("auto")


def test_non_commercial_networks_ask_first():
    with pytest.raises(WeightsError, match=r"CC-BY-NC-4\.0.*--accept-licence"):
        open_depth("depth-anything-v2-large")
    with pytest.raises(WeightsError, match="may not be used commercially"):
        open_depth("depth-anything-v2-large", licence="commercial")
    assert not weights.WEIGHTS["tiny"].commercial
    for name in ("auto", "tiny", "tiny-clean"):
        assert open_depth(name, licence="commercial").name == "tiny-clean"


def test_a_depth_video_is_an_estimator(tmp_path: Path):
    info = SimpleNamespace(width=64, height=48, time_base=Fraction(1, 25), frame_rate=Fraction(25))
    nearness = random(2, 1, 48, 64)
    path = tmp_path / "film.depth.mkv"
    with DepthVideoWriter(path, info, model="tiny") as writer:
        writer.write(nearness, [SimpleNamespace(pts=0), SimpleNamespace(pts=1)])
        writer.finish()
    estimator = open_depth(str(path), input_size=256)
    assert "does nothing with a depth video" in estimator.notices[0]
    (value,) = estimator.stream([whole_shot(random(2, 3, 48, 64))])
    assert (value.nearness - nearness).abs().max() < 1e-5  # half a step of 16 bits
    with pytest.raises(InputError, match="does not exist"):
        open_depth(str(tmp_path / "none.mkv"))


def test_unknown_names_and_sizes_are_refused():
    with pytest.raises(OptionError, match=r"'midas' is not known; use auto, tiny, dino, depth-anything-v2-small"):
        open_depth("midas")
    with pytest.raises(OptionError, match="input size 7 is out of range"):
        open_depth("tiny", input_size=7)


def test_every_published_network_has_weights_listed():
    from spatialme.depth import HUB_IDS

    assert set(HUB_IDS) <= set(weights.WEIGHTS)


# --- edges

HEIGHT, WIDTH, RADIUS = 360, 640, 100


@pytest.fixture(scope="module")
def disc() -> SimpleNamespace:
    """A disc before a wall, both textured; its nearness at an eighth of the size, blurred as a network's is."""
    y, x = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    from_border = ((x - 320.3) ** 2 + (y - 180.2) ** 2).sqrt() - RADIUS
    inside = (from_border < 0).float()
    grain = F.interpolate(random(1, 3, 45, 80), size=(HEIGHT, WIDTH), mode="bilinear", align_corners=False)[0]
    front = torch.tensor([0.7, 0.35, 0.2]).view(3, 1, 1) + 0.2 * (grain - 0.5)
    wall = torch.tensor([0.2, 0.4, 0.55]).view(3, 1, 1) + 0.2 * (grain.flip(2) - 0.5)
    frames = (inside * front + (1 - inside) * wall).unsqueeze(0)
    nearness = (0.2 + 0.6 * inside).view(1, 1, HEIGHT, WIDTH)

    def small(image: Tensor) -> Tensor:
        return F.interpolate(image, size=(90, 160), mode="bilinear", antialias=True, align_corners=False)

    kernel = torch.exp(-(torch.arange(-6, 7) ** 2) / (2 * 2.0**2))
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
    padded = F.pad(small(nearness), (6, 6, 6, 6), mode="replicate")
    blurred = F.conv2d(F.conv2d(padded, kernel), kernel.mT)
    return SimpleNamespace(
        frames=frames, nearness=nearness, blurred=blurred, guide=small(frames), from_border=from_border
    )


def test_a_blurred_border_becomes_a_step_on_the_images_edge(disc: SimpleNamespace):
    found = edges.upsample(disc.blurred, disc.guide, disc.frames)[0, 0]
    wrong_side = (found > 0.5) != (disc.nearness[0, 0] > 0.5)
    assert not wrong_side.any() or disc.from_border[wrong_side].abs().max() <= 1
    ramp = (found > 0.3) & (found < 0.7)
    assert not ramp.any() or disc.from_border[ramp].abs().max() <= 1
    plain = F.interpolate(disc.blurred, size=(HEIGHT, WIDTH), mode="bilinear", align_corners=False)[0, 0]
    assert ((plain > 0.3) & (plain < 0.7)).sum() > 20 * ramp.sum()


def test_texture_is_not_copied_into_flat_depth(disc: SimpleNamespace):
    found = edges.upsample(disc.blurred, disc.guide, disc.frames)
    far = disc.from_border.abs() > 60  # out of both windows' reach: 15 network pixels
    assert (found - disc.nearness)[0, 0][far].abs().max() < 0.002  # what the blur's tail leaves
    slope = torch.linspace(0.1, 0.9, 90).view(1, 1, 90, 1).expand(1, 1, 90, 160).contiguous()
    plain = F.interpolate(slope, size=(HEIGHT, WIDTH), mode="bilinear", align_corners=False)
    noisy = random(1, 3, HEIGHT, WIDTH, seed=3)
    guide = F.interpolate(noisy, size=(90, 160), mode="bilinear", antialias=True, align_corners=False)
    # a slope is no step: the image is not looked at, whatever is on it
    assert (edges.upsample(slope, guide, noisy) - plain).abs().max() < 1e-5


def test_two_back_ends_agree(disc: SimpleNamespace):
    for radius, colours in ((edges.RAMP_RADIUS, disc.guide), (edges.PIXEL_RADIUS, disc.frames)):
        fast = edges.joint_numba(disc.blurred, disc.guide, colours, radius)
        plain = edges.joint_torch(disc.blurred, disc.guide, colours, radius)
        torch.testing.assert_close(fast, plain, rtol=0, atol=1e-5)  # float32 sums in another order


def test_frames_of_a_batch_are_alone(disc: SimpleNamespace):
    other = disc.frames.flip(-1) * 0.5
    both = edges.upsample(
        torch.cat((disc.blurred, disc.blurred)), torch.cat((disc.guide, disc.guide.flip(-1) * 0.5)),
        torch.cat((disc.frames, other)),
    )  # fmt: skip
    assert torch.equal(both[:1], edges.upsample(disc.blurred, disc.guide, disc.frames))


def test_constant_nearness_stays(disc: SimpleNamespace):
    flat = torch.full_like(disc.blurred, 0.5)
    found = edges.upsample(flat, disc.guide, disc.frames)
    assert torch.equal(found, torch.full_like(found, 0.5))
    assert np.isfinite(found.numpy()).all()


def test_importing_depth_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_depth("tiny", input_size=64)


def test_the_median_is_the_same_in_opencv_and_torch():
    noise = torch.rand(2, 1, 21, 34, generator=torch.Generator().manual_seed(3))
    assert torch.equal(edges.median_opencv(noise), edges.median_torch(noise))


def test_the_median_removes_specks_and_keeps_a_straight_edge():
    step = torch.zeros(1, 1, 16, 24)
    step[..., 12:] = 1
    specked = step.clone()
    specked[..., 5, 4], specked[..., 8, 18] = 1, 0
    assert torch.equal(edges.median_opencv(specked), step)
