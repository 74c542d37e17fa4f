"""Training of depth networks: labels, sets, losses, figures, a run of each kind, and what is exported."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from spatialme.depth import open_depth
from spatialme.errors import InputError, OptionError, WeightsError
from spatialme.training import depth_prepare, depth_set, lora
from spatialme.training.cli import find_task, run_cli
from spatialme.training.commands import export
from spatialme.training.depth_augment import augment
from spatialme.training.depth_commands import prepare_depth
from spatialme.training.depth_data import DepthData, synthetic_picture, to_sample
from spatialme.training.depth_losses import depth_loss, gradient_loss, normalised, temporal_loss, value_loss
from spatialme.training.depth_motion import motion_between
from spatialme.training.depth_networks import NETWORKS
from spatialme.training.depth_scores import depth_score
from spatialme.training.depth_set import DepthEntry, DepthPicture
from spatialme.training.depth_stereo import match_eyes

COLUMNS = "name,kind,left,right,frames,first,last,source,split,licence,commercial"
SIZE = (64, 96)
PAIR = (128, 160)  # the least that RAFT takes


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """(H, W, 3) uint8 with detail at several scales."""
    generator = np.random.default_rng(seed)
    layers = [
        cv2.resize(generator.random((height // scale + 1, width // scale + 1, 3)), (width, height)) for scale in (4, 12)
    ]
    return (np.mean(layers, 0) * 255).astype(np.uint8)


# losses


def test_scale_and_offset_cost_nothing():
    truth, known = random(2, 1, 16, 20), torch.ones(2, 1, 16, 20, dtype=torch.bool)
    moved = truth * torch.tensor([3.0, 0.01]).view(2, 1, 1, 1) + torch.tensor([-5.0, 40.0]).view(2, 1, 1, 1)
    assert depth_loss(moved, truth, known, gradient=1) < 1e-3  # 40 + 0.01 x leaves four digits in single precision
    assert depth_loss(-truth, truth, known, gradient=1) > 1


def test_normalising_gives_median_0_and_mean_deviation_1():
    known = random(1, 1, 15, 15, seed=1) > 0.3
    found = normalised(random(1, 1, 15, 15) * 7 - 3, known)[known]
    assert found.median().abs() < 1e-5
    assert found.abs().mean() == pytest.approx(1, abs=1e-4)


def test_unknown_pixels_count_neither_in_the_loss_nor_in_its_slope():
    truth, known = random(1, 1, 16, 16), torch.ones(1, 1, 16, 16, dtype=torch.bool)
    known[..., 4:9, 4:9] = False
    predicted = random(1, 1, 16, 16, seed=1)
    wild = torch.where(known, predicted, 1e3 * predicted).requires_grad_()
    assert torch.allclose(depth_loss(wild, truth, known, gradient=1), depth_loss(predicted, truth, known, gradient=1))
    depth_loss(wild, truth, known, gradient=1).backward()
    assert wild.grad is not None
    assert not wild.grad[~known].any()


def test_a_picture_without_labels_costs_nothing():
    nothing = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    assert depth_loss(random(1, 1, 8, 8), torch.zeros(1, 1, 8, 8), nothing, gradient=1) == 0


def test_the_worst_tenth_is_left_out():
    truth, known = torch.zeros(1, 1, 10, 10), torch.ones(1, 1, 10, 10, dtype=torch.bool)
    predicted = truth.clone()
    predicted[..., 0, :] = 50  # ten of a hundred pixels
    assert value_loss(predicted, truth, known, trimmed=0.1) == 0
    assert value_loss(predicted, truth, known, trimmed=0) == pytest.approx(5)


def test_the_gradient_part_sees_a_blurred_step():
    truth, known = torch.zeros(1, 1, 32, 32), torch.ones(1, 1, 32, 32, dtype=torch.bool)
    truth[..., 16:] = 1
    blurred = F.avg_pool2d(truth, 9, 1, 4, count_include_pad=False)
    assert gradient_loss(truth, truth, known) == 0
    assert gradient_loss(blurred, truth, known) > 0.01


def test_what_moves_with_the_picture_is_steady():
    depth = random(1, 1, 40, 60)
    depth = F.avg_pool2d(depth, 5, 1, 2)
    moved = torch.roll(depth, 3, dims=-1)
    flow = torch.zeros(1, 2, 40, 60)
    flow[:, 0] = 3
    trusted = torch.zeros(1, 1, 40, 60, dtype=torch.bool)
    trusted[..., 5:-5] = True
    assert temporal_loss(depth, moved, flow, trusted) < 1e-4
    assert temporal_loss(depth, moved, torch.zeros_like(flow), trusted) > 0.3
    assert temporal_loss(depth, moved + 0.2, flow, trusted) > 0.3  # a wandering offset is no steadiness


def test_motion_is_found_and_trusted_where_the_picture_moved():
    first = torch.from_numpy(texture(96, 144)).permute(2, 0, 1)[None].float() / 255
    second = torch.roll(first, 2, dims=-1)
    second[..., 30:50, 60:90] = random(1, 3, 20, 30, seed=3)  # something else appears
    flow, trusted = motion_between(first, second)
    assert trusted[..., 10:28, 12:-12].float().mean() > 0.9
    assert (flow[:, 0][trusted[:, 0]] - 2).abs().median() < 0.2
    assert trusted[..., 33:47, 64:84].float().mean() < 0.1


# figures


def test_a_score_does_not_see_scale_and_offset():
    truth = random(40, 50).numpy()
    score = depth_score(truth * 5 - 2, truth)
    assert score.error == pytest.approx(0, abs=1e-6)
    assert score.correlation == pytest.approx(1)


def test_a_score_of_noise_is_bad_and_of_the_opposite_worse():
    truth = np.tile(np.linspace(0, 1, 50), (40, 1))
    assert depth_score(random(40, 50).numpy(), truth).correlation < 0.1
    opposite = depth_score(-truth, truth)
    assert opposite.correlation == pytest.approx(-1)
    assert opposite.error == pytest.approx(0.25 / 0.96, abs=0.01)  # as bad as a constant, over 96 % of the range


@pytest.mark.parametrize("truth", [np.full((8, 8), np.nan), np.ones((8, 8))])
def test_nothing_to_compare_is_no_figure(truth: np.ndarray):
    assert np.isnan(depth_score(random(8, 8).numpy(), truth).error)


# labels


class Shift:
    """A flow that knows the answer: all of the scene is `px` to the left in the right eye, one block is not."""

    def __init__(self, px: float):
        self.px = px

    def encode(self, image: Tensor) -> Tensor:
        return image

    def both_ways(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        there, back = torch.zeros(2, *first.shape[-2:]), torch.zeros(2, *first.shape[-2:])
        there[0], back[0] = -self.px, self.px
        there[0, 10:20, 30:40] = 9  # the eyes do not agree
        there[1, 30:40, 30:40] = 5  # leaves its row
        return there, back


def test_labels_are_disparity_where_the_eyes_agree():
    picture = np.zeros((*PAIR, 3), np.uint8)
    left, right = match_eyes(picture, picture, Shift(4), torch.device("cpu"))
    assert (left[22:28, 10:] == 4).all()
    assert (right[22:28, :-10] == 4).all()
    for unknown in (left[12:18, 32:38], left[32:38, 32:38], left[22:28, :3], right[22:28, -3:]):
        assert np.isnan(unknown).all()


# sets


@pytest.fixture
def material(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pair, a list with it and a photograph, and a matcher that knows the disparity."""
    left = texture(*PAIR)
    cv2.imwrite(str(tmp_path / "a_left.png"), left)
    cv2.imwrite(str(tmp_path / "a_right.png"), np.roll(left, -4, axis=1))
    cv2.imwrite(str(tmp_path / "photo.png"), texture(80, 100, seed=1))
    write_list(tmp_path / "list.csv", "a,pair,a_left.png,a_right.png,1,0,1,indoor,train,CC0,yes", PHOTO)
    monkeypatch.setattr(depth_prepare, "open_flow", lambda *_: type("Stage", (), {"method": Shift(4)}))
    return tmp_path / "list.csv"


