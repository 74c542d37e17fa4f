"""`spatialme compare` on the clips of several manifests at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from spatialme.data.manifest import write_manifest
from spatialme.errors import InputError
from spatialme.evaluation.protocols import Protocol
from spatialme.evaluation.session import _sources
from tests.test_data import save_clip


def test_clips_of_all_manifests_are_compared_each_under_its_own_name(tmp_path):
    manifests = []
    for folder, kind, name in (("a", "mono", "film"), ("b", "stereo", "pair"), ("c", "stereo", "pair")):
        (tmp_path / folder).mkdir()
        clip = save_clip(tmp_path / folder, name, kind, frames=2, split="test")
        write_manifest(tmp_path / folder / "manifest.json", [clip])
        manifests.append(str(tmp_path / folder / "manifest.json"))
    found = _sources(Path(", ".join(manifests[:2])), Protocol())
    assert {source.name: source.group for source in found} == {"film": "mono-made videos", "pair": "real videos"}
    with pytest.raises(InputError, match="have clips of one name, such as pair; prepare them under different names"):
        _sources(Path(",".join(manifests)), Protocol())
    with pytest.raises(InputError, match=r"nowhere\.json cannot be read"):
        _sources(Path(manifests[0] + ",nowhere.json"), Protocol())
