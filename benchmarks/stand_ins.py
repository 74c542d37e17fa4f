"""Lets spatialme's GPU path run where packages are missing that it imports but does not need on a GPU.

A module of a missing package gives placeholders for whatever is imported from it; using one raises. Numba's decorators
leave functions as they are: plain Python, right and slow.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[1]
NOT_NEEDED = ("av", "cv2", "numba", "scenedetect", "psutil", "platformdirs")


def prepare(pretend_missing: Collection[str] = ()) -> list[str]:
    """Make this checkout importable, with stand-ins; returns the packages that have one."""
    sys.path.insert(0, str(ROOT))
    os.environ["SPATIALME_WEIGHTS"] = os.devnull  # whatever weights are here, all machines shall do the same work
    missing = [name for name in NOT_NEEDED if name in pretend_missing or importlib.util.find_spec(name) is None]
    sys.meta_path.insert(0, _Finder(missing))
    if importlib.util.find_spec("spatialme_propainter") is None:
        folder = ROOT / "third_party" / "propainter"
        spec = importlib.util.spec_from_file_location(
            "spatialme_propainter", folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        assert spec is not None
        assert spec.loader is not None
        sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[spec.name])
    return missing


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, missing: Sequence[str]) -> None:
        self._missing = missing

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if fullname.split(".")[0] not in self._missing:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        if module.__name__ == "numba":
            vars(module).update(njit=_unchanged, jit=_unchanged, prange=range)


class _StandIn(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (_Absent,), {"package": self.__name__})


class _Absent:
    package = ""

    def __init__(self, *_: object, **__: object) -> None:
        raise ImportError(f"{type(self).__name__} of {self.package} is not here; install {self.package}")


def _unchanged(function: Any = None, **_: object) -> Any:
    return function if function is not None else _unchanged
