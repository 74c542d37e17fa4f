"""The most memory held while something runs."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import psutil
import pytest
import torch

from spatialme.evaluation.peak import watched_memory, watched_program

# starts another that fills 200 MB, waits for it, and ends
PROGRAM = """
import subprocess, sys
subprocess.run([sys.executable, "-S", "-c", "import time; held = b'x' * 200_000_000; time.sleep(0.5)"])
"""


def test_a_program_is_watched_with_all_that_it_has_started():
    process = subprocess.Popen([sys.executable, "-S", "-c", PROGRAM])
    with watched_program(process.pid) as peak:
        process.wait()
    # two interpreters of some 10 MB beside it
    assert 190 < peak.megabytes < 260


def test_a_program_that_has_ended_holds_nothing():
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    with watched_program(process.pid) as peak:
        pass
    assert peak.megabytes == 0


def test_this_process_is_watched_on_a_cpu():
    process = psutil.Process()
    with watched_memory(torch.device("cpu")) as peak:
        held = np.ones(200_000_000, np.uint8)
        then = process.memory_info().rss / 2**20
        assert held.all()
        del held
    assert peak.megabytes == pytest.approx(then, rel=0.02)
