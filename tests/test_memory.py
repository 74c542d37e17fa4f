"""The count of memory: clips that fit a GPU, and what is refused."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
import torch

import spatialme
from spatialme import memory
from spatialme.errors import OptionError
from spatialme.memory import Reach, gpu_bytes, host_bytes, limit_gpu_memory, longest_clip
from spatialme.pipeline import Converter
from spatialme.settings import ConverterSettings
from spatialme.types import DepthClip
from tests import media

DRAFT = Reach(cuts=2, depth=8, warper=0, flow=0, branches=[(0, 0)], eyes=1)
FAST = Reach(cuts=2, depth=8, warper=0, flow=1, branches=[(0, 0), (10, 10), (10, 10)], eyes=1)
HD = 1280 * 720


class NoDepth:
    name = "none"
    lookback = lookahead = 0
    notices: tuple[str, ...] = ()

    def stream(self, clips):
        return (DepthClip(clip, clip.frames[:, :1] * 0) for clip in clips)


@pytest.fixture
def converter() -> Converter:
    """A draft converter that believes it is on a GPU; nothing is computed with it."""
    made = Converter(ConverterSettings(quality="draft", device="cpu", max_vram=1.6), depth=NoDepth())
    made.device = torch.device("cuda")
    return made


@pytest.mark.parametrize("reach", [DRAFT, FAST], ids=["draft", "fast"])
@pytest.mark.parametrize("count", [host_bytes, gpu_bytes])
def test_memory_grows_with_clips_pixels_and_eyes(count, reach):
    assert count(reach, 1, HD) < count(reach, 2, HD) < count(reach, 2, 2 * HD)
    assert count(reach, 2, HD) < count(dataclasses.replace(reach, eyes=2), 2, HD)


def test_4k_fits_8_gb_and_1080p_fits_6_gb_in_clips_that_fill_the_depth_network():
    refined = dataclasses.replace(FAST, trained_refiner=True)
    assert gpu_bytes(DRAFT, 1, 3840 * 2160) < 3e9
    assert gpu_bytes(refined, 1, 3840 * 2160) < 8e9
    assert gpu_bytes(refined, 4, 1920 * 1080) < 6e9


def test_propainter_counts():
    full = Reach(cuts=2, depth=8, warper=0, flow=1, branches=[(0, 0), (66, 66), (66, 66)], eyes=1, propainters=2)
    without = dataclasses.replace(full, propainters=0)
    assert gpu_bytes(full, 1, HD) > gpu_bytes(without, 1, HD) + 1.5e9
    assert gpu_bytes(full, 1, 1920 * 1080) < 16e9


def test_one_propainter_branch_at_1080p_stays_below_8_gb():
    pixels = 1920 * 1080
    branch = (memory.PROPAINTER_BYTES + memory.PROPAINTING_BYTES) * pixels + memory.PORTION_BYTES
    assert branch < 6.5e9  # and 1.5 of what it is given, which other branches have besides


def test_a_smaller_budget_makes_shorter_clips_that_fit():
    lengths = []
    for gigabytes in (20, 2.2, 1.8, 1.5):
        length = longest_clip(DRAFT, HD, 16, gigabytes * 1e9)
        assert gpu_bytes(DRAFT, length, HD) <= gigabytes * 1e9
        assert length == 16 or gpu_bytes(DRAFT, length + 1, HD) > gigabytes * 1e9
        lengths.append(length)
    assert lengths[0] == 16
    assert lengths == sorted(lengths, reverse=True)
    assert len(set(lengths)) == 4


def test_a_budget_below_the_least_is_refused_with_what_it_takes():
    least = gpu_bytes(FAST, 1, HD) / 1e9
    with pytest.raises(
        OptionError, match=rf"--max-vram 1\.5 is too little .*0\.9 megapixels, which take {least:.1f} GB"
    ):
        longest_clip(FAST, HD, 16, 1.5e9)


def test_the_converter_shortens_its_clips_on_a_gpu_and_says_so(converter, caplog):
    caplog.set_level("INFO", logger="spatialme")
    length = converter.clip_length(1280, 720)
    assert 1 <= length < 8
    assert f"--max-vram 1.6: 1280x720 in clips of {length} frames, not 8" in caplog.text
    with pytest.raises(OptionError, match=r"--max-vram 1\.6 is too little"):
        converter.clip_length(7680, 4320)


def test_without_a_limit_clips_fit_the_gpu_that_is_there(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: _Gpu())
    caplog.set_level("INFO", logger="spatialme")
    made = Converter(ConverterSettings(quality="draft", device="cpu"), depth=NoDepth())
    made.device = torch.device("cuda")
    assert made.clip_length(1280, 720) == 8
    assert not caplog.text
    longest = memory.clip_for_gpu(FAST, 4 * HD, 16, made.device)
    assert gpu_bytes(FAST, longest, 4 * HD) <= 0.9 * _Gpu.total_memory < gpu_bytes(FAST, longest + 1, 4 * HD)
    assert made.clip_length(15360, 8640) == 1  # too large by count: tried all the same
    monkeypatch.setattr(_Gpu, "total_memory", 1.8e9)
    length = made.clip_length(1280, 720)
    assert length < 8
    assert f"the GPU's memory: 1280x720 in clips of {length} frames, not 8" in caplog.text


def test_on_a_cpu_gpu_memory_sets_no_limit(converter):
    converter.device = torch.device("cpu")
    plain = Converter(ConverterSettings(quality="draft", device="cpu"), depth=NoDepth())
    assert converter.clip_length(1280, 720) == plain.clip_length(1280, 720)


def test_large_pictures_go_one_by_one_on_a_cpu():
    plain = Converter(ConverterSettings(quality="draft", device="cpu"), depth=NoDepth())
    assert plain.clip_length(3840, 2160) == 1
    assert plain.clip_length(64, 48) == 16


def test_pytorch_is_told_to_stay_inside_the_budget(monkeypatch):
    told = []
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: _Gpu())
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share, device: told.append(share))
    limit_gpu_memory(torch.device("cuda"), 5e9)
    limit_gpu_memory(torch.device("cuda"), 50e9)
    limit_gpu_memory(torch.device("cpu"), 5e9)
    assert told == [(5e9 - memory.CUDA_BYTES) / 10e9, 1.0]


class _Gpu:
    total_memory = 10e9


@pytest.mark.parametrize("gigabytes", [0, -3, float("nan")])
def test_a_budget_that_is_none_is_refused(gigabytes):
    with pytest.raises(OptionError, match="is not an amount of memory"):
        ConverterSettings(max_vram=gigabytes)


def test_a_budget_below_what_cuda_takes_is_refused():
    with pytest.raises(OptionError, match=r"--max-vram 0\.5 is less than CUDA itself takes"):
        Converter(ConverterSettings(device="cpu", max_vram=0.5), depth=NoDepth())


def test_memory_that_runs_out_all_the_same_ends_in_one_line(monkeypatch, tmp_path):
    def run_out(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("spatialme.job.Job.convert", run_out)
    with pytest.raises(OptionError, match="takes more GPU memory than there is or --max-vram allows"):
        spatialme.convert(media.write_video(tmp_path / "clip.mp4", frames=1), tmp_path / "out.mp4")


def test_a_peak_is_not_that_of_the_process_which_started_this_one():
    inner = "from spatialme.report import peak_memory_mb; print(peak_memory_mb())"
    outer = f"import subprocess, sys; held = b'x' * 300_000_000; subprocess.run([sys.executable, '-c', {inner!r}])"
    answer = subprocess.run([sys.executable, "-c", outer], capture_output=True, text=True, check=True).stdout
    assert 5 < float(answer) < 200  # a bare interpreter
