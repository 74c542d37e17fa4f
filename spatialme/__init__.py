"""spatialme: any 2D video into stereo 3D.

    import spatialme
    report = spatialme.convert("film.mp4", "film_Full_SBS.mp4")

`Converter` serves people with a frame loop of their own: ``for left, right in Converter().stream(frames): ...``
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Converter", "ConverterSettings", "StereoClip", "__version__", "convert"]

if TYPE_CHECKING:
    from spatialme.conversion import convert
    from spatialme.pipeline import Converter
    from spatialme.settings import ConverterSettings
    from spatialme.types import StereoClip

_HOMES = {
    "convert": "spatialme.conversion",
    "Converter": "spatialme.pipeline",
    "ConverterSettings": "spatialme.settings",
    "StereoClip": "spatialme.types",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for, so that `import spatialme` and `--help` stay instant."""
    if name not in _HOMES:
        raise AttributeError(f"module 'spatialme' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