PHOTO = "photo,mono,photo.png,,1,0,1,photos,train,none,no"


def write_list(path: Path, *rows: str) -> None:
    path.write_text("\n".join(["# spatialme prepare-depth ...", COLUMNS, *rows]) + "\n")


def test_a_list_becomes_a_set(material: Path, tmp_path: Path):
    assert list(prepare_depth(material, tmp_path / "set", device="cpu")) == ["a: 2 pictures", "photo: 1 pictures"]
    entries = depth_set.read_index(tmp_path / "set")
    assert [(entry.source, entry.labelled, entry.commercial) for entry in entries] == [
        ("indoor", True, True),
        ("indoor", True, True),
        ("photos", False, False),
    ]
    left = depth_set.read_picture(tmp_path / "set", entries[0].name)
    assert left.rgb.shape == (*PAIR, 3)
    assert (left.label[22:28, 10:] == 4).all()
    assert left.teacher is None
    assert np.isnan(depth_set.read_picture(tmp_path / "set", "photo-000l").label).all()


def test_what_is_there_is_kept(material: Path, tmp_path: Path):
    list(prepare_depth(material, tmp_path / "set", device="cpu"))
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "set").glob("*.npz")}
    list(prepare_depth(material, tmp_path / "set", device="cpu"))
    assert written == {path: path.stat().st_mtime_ns for path in (tmp_path / "set").glob("*.npz")}


