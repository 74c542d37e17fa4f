"""The benchmark for a lent GPU, rehearsed without one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

COMMAND = [sys.executable, str(Path(__file__).parents[1] / "benchmarks" / "gpu.py")]


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_line():
    done = subprocess.run(COMMAND, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == "no CUDA device here; --device cpu --small rehearses\n"


@pytest.mark.slow
def test_a_rehearsal_checks_and_measures():
    done = subprocess.run([*COMMAND, "--device", "cpu", "--small"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("| ok |") == 11
    assert "WRONG" not in done.stdout
    rows = [line for line in done.stdout.splitlines() if line.startswith(("| draft |", "| fast |"))]
    assert len(rows) == 2
    assert "flow " in rows[1]


@pytest.mark.slow
@pytest.mark.parametrize("quality", ["draft", "fast"])
def test_the_gpus_way_needs_none_of_the_packages_that_a_lent_machine_lacks(quality):
    """On PyTorch's meta device, as in test_gpu_path; the stand-ins raise where they are used."""
    program = Path(__file__).parent / "gpu_rehearsal.py"
    done = subprocess.run([sys.executable, str(program), quality], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "2 clips\n"
