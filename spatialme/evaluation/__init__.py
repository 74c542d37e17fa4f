"""How good a synthesised view is: metrics against a real one, and comfort measures of any stereo clip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["METRICS", "Comfort", "Dists", "Lpips", "MetricSpec", "columns", "measure", "measure_comfort"]

if TYPE_CHECKING:
    from spatialme.evaluation.comfort import Comfort, measure_comfort
    from spatialme.evaluation.dists import Dists
    from spatialme.evaluation.metrics import METRICS, MetricSpec, columns, measure
    from spatialme.evaluation.perceptual import Lpips

_HOMES = {
    "METRICS": "metrics",
    "MetricSpec": "metrics",
    "columns": "metrics",
    "measure": "metrics",
    "Comfort": "comfort",
    "measure_comfort": "comfort",
    "Dists": "dists",
    "Lpips": "perceptual",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: `spatialme compare --help` shall not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'spatialme.evaluation' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"spatialme.evaluation.{_HOMES[name]}"), name)
