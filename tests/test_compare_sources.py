"""`spatialme compare` on prepared clips, on clips with cuts, and with tools that it runs itself."""

from __future__ import annotations

import csv
import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from spatialme.data.clip_files import write_frames
from spatialme.data.manifest import FILES, CachedClip, cached_file, write_manifest
from spatialme.errors import InputError, OptionError, SpatialmeError
from spatialme.evaluation import compare as compare_module
from spatialme.evaluation.baselines import METHODS
from spatialme.evaluation.command_tool import parse_commands
from spatialme.evaluation.commands import compare
from spatialme.evaluation.matching import sgbm
from spatialme.evaluation.pairs import PairFiles, fit, read_frames, read_pieces
from spatialme.evaluation.prepared import MonoClip, find_prepared
from spatialme.evaluation.protocols import Protocol
from spatialme.evaluation.report import markdown, test_table
from spatialme.evaluation.results import Comparison, Row
from spatialme.evaluation.run_method import MethodRunner, as_shot, warped_clips
from spatialme.flow import open_flow
from tests.scenes import Layer, LayeredScene, Texture
from tests.stereo_files import arrays, crowd, measure_psnr_alone, write_image, write_pair, write_video

test_table.__test__ = False  # a table of a test, not a test

CPU = torch.device("cpu")
SIZE = {"width": 160, "height": 120}


@pytest.fixture
def quick(monkeypatch):
    """Takes PSNR alone, for tests of what goes on around the metrics."""

    measure_psnr_alone(monkeypatch)
    monkeypatch.setattr(compare_module, "SHOWN_CLIPS", 0)
    monkeypatch.setattr(compare_module, "_comfort", lambda view, material, keeps_warp: {})


