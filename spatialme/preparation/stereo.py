"""Real pairs: aligned, matched, warped and filled as a conversion would.

shot -> layout -> aligned eyes -> disparity -> warp, branches -> files
                                           `-> what the warp leaves against the true right view
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from spatialme.data.clip_files import FrameFile
from spatialme.data.manifest import FILES, cached_file
from spatialme.evaluation.matching import LEAST_MATCHED, fill_from_background, open_matcher
from spatialme.evaluation.run_method import disparity_range
from spatialme.flow import open_flow
from spatialme.inpaint import BRANCHES
from spatialme.preparation.exposure import ExposureMatch
from spatialme.preparation.eyes import Eyes, read_eyes
from spatialme.preparation.items import Item
from spatialme.preparation.layout import Layout, Map, UnusableError, find_layout
from spatialme.preparation.maps import MapFolder
from spatialme.preparation.settings import PrepareSettings
from spatialme.preparation.shots import Picture, as_clips, split_shots
from spatialme.preparation.store import ClipRecord, ItemStore, Outcome
from spatialme.settings import ENGINES
from spatialme.shots import to_arrays, to_tensor
from spatialme.stream import fan_out
from spatialme.types import DepthClip, WarpedClip
from spatialme.warp import warp_clip
from spatialme.weights import Licence

MIRRORED = "m"  # at the end of a clip's name
RANGE_STEP = 4  # of the disparities' rows and columns, every so manyth tells their range


class _Shot:
    """The eyes of one shot, aligned, and the left one's disparity."""

    def __init__(self, eyes: Sequence[Eyes], maps: Sequence[Map]):
        self.lefts = [left for left, _ in eyes]
        self.rights = [right for _, right in eyes]
        self.disparity = np.stack([fill_from_background(one) for one in maps])  # (T, H, W) px
        self.matched = float(np.mean([np.isfinite(one).mean() for one in maps]))
        if self.matched < LEAST_MATCHED:
            raise UnusableError(f"only {100 * self.matched:.1f} % of the pixels match; these are no two views")


