"""The command line itself; what the commands do is tested where they live."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from spatialme import __version__
from spatialme.cli import COMMANDS, main


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "spatialme", *words], capture_output=True, text=True)


def test_the_module_and_the_script_are_one_program():
    script = subprocess.run([Path(sys.executable).with_name("spatialme"), "--help"], capture_output=True, text=True)
    assert script.returncode == 0
    assert script.stdout == run("--help").stdout


def test_the_overview_names_every_command():
    text = run("--help").stdout
    assert all(name in text and command.summary in text for name, command in COMMANDS.items())


@pytest.mark.parametrize("words", [["--help"], ["--version"], *([*name.split(), "--help"] for name in COMMANDS)])
def test_help_imports_nothing_heavy(words):
    code = (
        "import sys; from spatialme.cli import main\n"
        f"try: main({words!r})\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'cv2', 'numba', 'transformers', 'scenedetect'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr


def test_version():
    assert run("--version").stdout == f"spatialme {__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name, capsys):
    try:
        code = main([*name.split(), "--help"])
    except SystemExit as stop:  # argparse's way
        code = stop.code
    assert code == 0
    assert "usage: spatialme " + name in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["transmogrify"], "command 'transmogrify' is not known; the commands are convert"),
        (["convert", "in.mp4"], "arguments are required: output"),
        (["convert", "in.mp4", "out.mp4", "--eye", "third"], "--eye: .*'left', 'right', 'both'.*third"),
        (["convert", "in.mp4", "out.mp4", "--max-disparity", "lots"], "--max-disparity: .*lots"),
        (["convert", "in.mp4", "out.mp4", "--no-such-option"], "unrecognized arguments: --no-such-option"),
    ],
)
def test_wrong_words_give_one_line_and_exit_code_2(words, message, capsys):
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1

    assert re.search(message, captured.err), captured.err