def psnr(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(-10 * torch.log10((first - second).square().mean()))


# ---- prepared clips -----------------------------------------------------------------------------------------------


def cached(folder: Path, name: str, kind, files: dict[str, np.ndarray], **changes) -> CachedClip:
    """A clip of a manifest; files that nobody here looks at hold one black frame."""
    written = {}
    for part in FILES[kind]:
        path = folder / f"{name}_{part}.mkv"
        write_frames(path, files.get(part, np.zeros((1, 8, 8, 3), np.uint8)))
        written[part] = cached_file(path)
    frames, height, width = next(iter(files.values())).shape[:3]
    about = {"scene": name, "source": "ours", "licence": "CC0-1.0", "commercial": True, "split": "test"}
    return CachedClip(
        kind, f"{name}/0000", **{**about, **changes}, frames=frames, width=width, height=height, files=written
    )


def picture_and_nearness(frames: int) -> dict[str, np.ndarray]:
    """2D material whose nearness is known."""
    scene = crowd(frames=frames, velocity=1.0, width=321, height=241)  # odd sides: halving must cope
    nearness = (scene.disparity / scene.disparity.max())[:, 0].numpy()
    return {"frames": np.stack(arrays(scene.left)), "nearness": (nearness * 65535).round().astype(np.uint16)}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    """One clip of every group, and one to train on."""
    folder = tmp_path_factory.mktemp("prepared")
    eyes = crowd(frames=4, velocity=1.0, **SIZE)
    stereo = {"left": np.stack(arrays(eyes.left)), "right": np.stack(arrays(eyes.right))}
    still = {name: frames[:1] for name, frames in stereo.items()}
    clips = [
        cached(folder, "mono", "mono", picture_and_nearness(3)),
        cached(folder, "photo", "mono", picture_and_nearness(1), split="validation"),
        cached(folder, "stereo", "stereo", stereo),
        cached(folder, "still", "stereo", still),
        cached(folder, "learnt", "stereo", stereo, split="train"),
    ]
    write_manifest(folder / "manifest.json", clips)
    return folder / "manifest.json"


def test_a_manifests_held_out_clips_are_compared_by_group(manifest):
    found = {source.name: source.group for source in find_prepared(manifest, Protocol())}
    assert found == {
        "mono/0000": "mono-made videos",
        "photo/0000": "mono-made stills",
        "stereo/0000": "real videos",
        "still/0000": "real stills",
    }
    assert [source.name for source in find_prepared(manifest, Protocol(splits=("train",)))] == ["learnt/0000"]


def test_a_manifest_without_held_out_clips_is_refused(tmp_path, manifest):
    frames = {"frames": np.zeros((1, 8, 8, 3), np.uint8), "nearness": np.zeros((1, 8, 8), np.uint16)}
    write_manifest(tmp_path / "manifest.json", [cached(tmp_path, "a", "mono", frames, split="train")])
    with pytest.raises(InputError, match="has no clip of split validation or test"):
        find_prepared(tmp_path / "manifest.json", Protocol())
    with pytest.raises(OptionError, match="split holiday is not one of train, validation, test"):
        Protocol(splits=("holiday",))


def test_a_cached_pair_is_read_to_the_bit(manifest):
    source = next(source for source in find_prepared(manifest, Protocol()) if source.name == "stereo/0000")
    (piece,) = read_pieces(source, Protocol())
    scene = crowd(frames=4, velocity=1.0, **SIZE)
    for eye, wanted in ((piece.left, scene.left), (piece.right, scene.right)):
        assert np.array_equal(np.stack(arrays(eye)), np.stack(arrays(wanted)))
    assert piece.disparity is None


def test_a_mono_made_pair_knows_its_disparity(manifest):
    source = next(source for source in find_prepared(manifest, Protocol()) if source.name == "mono/0000")
    assert isinstance(source, MonoClip)
    (piece,) = read_pieces(source, Protocol(frames=2))
    assert piece.left.shape == piece.right.shape == (2, 3, 120, 160)
    assert float(piece.disparity.max() - piece.disparity.min()) == pytest.approx(0.025 * 160)
    warped = next(warped_clips(piece.left, piece.disparity))
    known = (~warped.hole).expand_as(warped.view)
    assert bool(warped.hole.any())
    # 8-bit eyes, two samplings, and edges that halving has mixed
    assert psnr(warped.view[known], piece.right[known]) > 28
    assert psnr(warped.view[known], piece.right[known]) > psnr(piece.left[known], piece.right[known]) + 5
    halved = fit(next(read_frames(source.clip.path("frames"), Protocol()))[:240, :320], Protocol(size=(160, 120)))
    assert np.abs(halved - np.float32(arrays(piece.right)[0])).max() <= 1, "the frame itself is the truth"


@pytest.mark.usefixtures("quick")
def test_one_command_tells_the_groups_apart(manifest, tmp_path):
    def no_matching(left, right):
        calls.append(left.shape)
        return sgbm(left, right)

    calls: list[torch.Size] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spatialme.evaluation.session.open_matcher", lambda name, device: ("sgbm", no_matching))
        summary = compare(data=manifest, out=tmp_path, methods="stretch", device="cpu")
    assert len(calls) == 5, "four frames and one of the real clips are matched, none of the mono-made"
    rows = list(csv.DictReader((tmp_path / "results.csv").read_text().splitlines()))
    assert [row["error"] for row in rows] == [""] * 4
    assert {row["clip"]: row["group"] for row in rows}["mono/0000"] == "mono-made videos"
    text = (tmp_path / "results.md").read_text()
    page = (tmp_path / "report.html").read_text()
    for group in ("Mono-made videos", "Mono-made stills", "Real videos", "Real stills"):
        assert f"## {group} alone: 1 clip" in text
        assert f"<h2>{group} alone</h2>" in page
        assert f"{group.lower()}:" in "\n".join(summary.lines())


def test_without_a_baseline_the_last_method_is_tested_against_the_best_of_the_others():
    values = {"poly": 20.0, "mean": 22.0, "refined": 25.0}
    rows = [Row(clip, name, 1, {"psnr_hole": value}) for name, value in values.items() for clip in "abcdef"]
    comparison = Comparison(Protocol(), tuple(rows), (), dict.fromkeys(values, ""), (), {})
    (line,) = test_table(comparison)[1:]
    assert line[:4] == ["refined", "psnr_hole", "mean", "+3 [3, 3]"]
    assert "## Against the best of the other methods" in markdown(comparison)
    assert " alone: " not in markdown(comparison)


def test_the_mean_is_the_branches_mean():
    scene = crowd(frames=2, velocity=1.0, **SIZE)
    flow = open_flow("dis", CPU)

    def view(name: str) -> torch.Tensor:
        return MethodRunner(name, CPU, flow)(scene.left, scene.disparity).view

    wanted = torch.stack([view(name) for name in ("poly", "propagation", "expansion")]).mean(0)
    assert torch.allclose(view("mean"), wanted, atol=1e-6)  # float32, in another order


# ---- cuts ---------------------------------------------------------------------------------------------------------


def two_shots() -> tuple[LayeredScene, LayeredScene]:
    """Five frames each of two scenes that nobody would take for one."""
    bright = Layer(0.0, Texture(seed=5, colour=(0.8, 0.8, 0.2), finest_px=3.0))
    near = Layer(1.0, Texture(seed=6, colour=(0.1, 0.6, 0.7), finest_px=3.0), "square", (80.0, 60.0), 50, (3.0, 0.0))
    return crowd(frames=5, velocity=2.0, **SIZE), LayeredScene(160, 120, 5, (bright, near), 6.25, convergence=0.0)


@pytest.fixture(scope="module")
def cut_clips(tmp_path_factory) -> Path:
    """`both`: two shots in one file; `first` and `second`: each alone; with their true maps."""
    root = tmp_path_factory.mktemp("cut")
    (root / "clips").mkdir()
    (root / "maps").mkdir()
    first, second = two_shots()
    sbs = [[np.concatenate(eyes, 1) for eyes in zip(arrays(shot.left), arrays(shot.right))] for shot in (first, second)]
    maps = [shot.disparity[:, 0].numpy() for shot in (first, second)]
    contents = {
        "first": (sbs[0], maps[0]),
        "second": (sbs[1], maps[1]),
        "both": ([*sbs[0], *sbs[1]], np.concatenate(maps)),
    }
    for name, (pictures, disparity) in contents.items():
        write_video(root / "clips" / f"{name}_sbs.mkv", pictures)
        np.save(root / "maps" / f"{name}.npy", disparity)
    return root


def test_a_piece_never_crosses_a_cut(cut_clips):
    source = PairFiles("both", cut_clips / "clips" / "both_sbs.mkv", None)
    assert [(piece.first_index, len(piece)) for piece in read_pieces(source, Protocol())] == [(0, 5), (5, 5)]


@pytest.mark.usefixtures("quick")
def test_methods_carry_nothing_over_a_cut(cut_clips, tmp_path):
    summary = compare(
        data=cut_clips / "clips",
        out=tmp_path,
        methods="propagation",
        disparity=str(cut_clips / "maps"),
        device="cpu",
    )
    found = {row.clip: row.value("psnr") for row in summary.comparison.rows}
    assert found["both"] == pytest.approx((found["first"] + found["second"]) / 2, abs=1e-6)


# ---- tools that are run -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """A still, `a`, and a video, `b`, with their true maps in `maps` beside them."""
    folder = tmp_path_factory.mktemp("tools") / "clips"
    for place in (folder, folder.parent / "maps"):
        place.mkdir()
    for name, scene in (("a", crowd(**SIZE)), ("b", crowd(frames=2, velocity=1.0, **SIZE))):
        write_pair(folder, name, scene)
        np.save(folder.parent / "maps" / f"{name}.npy", scene.disparity[:, 0].numpy())
    return folder


def python_tool(tmp_path: Path, code: str, arguments: str) -> str:
    """A command that runs some lines of Python, whose `sys.argv` has the arguments."""
    script = tmp_path / "tool.py"
    script.write_text(f"import os, pathlib, shutil, subprocess, sys, time\n{code}\n")
    return f"tool={shlex.quote(sys.executable)} -S {shlex.quote(str(script))} {arguments}"


def run_command(clips: Path, out: Path, command: str, **options) -> dict[tuple[str, str], Row]:
    maps = str(clips.parent / "maps")
    summary = compare(
        data=clips, out=out, methods="copy_left", disparity=maps, command=command, device="cpu", **options
    )
    return {(row.clip, row.method): row for row in summary.comparison.rows}


@pytest.mark.usefixtures("quick")
def test_a_tool_is_run_on_every_clip_and_scored(clips, tmp_path):
    # in the folder it may call its file what it likes, so that a copy of the lossless input can be its result
    code = "left = pathlib.Path(sys.argv[1]); shutil.copy(left, pathlib.Path(sys.argv[2]) / f'clip{left.suffix}')"
    rows = run_command(clips, tmp_path / "out", python_tool(tmp_path, code, "{left} {output_folder}"))
    for clip in "ab":
        assert rows[clip, "tool"].error == ""
        assert rows[clip, "tool"].value("psnr") == pytest.approx(rows[clip, "copy_left"].value("psnr"))
        assert rows[clip, "tool"].seconds_per_frame > 0
        assert 1 < rows[clip, "tool"].peak_memory_mb < 200, "an interpreter's"
        assert (tmp_path / "out" / "commands" / "tool" / clip / "result").is_dir()


@pytest.mark.usefixtures("quick")
def test_a_tool_may_write_both_eyes_and_several_may_run(clips, tmp_path):
    stills = tmp_path / "stills"
    stills.mkdir()
    (tmp_path / "maps").symlink_to(clips.parent / "maps")
    for eye in ("left", "right"):
        (stills / f"a_{eye}.png").write_bytes((clips / f"a_{eye}.png").read_bytes())
    scene = crowd(**SIZE)
    both = write_image(tmp_path / "both.png", np.concatenate((arrays(scene.left)[0], arrays(scene.right)[0]), 1))
    copy = f"cp {shlex.quote(str(both))} {{output_sbs}}"
    rows = run_command(stills, tmp_path / "out", f"perfect=env LEFT={{left}} {copy} ; same=cp {{left}} {{output}}")
    assert rows["a", "perfect"].value("psnr") == pytest.approx(100, abs=1e-3)
    assert rows["a", "same"].value("psnr") == pytest.approx(rows["a", "copy_left"].value("psnr"))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("print('warming up'); sys.exit('no memory left')", "tool ended with exit code 1: no memory left"),
        ("sys.exit(3)", r"tool ended with exit code 3: it said nothing; see .*log.txt"),
        ("pass", r"result has no file for clip clip, expected clip_right.\*"),
    ],
)
def test_a_tool_that_fails_is_its_rows_affair(clips, tmp_path, code, message):
    rows = run_command(clips, tmp_path / "out", python_tool(tmp_path, code, "{left} {output}"))
    for clip in "ab":
        assert rows[clip, "copy_left"].error == ""
        with pytest.raises(AssertionError, match=message):
            raise AssertionError(rows[clip, "tool"].error)


