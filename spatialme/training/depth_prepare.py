"""`spatialme prepare-depth`: from a list of stereo and mono material to a depth set.

pairs, side-by-side videos -> RAFT both ways -> what both eyes agree on -> one labelled picture per eye
mono videos, photographs   -> pictures without labels, for a teacher to answer
panoramas                  -> views all around, the same
drawn rooms                -> pictures with exact labels
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, cast, get_args

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from spatialme.depth import edges, open_depth
from spatialme.device import pick_device
from spatialme.disk import make_folder
from spatialme.errors import InputError
from spatialme.evaluation.pairs import split_eyes
from spatialme.flow import open_flow
from spatialme.shots import to_tensor
from spatialme.training import depth_set
from spatialme.training.depth_panorama import panorama_views
from spatialme.training.depth_rooms import draw_room
from spatialme.training.depth_set import DepthEntry, DepthPicture, Split
from spatialme.training.depth_stereo import BothWays, match_eyes
from spatialme.video.reader import open_source

LOGGER = logging.getLogger(__name__)
# the mono ones and panoramas are stored without labels
Kind = Literal["pair", "sbs", "mono", "sbs_mono", "panorama", "rooms"]
MATCHED_KINDS: tuple[Kind, ...] = ("pair", "sbs")
Picture = NDArray[np.uint8]
Moment = list[Picture]  # one eye: a frame, and the one after it if there is one

SHORT_SIDE, LONG_SIDE = 288, 640  # px of the stored pictures, at most; RAFT's time grows with their square
LEAST_KNOWN = 0.2  # of a labelled picture's pixels; below it the pair is not rectified
ROOM_SIZE = 192, 256  # height, width in px of drawn scenes
LEAST_CONTRAST = 6.0  # standard deviation of a picture's brightness, of 255; below it there is nothing to see


TEACHER_ROWS = 36  # of the grid on which a teacher's outlines are steps; on 24 whole faces take another's depth


@dataclass(frozen=True)
class Material:
    """One row of the list."""

    name: str
    kind: Kind
    left: str  # path from the list's folder; of an `sbs` both eyes, of `mono` the only one; nothing for `rooms`
    right: str
    frames: int  # how many to take, spread evenly; of a panorama and of `rooms` how many views or scenes
    first: float  # share of the video at which to begin ...
    last: float  # ... and to end
    source: str
    split: Split
    licence: str
    commercial: bool

    @property
    def labelled(self) -> bool:
        """Something is known of the depth."""
        return self.kind in (*MATCHED_KINDS, "rooms")


def prepare_set(material: Path, output: Path, *, root: Path, teacher: str | None, device: str) -> Iterator[str]:
    """Make or complete a set; see `depth_commands.prepare_depth`."""
    rows = read_material(material)
    make_folder(output)
    chosen = pick_device(device)
    entries: list[DepthEntry] = []
    with torch.inference_mode():
        flow: BothWays | None = None
        for row in rows:
            if row.kind in MATCHED_KINDS and flow is None:
                flow = cast(BothWays, open_flow("raft", chosen).method)  # a `Raft`
            found = list(_prepare(row, root, output, flow, chosen))
            entries += found
            yield f"{row.name}: {len(found)} pictures"
        depth_set.write_index(output, entries)
        if teacher is not None:
            yield teach(output, teacher, chosen)


def read_material(path: Path) -> list[Material]:
    """The rows of a list.

    Raises:
        InputError: No such file, a missing column, or a value that is none of those allowed.
    """
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); give a CSV list of material") from None
    return [_material(path, number, row) for number, row in enumerate(rows, 1)]


def _material(path: Path, number: int, row: dict[str, str]) -> Material:
    missing = [field.name for field in fields(Material) if row.get(field.name) is None]
    if missing:
        raise InputError(f"{path}, row {number} has no {', '.join(missing)}; see docs/depth.md for the columns")
    if row["kind"] not in get_args(Kind) or row["split"] not in get_args(Split):
        raise InputError(
            f"{path}, row {number} is of kind {row['kind']!r} and split {row['split']!r}; expected "
            f"{', '.join(get_args(Kind))} and {', '.join(get_args(Split))}"
        )
    try:
        numbers = int(row["frames"]), float(row["first"]), float(row["last"])
    except ValueError:
        raise InputError(f"{path}, row {number}: frames, first and last must be numbers") from None
    frames, first, last = numbers
    texts = {name: row[name] for name in ("name", "left", "right", "source", "licence")}
    split = next(known for known in get_args(Split) if known == row["split"])
    kind = next(known for known in get_args(Kind) if known == row["kind"])
    commercial = row["commercial"] == "yes"
    return Material(kind=kind, split=split, commercial=commercial, frames=frames, first=first, last=last, **texts)


def _prepare(
    row: Material, root: Path, output: Path, flow: BothWays | None, device: torch.device
) -> Iterator[DepthEntry]:
    """Store the pictures of one row, but those that are there, and tell what they are."""
    stored = _drawn(row, output) if row.kind == "rooms" else _seen(row, root, output, flow, device)
    for names in stored:
        for name in names:
            picture = depth_set.read_picture(output, name)
            known = float(np.isfinite(picture.label).mean())
            if picture.rgb.mean(2).std() < LEAST_CONTRAST:
                LOGGER.warning("%s shows next to nothing; left out", name)
                continue
            if row.labelled and known < LEAST_KNOWN:
                LOGGER.warning("%s: the eyes agree on %.0f %% of it only; left out", name, 100 * known)
                continue
            yield DepthEntry(name, row.source, row.split, row.licence, row.commercial, labelled=row.labelled)


def _drawn(row: Material, output: Path) -> Iterator[list[str]]:
    """Draw and store a row's scenes in perspective; the names of each."""
    for number in range(row.frames):
        name = f"{row.name}-{number:03d}"
        if not (output / f"{name}.npz").is_file():
            depth_set.write_picture(output, name, draw_room(np.random.default_rng(number), ROOM_SIZE))
        yield [name]