class StereoPreparer:
    """Holds the matcher and the branches."""

    def __init__(self, settings: PrepareSettings, device: torch.device):
        self._settings, self._device = settings, device
        folder = Path(settings.disparity)
        self._maps_folder = folder if folder.is_dir() else None
        self._engine = None if self._maps_folder else open_matcher(settings.disparity, device)[1]
        licence: Licence = "any"  # what may be done with weights trained on this is the user's affair
        names = ("poly", *ENGINES[settings.inpaint])
        self._branches = [BRANCHES[name](device, licence) for name in names]
        self._flow = open_flow("auto", device) if any(branch.needs_motion for branch in self._branches) else None

    def prepare(self, item: Item, store: ItemStore, warnings: list[str]) -> Iterator[Outcome]:
        """Yield one outcome per shot, with `mirrored` two."""
        settings = self._settings
        maps = MapFolder(self._maps_folder, item) if self._maps_folder else None
        frames = read_eyes(item, settings.format, settings.short_side, warnings)
        shots = split_shots(frames, lambda eyes: eyes[0], every=settings.every, most=settings.max_frames)
        for number, shot in enumerate(shots):
            names = [f"{number:04d}", f"{number:04d}{MIRRORED}"] if settings.mirrored else [f"{number:04d}"]
            finished = [record for name in names if (record := store.finished_clip(name))]
            if len(finished) == len(names):
                yield from (Outcome(record.name, record) for record in finished)
            else:
                yield from self._outcomes(names, shot, maps, store)

    def _outcomes(
        self, names: list[str], shot: Sequence[tuple[int, Eyes]], maps: MapFolder | None, store: ItemStore
    ) -> Iterator[Outcome]:
        try:
            layout = find_layout([eyes for _, eyes in shot])
            if maps and layout.swapped:
                raise UnusableError("the eyes are swapped, and so would be maps made of them; exchange left and right")
        except UnusableError as error:
            yield Outcome(names[0], reason=str(error))
            return
        aligned = [layout.align(eyes) for _, eyes in shot]
        given = [layout.align_map(maps.read(number, *_size(eyes[0]))) for number, eyes in shot] if maps else None
        for name in names:
            eyes = [(right[:, ::-1], left[:, ::-1]) for left, right in aligned] if MIRRORED in name else aligned
            try:
                known = _Shot(eyes, given if given is not None else [self._match(pair) for pair in eyes])
                yield Outcome(name, self._write(name, shot[0][0], known, layout, store))
            except UnusableError as error:
                yield Outcome(name, reason=str(error))

    @torch.inference_mode()
    def _match(self, eyes: Eyes) -> Map:
        assert self._engine is not None
        left, right = (to_tensor([eye], self._device)[0] for eye in eyes)
        return self._engine(left, right)

    @torch.inference_mode()
    def _write(self, name: str, first_frame: int, shot: _Shot, layout: Layout, store: ItemStore) -> ClipRecord:
        folder = store.make_clip_folder(name)
        paths = {part: folder / f"{part}.mkv" for part in FILES["stereo"]}
        exposure = ExposureMatch()
        with ExitStack() as stack:
            files = {part: stack.enter_context(FrameFile(path)) for part, path in paths.items()}
            for index, views, hole in self._views(shot, exposure):
                views |= {"left": shot.lefts[index], "right": shot.rights[index], "hole": hole}
                for part, picture in views.items():
                    files[part].write(picture)
        gain, offset, psnr = exposure.solve()
        measured = asdict(layout) | {
            "matched": shot.matched,
            "exposure_gain": gain.round(4).tolist(),
            "exposure_offset_levels": offset.round(2).tolist(),
        }
        record = ClipRecord(
            name,
            first_frame,
            len(shot.lefts),
            *_size(shot.lefts[0]),
            sha256={part: cached_file(path).sha256 for part, path in paths.items()},
            known_psnr_db=round(psnr, 3),
            measured=measured,
        )
        store.finish_clip(record)
        return record

    def _views(
        self, shot: _Shot, exposure: ExposureMatch
    ) -> Iterator[tuple[int, dict[str, Picture], NDArray[np.uint8]]]:
        """Number, views and hole mask of each frame."""
        clips = self._warped(shot)
        if self._flow:
            clips = self._flow.stream(clips)
        base, *copies = fan_out(clips, 1 + len(self._branches))
        filled = [branch.stream(copy) for branch, copy in zip(self._branches, copies)]
        for warped, poly, dl, de in zip(base, *filled):
            first = warped.clip.first_index
            truth = to_tensor(shot.rights[first : first + len(warped)], self._device)
            exposure.add(warped.view, truth, warped.hole)
            views = {"warped": warped.view, "poly": poly.view, "dl": dl.view, "de": de.view}
            pictures = {name: to_arrays(view, np.uint8) for name, view in views.items()}
            for index, hole in enumerate(warped.hole[:, 0].cpu().numpy()):
                frame = {name: arrays[index] for name, arrays in pictures.items()}
                yield first + index, frame, hole.astype(np.uint8) * 255

    def _warped(self, shot: _Shot) -> Iterator[WarpedClip]:
        sample = torch.from_numpy(shot.disparity[:, ::RANGE_STEP, ::RANGE_STEP])
        range_px = disparity_range(sample).to(self._device)
        for clip in as_clips(shot.lefts, self._device):
            first, count = clip.first_index, len(clip)
            disparity = torch.from_numpy(shot.disparity[first : first + count]).to(self._device)[:, None]
            depth_clip = DepthClip(clip, torch.zeros_like(disparity))  # the disparity is known: nothing looks at it
            yield warp_clip(depth_clip, disparity, range_px=range_px.expand(count, 2))


def _size(eye: Picture) -> tuple[int, int]:
    """Width and height."""
    return eye.shape[1], eye.shape[0]
