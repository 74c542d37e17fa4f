"""`spatialme prepare-depth`, without importing torch until it runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def prepare_depth(
    material: Path, output: Path, *, root: Path | None = None, teacher: str | None = None, device: str = "auto"
) -> Iterator[str]:
    """Make a depth set, for `spatialme fit --config configs/fit/depth_tiny.yaml`; what is there already is kept.

    Args:
        material: A CSV list; see docs/depth.md.
        output: The folder to make or to complete.
        root: Folder that the list's paths start from; the list's own when left out.
        teacher: Also store this depth network's answer for every picture: what --depth of convert takes.
        device: auto, cpu, cuda or cuda:N.

    Returns:
        A line per finished piece of material.

    Raises:
        InputError: The list or something on it cannot be read.
        WeightsError: RAFT's or the teacher's weights are not on this machine.
    """
    from spatialme.training.depth_prepare import prepare_set

    return prepare_set(material, output, root=root or material.parent, teacher=teacher, device=device)