@pytest.mark.usefixtures("quick")
def test_a_tool_that_takes_too_long_is_ended_with_all_it_has_started(clips, tmp_path):
    script = tmp_path / "tool.sh"
    script.write_text(f"sleep 600 &\necho $! > {shlex.quote(str(tmp_path / 'child'))}\nwait\n")
    command = f"tool=sh {shlex.quote(str(script))} {{left}} {{output}}"
    rows = run_command(clips, tmp_path / "out", command, command_timeout=1.5)
    assert rows["a", "tool"].error == "tool took more than 1.5 s and was ended; give --command-timeout"
    status = Path(f"/proc/{(tmp_path / 'child').read_text().strip()}/stat")
    assert not status.exists() or " Z " in status.read_text(), "the child lives on"  # a zombie waits for its reaper


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        ("cp {left} {output}", {}, "is not NAME="),
        ("../up=cp {left} {output}", {}, "is not NAME="),
        ("a=cp {left}", {}, "a must name {left} and one of {output}, {output_sbs}, {output_folder}"),
        ("a=cp {output}", {}, "a must name {left} and one of"),
        ("a=cp {left} {output} {output_sbs}", {}, "a must name {left} and one of"),
        ("a=no-such-program {left} {output}", {}, "a: no-such-program is not a program on this machine"),
        ("a=cp {left} '{output}", {}, "cannot be read as words"),
        ("a=cp {left} {output}", {"timeout_seconds": 0.0}, "--command-timeout is 0, expected more than 0"),
    ],
)
def test_a_wrong_command_is_refused(tmp_path, command, options, message):
    with pytest.raises(OptionError, match=message):
        parse_commands(command, tmp_path, **{"timeout_seconds": 10.0, **options})