def test_what_teaches_nothing_is_left_out(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    cv2.imwrite(str(tmp_path / "photo.png"), np.full((80, 100, 3), 9, np.uint8))
    monkeypatch.setattr(depth_prepare, "LEAST_KNOWN", 0.99)
    list(prepare_depth(material, tmp_path / "set", device="cpu"))
    assert depth_set.read_index(tmp_path / "set") == []
    assert "photo-000l shows next to nothing" in caplog.text
    assert "the eyes agree on" in caplog.text


def test_a_teacher_answers_every_picture(material: Path, tmp_path: Path):
    lines = list(prepare_depth(material, tmp_path / "set", device="cpu", teacher="tiny"))
    assert lines[-1] == "tiny answered 3 pictures"
    teacher = depth_set.read_picture(tmp_path / "set", "photo-000l").teacher
    assert teacher is not None
    assert (teacher.min(), teacher.max()) == (0, 1)
    with pytest.raises(InputError, match="is no depth network"):
        depth_prepare.teach(tmp_path / "set", save_array(tmp_path), torch.device("cpu"))


def save_array(folder: Path) -> str:
    np.save(folder / "maps.npy", np.zeros((2, 8, 8), np.float32))
    return str(folder / "maps.npy")


def test_a_video_gives_frames_spread_out_and_what_follows_them(tmp_path: Path):
    frames = [np.full((48, 64, 3), 20 * index, np.uint8) for index in range(10)]
    for index, frame in enumerate(frames):
        cv2.imwrite(str(tmp_path / f"f{index:02d}.png"), frame)
    write_list(tmp_path / "list.csv", "v,mono,f%02d.png,,3,0,0.5,video,train,none,no")
    list(prepare_depth(tmp_path / "list.csv", tmp_path / "set", device="cpu"))
    pictures = [depth_set.read_picture(tmp_path / "set", f"v-00{number}l") for number in range(3)]
    assert [int(picture.rgb.mean()) for picture in pictures] == [0, 40, 80]
    assert [int(picture.following.mean()) for picture in pictures if picture.following is not None] == [20, 60, 100]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a,heap,l.png,,1,0,1,s,train,CC0,yes", "row 1 is of kind 'heap' and split 'train'"),
        ("a,mono,l.png,,many,0,1,s,train,CC0,yes", "row 1: frames, first and last must be numbers"),
        ("a,mono,l.png", "row 1 has no right, frames"),
    ],
)
def test_a_wrong_list_is_refused(tmp_path: Path, row: str, message: str):
    write_list(tmp_path / "list.csv", row)
    with pytest.raises(InputError, match=message):
        list(prepare_depth(tmp_path / "list.csv", tmp_path / "set"))


