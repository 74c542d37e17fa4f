"""Triton's kernels against their twins, interpreted on a CPU; that its compiler takes them; and who chooses them."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from spatialme import device

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton")
CASES = (
    "warp",
    "warp, not finite",
    "polylines",
    "polylines, soft, 3 samples",
    "polylines, in parts",
    "median",
    "smoothing",
    "walk",
    "walk, levels",
)


@pytest.fixture(scope="module")
def answers() -> dict[str, bool]:
    command = [sys.executable, "-m", "tests.triton_cases"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_triton
@pytest.mark.parametrize("name", CASES)
def test_a_kernel_gives_its_twins_bits(answers, name):
    assert answers[name]
    assert set(answers) == set(CASES)


@needs_triton
@pytest.mark.slow
def test_kernels_compile_for_a_gpu_without_fused_rounding():
    """Needs no GPU: Triton brings the assembler along. Fused products would round unlike the twins."""
    command = [sys.executable, "-m", "tests.triton_compile"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr
    listings = json.loads(done.stdout)
    assert len(listings) == 7
    for name, listing in listings.items():
        assert ".target sm_90" in listing, name
        if name != "_median":  # compares and copies only
            assert not re.search(r"\bfma\.", listing), name
        assert not re.search(r"div\.(full|approx)", listing), name


def test_kernels_are_for_gpus_and_need_a_compiler(monkeypatch):
    gpu = torch.device("cuda")
    monkeypatch.setattr(device, "has_triton", lambda: True)
    assert device.computes_with_triton(gpu)
    assert not device.computes_with_triton(torch.device("cpu"))
    monkeypatch.setattr(device, "has_triton", lambda: False)
    assert not device.computes_with_triton(gpu)


@needs_triton
@pytest.mark.skipif(sys.platform == "win32", reason="Triton brings a compiler there")
def test_without_a_c_compiler_triton_is_not_chosen(monkeypatch):
    look = device.has_triton.__wrapped__
    monkeypatch.setitem(os.environ, "CC", "some-cc")
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}" if name == "some-cc" else None)
    assert look()
    monkeypatch.delitem(os.environ, "CC")
    assert not look()
