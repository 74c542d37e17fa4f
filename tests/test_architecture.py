"""The house rules of docs/architecture.md that a machine can check."""

from __future__ import annotations

import ast
import configparser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "spatialme"

# nothing imports from a later floor
FLOORS = [
    ["errors", "types"],
    ["stream", "device", "transfer", "disk", "levels", "networks"],
    ["weights"],
    ["settings"],
    ["video", "depth", "warp", "flow", "inpaint", "refine", "shots", "report", "profiling", "memory"],
    ["pipeline", "evaluation", "data", "colour_torch"],
    ["film"],
    ["job", "training", "preparation"],
    ["folders", "estimate", "preview", "preview_spots", "preview_sheet"],
    ["doctor", "doctor_checks", "doctor_speed"],
    ["conversion"],
    ["refine_maps"],
    ["cli"],
    ["__main__"],
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# inside the third floor the arrows run one way, too
MAY_NOT_IMPORT = {
    "video": {"depth", "warp", "flow", "inpaint", "refine", "shots", "report"},
    "warp": {"depth", "flow", "inpaint", "refine", "video", "shots"},
    "flow": {"depth", "inpaint", "refine", "video", "shots"},
    "depth": {"inpaint", "refine", "warp", "shots"},
    "inpaint": {"depth", "refine", "video", "shots"},
    "refine": {"depth", "inpaint", "video", "shots"},
}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """Dotted names that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_imports_upwards(path):
    room = room_of(path)
    assert room in FLOOR_OF, f"{room} has no floor yet: add it to FLOORS and docs/architecture.md"
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] != "spatialme" or len(parts) < 2 or parts[1] not in FLOOR_OF:
            continue
        assert FLOOR_OF[parts[1]] <= FLOOR_OF[room], f"{room} imports {name}, which stands above it"
        assert parts[1] not in MAY_NOT_IMPORT.get(room, set()), f"{room} must not import {name}"


def test_third_party_code_has_exactly_one_importer():
    importers = {
        str(path.relative_to(PACKAGE))
        for path in modules()
        if any(name.split(".")[0] in ("spatialme_propainter", "third_party") for name in imports_of(path))
    }
    assert importers <= {"inpaint/propainter.py"}


def test_setup_cfg_lists_every_package():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    there = {".".join(path.parent.relative_to(ROOT).parts) for path in PACKAGE.rglob("__init__.py")}
    assert listed == there | {"spatialme_propainter"}
