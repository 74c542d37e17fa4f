"""2D recordings: frames and their nearness, steady over the shot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

import numpy as np
import torch

from spatialme.data.clip_files import FrameFile
from spatialme.data.manifest import FILES, cached_file
from spatialme.depth import open_depth
from spatialme.preparation.borders import find_window
from spatialme.preparation.items import Item
from spatialme.preparation.settings import PrepareSettings
from spatialme.preparation.shots import Picture, as_clips, read_pictures, reduced, split_shots
from spatialme.preparation.store import ClipRecord, ItemStore, Outcome

BORDER_SAMPLES = 4  # frames of a shot that are looked at for black borders; a few more at most


class MonoPreparer:
    """Holds the depth estimator."""

    def __init__(self, settings: PrepareSettings, device: torch.device):
        self._settings, self._device = settings, device
        self._depth = open_depth(settings.depth, device=device)

    def prepare(self, item: Item, store: ItemStore, warnings: list[str]) -> Iterator[Outcome]:
        """Yield one outcome per shot."""
        settings = self._settings
        pictures = (reduced(picture, settings.short_side) for picture in read_pictures(item.files[0], warnings))
        shots = split_shots(pictures, lambda picture: picture, every=settings.every, most=settings.max_frames)
        for number, shot in enumerate(shots):
            name = f"{number:04d}"
            record = store.finished_clip(name)
            if record is None:
                record = self._write(name, shot, store)
                store.finish_clip(record)
            yield Outcome(name, record)

    @torch.inference_mode()
    def _write(self, name: str, shot: Sequence[tuple[int, Picture]], store: ItemStore) -> ClipRecord:
        folder = store.make_clip_folder(name)
        pictures = [picture for _, picture in shot]
        window = find_window([pictures[:: max(1, len(pictures) // BORDER_SAMPLES)]])
        pictures = [np.ascontiguousarray(window.cut(picture)) for picture in pictures]
        paths = {part: folder / f"{part}.mkv" for part in FILES["mono"]}
        with FrameFile(paths["frames"]) as frames, FrameFile(paths["nearness"]) as nearness:
            for answer in self._depth.stream(as_clips(pictures, self._device)):
                for picture in answer.clip.pictures:
                    frames.write(picture)
                for near in answer.nearness[:, 0].cpu().numpy():
                    nearness.write(np.rint(near * 65535).astype(np.uint16))
        height, width = pictures[0].shape[:2]
        hashes = {part: cached_file(path).sha256 for part, path in paths.items()}
        return ClipRecord(name, shot[0][0], len(shot), width, height, hashes, measured={"window": asdict(window)})