def test_a_file_that_cannot_be_started_is_its_rows_affair(clips, tmp_path):
    program = tmp_path / "program"
    program.write_text("no program at all")
    os.chmod(program, 0o755)
    (tool,) = parse_commands(f"a={program} {{left}} {{output}}", tmp_path / "out", timeout_seconds=10.0)
    source = PairFiles("a", clips / "a_left.png", clips / "a_right.png")
    with pytest.raises(SpatialmeError, match=r"a: .*program cannot be started: Exec format error"):
        next(tool.frames(source, Protocol()))


# ---- columns ------------------------------------------------------------------------------------------------------


class Cheap:
    """In place of the networks on VGG16, which tests/test_metrics.py runs: the absolute difference."""

    smallest_side = 16

    def __init__(self, weights: Path, device: torch.device):
        assert weights.name == "vgg16.pth"

    def __call__(self, first, second):
        return (first - second).abs().mean((1, 2, 3))


class CheapLpips(Cheap):
    def __init__(self, *, device: torch.device, vgg16_weights: Path | None = None):
        super().__init__(vgg16_weights or Path("vgg16.pth"), device)

    def __call__(self, first, second):
        where = (first - second).abs().mean(1, keepdim=True)
        return where.mean((1, 2, 3)), where


def test_with_vgg16_every_column_of_a_video_is_filled(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(compare_module, "find", lambda name: Path(f"{name}.pth"))
    monkeypatch.setattr(compare_module, "Dists", Cheap)
    monkeypatch.setattr(compare_module, "Lpips", CheapLpips)
    scene = crowd(frames=3, velocity=1.0, width=192, height=176)
    (tmp_path / "maps").mkdir()
    (tmp_path / "clips").mkdir()
    write_pair(tmp_path / "clips", "b", scene)
    np.save(tmp_path / "maps" / "b.npy", scene.disparity[:, 0].numpy())
    compare(
        data=tmp_path / "clips",
        out=tmp_path / "out",
        methods="copy_left,stretch",
        disparity=str(tmp_path / "maps"),
        device="cpu",
    )
    copied, stretched = csv.DictReader((tmp_path / "out" / "results.csv").read_text().splitlines())
    assert [name for name, value in stretched.items() if value == ""] == ["error"]
    assert copied["disparity_flicker"] == "", "nobody knows where its points lie"
    assert "disparity_flicker (1 of 2 rows)" in caplog.text
    for column in ("dists", "lpips_vgg_hole"):
        assert float(stretched[column]) < float(copied[column])
    # in percent of the width: the scene's, and none between two copies of one picture
    assert float(stretched["disparity_p99"]) == pytest.approx(6.25, abs=0.05)
    assert float(copied["disparity_p99"]) == pytest.approx(0, abs=0.05)


def test_the_flow_of_frames_is_the_same_for_clips_of_any_length():
    scene = crowd(frames=5, velocity=2.0, **SIZE)
    flow = open_flow("dis", CPU)
    ((_, whole),) = flow.with_motion([scene.left], as_shot)
    shot = as_shot(scene.left)
    parts = [
        replace(shot, frames=scene.left[i : i + 1], pictures=(None,), starts_shot=i == 0, ends_shot=i == 4)
        for i in range(5)
    ]
    for index, (part, motion) in enumerate(flow.with_motion(parts, lambda clip: clip)):
        assert part is parts[index]
        assert torch.equal(motion.forward[0], whole.forward[index])
        assert torch.equal(motion.backward_valid[0], whole.backward_valid[index])


def test_every_method_says_whether_it_keeps_the_warp():
    assert [name for name, spec in METHODS.items() if not spec.keeps_warp] == ["copy_left", "backward_warp"]
