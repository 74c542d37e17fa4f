"""Sources that a training run looks at and never learns from."""

from __future__ import annotations

import pytest
import torch

from spatialme.data.manifest import write_manifest
from spatialme.errors import OptionError
from tests.test_data import save_clip

pytest.importorskip("lightning.pytorch", reason="training needs lightning")

from spatialme.training.data_module import StereoData


@pytest.fixture
def manifest(tmp_path):
    """A source to train on and a camera whose clips are all held out, and may not be used commercially."""
    clips = [
        save_clip(tmp_path, "seen", "stereo", frames=1),
        save_clip(tmp_path, "new", "stereo", source="camera", split="validation", commercial=False, frames=2),
    ]
    write_manifest(tmp_path / "manifest.json", clips)
    return tmp_path / "manifest.json"


def test_a_camera_with_held_out_clips_only_is_validated_and_never_trained_on(manifest):
    settings = {"manifests": [manifest], "crop": 32, "batch_size": 2, "held_out_samples": 3, "commercial_only": True}
    data = StereoData({"ours": 1.0}, watched=["camera"], **settings)
    (loader,) = data.val_dataloader()
    assert data.held_out_names == ["camera"]
    assert sum(len(batch.left) for batch in loader) == 3
    assert data.test_dataloader() == []  # it has no clip of that split
    plain = StereoData({"ours": 1.0}, **settings)
    for number in range(4):
        mine, other = data._training_samples()[number], plain._training_samples()[number]
        assert all(torch.equal(view, same) for view, same in zip(mine, other))


def test_names_that_cannot_be_watched_are_refused(manifest):
    with pytest.raises(OptionError, match="camera is among both sources and watched; name it once"):
        StereoData({"camera": 1.0}, watched=["camera"])
    data = StereoData({"ours": 1.0}, [manifest], crop=32, watched=["ours2"])
    with pytest.raises(OptionError, match="source 'ours2' has no clips to watch; those with held-out clips are camera"):
        data.val_dataloader()
