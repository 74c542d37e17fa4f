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
    made = Converter(ConverterSettings(quality="draft", device="cpu", max_vram=4), depth=NoDepth())
    made.device = torch.device("cuda")
    return made


@pytest.mark.parametrize("reach", [DRAFT, FAST], ids=["draft", "fast"])
@pytest.mark.parametrize("count", [host_bytes, gpu_bytes])
def test_memory_grows_with_clips_pixels_and_eyes(count, reach):
    assert count(reach, 1, HD) < count(reach, 2, HD) < count(reach, 2, 2 * HD)
    assert count(reach, 2, HD) < count(dataclasses.replace(reach, eyes=2), 2, HD)


def test_the_count_agrees_with_what_tensors_were_measured():
    # live tensors of a draft conversion at 320x180, the warp's GPU kernel run on a CPU: 391 and 1156 bytes per pixel
    for length, measured in ((1, 391), (4, 1156)):
        counted = gpu_bytes(DRAFT, length, 1_000_000) - memory.CUDA_BYTES - memory.DEPTH_BYTES
        assert counted / 1e6 == pytest.approx(measured, rel=0.05)


def test_4k_fits_8_gb_in_draft_and_a_refined_4k_needs_little_more_for_the_refiner():
    ultra_hd = 3840 * 2160
    assert gpu_bytes(DRAFT, 1, ultra_hd) < 8e9
    refined = dataclasses.replace(FAST, trained_refiner=True)
    assert gpu_bytes(refined, 1, ultra_hd) - gpu_bytes(FAST, 1, ultra_hd) < 1e9  # in bands; 3.2 GB in one piece


def test_a_smaller_budget_makes_shorter_clips_that_fit():
    lengths = []
    for gigabytes in (20, 4, 3, 2.2):
        length = longest_clip(DRAFT, HD, 16, gigabytes * 1e9)
        assert gpu_bytes(DRAFT, length, HD) <= gigabytes * 1e9
        assert length == 16 or gpu_bytes(DRAFT, length + 1, HD) > gigabytes * 1e9
        lengths.append(length)
    assert lengths[0] == 16
    assert lengths == sorted(lengths, reverse=True)
    assert len(set(lengths)) == 4


def test_a_budget_below_the_least_is_refused_with_what_it_takes():
    least = gpu_bytes(FAST, 1, HD) / 1e9
    with pytest.raises(OptionError, match=rf"--max-vram 2 is too little .*0\.9 megapixels, which take {least:.1f} GB"):
        longest_clip(FAST, HD, 16, 2e9)


def test_the_converter_shortens_its_clips_on_a_gpu_and_says_so(converter, caplog):
    caplog.set_level("INFO", logger="spatialme")
    length = converter.clip_length(1280, 720)
    assert 1 <= length < 16
    assert f"--max-vram 4: 1280x720 in clips of {length} frames, not 16" in caplog.text
    with pytest.raises(OptionError, match="--max-vram 4 is too little"):
        converter.clip_length(7680, 4320)


def test_without_a_limit_clips_fit_the_gpu_that_is_there(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: _Gpu())
    caplog.set_level("INFO", logger="spatialme")
    made = Converter(ConverterSettings(quality="draft", device="cpu"), depth=NoDepth())
    made.device = torch.device("cuda")
    assert made.clip_length(1280, 720) == 16
    assert not caplog.text
    longest = memory.clip_for_gpu(FAST, HD, 16, made.device)
    assert gpu_bytes(FAST, longest, HD) <= 0.9 * _Gpu.total_memory < gpu_bytes(FAST, longest + 1, HD)
    assert made.clip_length(7680, 4320) == 1  # too large by count: tried all the same
    monkeypatch.setattr(_Gpu, "total_memory", 4e9)
    length = made.clip_length(1280, 720)
    assert length < 16
    assert f"the GPU's memory: 1280x720 in clips of {length} frames, not 16" in caplog.text


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
