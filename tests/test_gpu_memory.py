"""The count of GPU memory, held against the live tensors of conversions on a GPU that is not there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
PROGRAM = Path(__file__).parent / "gpu_memory_rehearsal.py"


@pytest.mark.parametrize(
    ("quality", "length"),
    [
        ("draft", 4),
        pytest.param("fast", 1, marks=pytest.mark.slow),
        pytest.param("fast", 3, marks=pytest.mark.slow),
    ],
)
def test_live_tensors_stay_within_the_count(quality: str, length: int) -> None:
    """Without networks, whose memory does not grow with the frame."""
    done = subprocess.run([sys.executable, str(PROGRAM), quality, str(length)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    measured, counted = json.loads(done.stdout.splitlines()[-1])
    assert 0.8 < measured / counted < 1