def _seen(row: Material, root: Path, output: Path, flow: BothWays | None, device: torch.device) -> Iterator[list[str]]:
    """Store a row's pictures, matched if they are a pair; the names of each moment's."""
    for number, eyes in enumerate(_chosen_frames(row, root)):
        names = [f"{row.name}-{number:03d}{side}" for side in ("l", "r")[: len(eyes)]]
        if not all((output / f"{name}.npz").is_file() for name in names):
            for name, picture in zip(names, _pictures(row, eyes, flow, device)):
                depth_set.write_picture(output, name, picture)
        yield names


def _pictures(row: Material, eyes: list[Moment], flow: BothWays | None, device: torch.device) -> list[DepthPicture]:
    fitted = [[_fitted(frame) for frame in moment] for moment in eyes]
    if flow is not None and row.labelled:
        labels = list(match_eyes(fitted[0][0], fitted[1][0], flow, device))
    else:
        labels = [np.full(moment[0].shape[:2], np.nan, np.float32) for moment in fitted]
    return [
        DepthPicture(moment[0], label, following=moment[1] if len(moment) > 1 else None)
        for moment, label in zip(fitted, labels)
    ]


def _chosen_frames(row: Material, root: Path) -> Iterator[list[Moment]]:
    """Both eyes, or the only one, at each moment that a row asks for."""
    if row.kind == "panorama":
        ((panorama,),) = _read(root / row.left, [0])
        yield from ([[view]] for view in panorama_views(panorama, row.frames))
        return
    paths = [root / row.left] + ([root / row.right] if row.kind == "pair" else [])
    count = _count(paths[0]) if row.frames > 1 or row.last < 1 or row.first > 0 else 1
    places = np.linspace(row.first * count, max(row.first * count, row.last * count - 1), row.frames)
    wanted = sorted({int(place) for place in places})
    for moments in zip(*(_read(path, wanted) for path in paths)):
        if row.kind.startswith("sbs"):
            yield [list(eye) for eye in zip(*(split_eyes(frame, paths[0]) for frame in moments[0]))]
        else:
            yield list(moments)


def _count(path: Path) -> int:
    with closing(open_source(path)) as source:
        return sum(1 for _ in source)


def _read(path: Path, wanted: list[int]) -> Iterator[Moment]:
    """The wanted frames in order, each with the one after it unless it is the last."""
    held: Moment = []
    with closing(open_source(path)) as source:
        for index, picture in enumerate(source):
            if held:
                yield [*held, _eight_bits(picture.rgb())]
                held = []
            if index > wanted[-1]:
                return
            if index in wanted:
                held = [_eight_bits(picture.rgb())]
    if held:
        yield held


def _eight_bits(rgb: NDArray) -> Picture:
    return rgb if rgb.dtype == np.uint8 else (rgb >> 8).astype(np.uint8)


def _fitted(picture: Picture) -> Picture:
    height, width = picture.shape[:2]
    scale = min(1.0, SHORT_SIDE / min(height, width), LONG_SIDE / max(height, width))
    size = round(width * scale), round(height * scale)
    return np.ascontiguousarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _on_edges(answer: Tensor, frame: Tensor) -> NDArray[np.float32]:
    """A blurred answer with its steps on the picture's edges, (H, W) in [0, 1].

    What a decoder makes of 14 px wide tokens crosses an outline in a ramp of that width. On a grid as coarse as they
    are such a ramp is a step, and `edges.upsample` knows what to do with steps.
    """
    low, high = answer.amin(), answer.amax()
    unit = (answer - low) / (high - low).clamp_min(torch.finfo(answer.dtype).tiny)
    height, width = frame.shape[-2:]
    size = TEACHER_ROWS, max(1, round(TEACHER_ROWS * width / height))
    coarse, guide = (
        F.interpolate(x, size=size, mode="bilinear", antialias=True, align_corners=False) for x in (unit, frame)
    )
    return edges.upsample(coarse, guide, frame)[0, 0].float().cpu().numpy()


def teach(folder: Path, teacher: str, device: torch.device) -> str:
    """Store a depth network's answer beside every picture of a set that has none."""
    estimator = open_depth(teacher, device=device)
    network = getattr(estimator, "network", None)
    if network is None:
        raise InputError(f"teacher {teacher} is no depth network; give a name that --depth of convert knows")
    answered = 0
    for entry in depth_set.read_index(folder):
        if (folder / f"{entry.name}.teacher.npy").is_file():
            continue
        rgb = depth_set.read_picture(folder, entry.name).rgb
        frame = to_tensor([rgb], device)
        depth_set.write_teacher(folder, entry.name, _on_edges(network(frame), frame))
        answered += 1
    return f"{estimator.name} answered {answered} pictures"