def test_a_missing_list_or_set_is_one_clear_line(tmp_path: Path):
    with pytest.raises(InputError, match=r"none\.csv cannot be read"):
        list(prepare_depth(tmp_path / "none.csv", tmp_path / "set"))
    with pytest.raises(InputError, match="is no depth set"):
        depth_set.read_index(tmp_path)
    (tmp_path / "index.json").write_text('{"version": 1, "pictures": [{"name": 1}]}')
    with pytest.raises(InputError, match="is no depth set"):
        depth_set.read_index(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        depth_set.read_picture(tmp_path, "nothing")


# augmentation


def ramp(height: int = 90, width: int = 120) -> DepthPicture:
    """A picture whose red is its column, whose green is its row, and whose label and teacher are its red."""
    rows, columns = np.mgrid[:height, :width]
    red, green = columns / width, rows / height
    rgb = (np.stack([red, green, np.zeros_like(red)], 2) * 255).astype(np.uint8)
    return DepthPicture(rgb, red.astype(np.float32), red.astype(np.float32)[::2, ::2], np.roll(rgb, 1, axis=1))


def test_depth_moves_with_its_picture(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "spatialme.training.depth_augment._recoloured", lambda rgb, random: rgb.astype(np.float32) / 255
    )
    for seed in range(8):
        found = augment(ramp(), SIZE, np.random.default_rng(seed))
        known = np.isfinite(found.label)
        assert found.rgb.shape == (*SIZE, 3)
        assert known.mean() > 0.9  # a turn may look past the picture's corners
        # eight bits, and a nearest label beside a linear picture: half a column
        assert np.abs(found.label - found.rgb[..., 0])[known].max() < 0.012
        assert found.teacher is not None
        assert np.abs(found.teacher - found.rgb[..., 0])[known].max() < 0.03  # the teacher's grid is twice as coarse
        assert found.following is not None


def test_augmentation_differs_by_seed_and_repeats():
    first, again, other = (augment(ramp(), SIZE, np.random.default_rng(seed)).rgb for seed in (1, 1, 2))
    assert (first == again).all()
    assert np.abs(first - other).mean() > 0.01


def test_a_synthetic_scene_knows_all_its_depth():
    sample = to_sample(augment(synthetic_picture(np.random.default_rng(0), SIZE), SIZE, np.random.default_rng(0)))
    assert sample.known.float().mean() > 0.9
    assert not sample.taught.any()
    assert not sample.moves.any()
    assert sample.label.std() > 0


# LoRA


def test_lora_starts_as_the_layer_and_merges_into_it():
    layer = nn.Linear(6, 5)
    wrapped = lora.LoraLinear(layer, 2)
    inputs = random(3, 6)
    assert torch.equal(wrapped(inputs), layer(inputs))
    nn.init.normal_(wrapped.lora_up)
    state = lora.merged({f"a.{name}": value for name, value in wrapped.state_dict().items()} | {"b.weight": inputs})
    assert set(state) == {"a.weight", "a.bias", "b.weight"}
    assert torch.allclose(F.linear(inputs, state["a.weight"], state["a.bias"]), wrapped(inputs), atol=1e-6)
    assert not layer.weight.requires_grad


# runs


@pytest.fixture(scope="module")
def small_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes with a step in depth where the brightness has one, two of them held out, with a teacher's answers."""
    folder = tmp_path_factory.mktemp("set")
    entries = []
    for number in range(6):
        rgb = texture(80, 112, seed=number) // 2
        label = np.zeros((80, 112), np.float32)
        left = 20 + 10 * number
        rgb[20:60, left : left + 30] += 100
        label[20:60, left : left + 30] = 4
        following = np.roll(rgb, 1, axis=1)
        depth_set.write_picture(folder, f"p{number}", DepthPicture(rgb, label, following=following))
        depth_set.write_teacher(folder, f"p{number}", label)
        split = "train" if number < 4 else "validation"
        entries.append(DepthEntry(f"p{number}", "boxes", split, "CC0", number != 0, labelled=number != 1))
    depth_set.write_index(folder, entries)
    return folder


def fit(config: str, folder: Path, out: Path, *more: str, steps: int = 10) -> tuple[float, float]:
    """Run a configuration; the mean of the first and of the last losses."""
    cli = run_cli(
        "fit",
        [
            *("--config", config, "--data.sets", f"['{folder}']"),
            *("--data.size", "[64, 96]", "--data.batch_size", "2", "--data.workers", "0"),
            *("--data.sources", "{boxes: 1}"),
            *("--trainer.max_steps", str(steps), "--trainer.val_check_interval", str(steps)),
            *("--trainer.accelerator", "cpu", "--checkpoint.every_n_train_steps", str(steps)),
            *("--trainer.precision", "32-true", "--trainer.enable_progress_bar", "false"),
            *("--trainer.log_every_n_steps", "1", "--trainer.enable_model_summary", "false"),
            *("--model.schedule.warmup_steps", "0", *more),
            *("--trainer.logger.init_args.save_dir", str(out)),
        ],
    )
    losses = [value for _, value in logged(out, "train/loss")]
    assert int(cli.model.steps) == steps
    part = steps // 3
    return sum(losses[:part]) / part, sum(losses[-part:]) / part


def logged(folder: Path, name: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (file,) = folder.rglob("events.out.*")
    events = EventAccumulator(str(file))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_tiny_learns_and_its_weights_are_read_back(small_set: Path, tmp_path: Path):
    before, after = fit("configs/fit/depth_tiny.yaml", small_set, tmp_path)
    assert after < 0.9 * before
    assert len(logged(tmp_path, "validation/error")) == 1
    (checkpoint,) = tmp_path.rglob("last.ckpt")
    assert export(checkpoint, tmp_path / "tiny.safetensors").endswith("depth network tiny after 10 steps")
    state = load_file(tmp_path / "tiny.safetensors")
    assert all(value.dtype == torch.float16 for value in state.values())
    again = NETWORKS["tiny"].make(tmp_path / "tiny.safetensors", 0)
    trained = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert torch.allclose(again.state_dict()["head.0.weight"], trained["network.head.0.weight"], atol=1e-3)
    with pytest.raises(OptionError, match=r"let it end in \.safetensors"):
        export(checkpoint, tmp_path / "folder")


@pytest.mark.slow
def test_dino_learns_with_its_encoder_frozen(small_set: Path, tmp_path: Path):
    before, after = fit("configs/fit/depth_dino.yaml", small_set, tmp_path, "--data.size", "[70, 98]")
    assert after < before
    (checkpoint,) = tmp_path.rglob("last.ckpt")
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    export(checkpoint, tmp_path / "dino.safetensors")
    network = open_depth(str(tmp_path / "dino.safetensors"))
    answer = network.network(random(1, 3, 56, 84))  # type: ignore[attr-defined]
    assert answer.shape[:2] == (1, 1)
    again = NETWORKS["dino"].make(tmp_path / "dino.safetensors", 0).state_dict()
    assert torch.allclose(again["head.1.weight"], state["network.head.1.weight"], atol=1e-3)


def depth_anything(folder: Path) -> Path:
    """A folder of transformers with a network of a few thousand seeded weights."""
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    torch.manual_seed(0)
    backbone = Dinov2Config(
        hidden_size=32, num_attention_heads=2, num_hidden_layers=4, image_size=70, patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"], apply_layernorm=True, reshape_hidden_states=False,
    )  # fmt: skip
    config = DepthAnythingConfig(
        backbone_config=backbone, patch_size=14, reassemble_hidden_size=32, neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8, head_hidden_size=8,
    )  # fmt: skip
    model = DepthAnythingForDepthEstimation(config)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.xavier_normal_(parameter)  # transformers' own leaves nothing of the picture after so many layers
    nn.init.ones_(model.head.conv3.bias)  # away from the last layer's cut at zero
    model.save_pretrained(folder / "anything")
    return folder / "anything"


@pytest.mark.parametrize("rank", [0, 2])
def test_depth_anything_is_fine_tuned_and_opens_again(small_set: Path, tmp_path: Path, rank: int):
    start = depth_anything(tmp_path)
    rates = ["--model.learning_rate", "0.003", "--model.encoder_rate", str(int(rank == 0))]
    words = ["--model.start", str(start), "--data.size", "[70, 98]", "--model.lora_rank", str(rank), *rates]
    before, after = fit("configs/fit/depth_anything.yaml", small_set, tmp_path / "run", *words, steps=30)
    assert after < before
    assert len(logged(tmp_path / "run", "train/temporal")) == 30
    (checkpoint,) = (tmp_path / "run").rglob("last.ckpt")
    export(checkpoint, tmp_path / "tuned")
    frames = random(1, 3, 70, 98)
    tuned, untouched = (open_depth(str(folder), input_size=70).network for folder in (tmp_path / "tuned", start))  # type: ignore[attr-defined]
    assert tuned(frames).std() > 0.01
    assert not torch.allclose(tuned(frames), untouched(frames), atol=1e-3)
    query = "backbone.encoder.layer.0.attention.q_proj.weight"
    changed = (tuned._model.state_dict()[query] != untouched._model.state_dict()[query]).any()
    assert changed  # by the rate of the encoder, or by the merged update
    with pytest.raises(OptionError, match="give a folder"):
        export(checkpoint, tmp_path / "file.safetensors")


def test_a_run_takes_only_what_it_may(small_set: Path):
    def names(**settings: bool) -> set[str]:
        found = DepthData([small_set], **settings)._pictures()
        return {name for pictures in found.values() for _, name in pictures}

    assert names() == {"p0", "p1", "p2", "p3"}
    assert names(commercial_only=True) == {"p1", "p2", "p3"}
    assert names(labelled_only=True) == {"p0", "p2", "p3"}


def test_the_task_is_known_before_the_arguments(tmp_path: Path):
    assert find_task(["--config", "configs/fit/depth_tiny.yaml"]) == "depth"
    assert find_task(["--config=configs/fit/depth_tiny.yaml"]) == "depth"
    assert find_task(["--config", "configs/fit/smoke.yaml"]) == "refiner"
    assert find_task(["--config", "configs/fit/smoke.yaml", "--task", "depth"]) == "depth"
    assert find_task(["--task", "cooking"]) == "refiner"


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["--data.sources", "{boxes: 0}"], OptionError, "expected more than 0"),
        (["--data.sources", "{cars: 1}"], OptionError, r"sources \['cars'\] have no pictures to train on"),
        (["--model.encoder_rate", "-1"], OptionError, "expected at least 0"),
        (["--model.lora_rank", "2"], OptionError, "LoRA is for the network `anything`"),
        (["--model.network", "anything"], OptionError, "model.start is missing"),
        (["--model.start", "none.pth"], WeightsError, "none.pth cannot be read as weights"),
        (["--task", "cooking"], OptionError, "cooking"),
    ],
)
def test_wrong_settings_are_one_clear_line(
    small_set: Path, tmp_path: Path, words: list[str], error: type[Exception], message: str
):
    with pytest.raises(error, match=message):
        fit("configs/fit/depth_tiny.yaml", small_set, tmp_path, *words)


def test_a_start_of_another_network_is_refused(tmp_path: Path):
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="is not torchvision's MobileNetV2"):
        NETWORKS["tiny"].make(tmp_path / "other.pth", 0)
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="does not fit the network tiny"):
        NETWORKS["tiny"].make(tmp_path / "other.safetensors", 0)
    with pytest.raises(WeightsError, match="does not hold the dino depth network"):
        NETWORKS["dino"].make(tmp_path / "other.safetensors", 0)
    with pytest.raises(WeightsError, match="does not hold DINOv2"):
        NETWORKS["dino"].make(tmp_path / "other.pth", 0)


def test_the_shipped_list_is_readable_and_splits_no_scene():
    rows = depth_prepare.read_material(Path("configs/prepare/depth.csv"))
    held_out = {row.left for row in rows if row.split == "validation" and row.kind == "pair"}
    assert held_out
    assert not held_out & {row.left for row in rows if row.split == "train"}
    with Path("configs/prepare/depth.csv").open() as file:
        assert next(csv.reader(file))[0].startswith("# spatialme prepare-depth")
