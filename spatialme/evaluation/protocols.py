"""Protocols, one YAML file each: which frames of a clip are compared, at which size, and what a table shows."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import yaml  # type: ignore[import-untyped,unused-ignore]

from spatialme.data.manifest import Split
from spatialme.errors import OptionError
from spatialme.evaluation.metrics import columns

CONFIGS = Path(__file__).parents[2] / "configs" / "compare"  # of a checkout; elsewhere a protocol is given by its file

Parallax = Literal["as_shot", "centred"]

_DEFAULT_METRICS = (
    "psnr", "ssim", "lpips", "psnr_hole", "lpips_hole", "psnr_border", "siou", "flicker", "detail_ratio", "level_shift",
)  # fmt: skip


@dataclass(frozen=True)
class Protocol:
    """How clips are compared; the defaults are the protocol without a name.

    Pictures are first resized (``size``, else ``short_side``, else ``most_width``), then cut (``crop_side``).
    """

    name: str = "plain"
    frames: int | None = 48  # of each clip, at most; None = all
    frame_rate: float | None = None  # frames per second to pick from each video; None = all its frames
    score_every: int = 1  # of the frames that the methods see, every how many-th is scored; above 1 no time columns
    size: tuple[int, int] | None = None  # width and height in px, whatever the source's aspect
    short_side: int | None = None  # px
    most_width: int | None = None  # px; never enlarges
    crop_side: int | None = None  # px, a square in the middle
    parallax: Parallax = "as_shot"  # centred: the eyes are shifted so that the median disparity is nought
    metrics: tuple[str, ...] = _DEFAULT_METRICS  # columns of the tables, in order
    methods: tuple[str, ...] = ()  # that run when none are named
    splits: tuple[str, ...] = ("validation", "test")  # of a manifest's clips
    note: str = ""  # what a reader of the tables must know, one sentence

    def __post_init__(self) -> None:
        for name in ("frames", "score_every", "short_side", "most_width", "crop_side"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise OptionError(f"protocol {self.name}: {name} is {value!r}, expected a whole number from 1")
        if self.size is not None and (len(self.size) != 2 or any(type(n) is not int or n < 1 for n in self.size)):
            raise OptionError(f"protocol {self.name}: size is {list(self.size)}, expected width and height in px")
        if self.frame_rate is not None and not self.frame_rate > 0:
            raise OptionError(f"protocol {self.name}: frame_rate is {self.frame_rate}, expected more than 0")
        if self.parallax not in get_args(Parallax):
            raise OptionError(f"protocol {self.name}: parallax is {self.parallax!r}, expected as_shot or centred")
        if not isinstance(self.note, str):
            raise OptionError(f"protocol {self.name}: note is {self.note!r}, expected a sentence")
        for split in self.splits:
            if split not in get_args(Split):
                raise OptionError(f"protocol {self.name}: split {split} is not one of {', '.join(get_args(Split))}")
        for metric in self.metrics:
            if metric not in columns():
                raise OptionError(f"protocol {self.name}: metric {metric} is not known; use {', '.join(columns())}")

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Width and height that a picture of this size gets before it is cut."""
        if self.size is not None:
            return self.size[0], self.size[1]
        scale = 1.0
        if self.short_side is not None:
            scale = self.short_side / min(width, height)
        elif self.most_width is not None:
            scale = min(1.0, self.most_width / width)
        return max(1, round(width * scale)), max(1, round(height * scale))

    def cut_out(self, width: int, height: int) -> tuple[slice, slice]:
        """Rows and columns that remain of a resized picture."""
        if self.crop_side is None:
            return slice(0, height), slice(0, width)
        rows, columns = min(self.crop_side, height), min(self.crop_side, width)
        top, start = (height - rows) // 2, (width - columns) // 2
        return slice(top, top + rows), slice(start, start + columns)


def load_protocol(name: str | None) -> Protocol:
    """The protocol of a name in configs/compare, or of a YAML file; None is the default.

    Raises:
        OptionError: There is no such protocol, or the file says something that a protocol does not have.
    """
    if name is None:
        return Protocol()
    path = Path(name) if Path(name).suffix in (".yaml", ".yml") else CONFIGS / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in CONFIGS.glob("*.yaml"))) or "none here"
        raise OptionError(f"--protocol {name} is not known; use one of {known}, or give a YAML file")
    try:
        values = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise OptionError(f"{path} is not YAML ({' '.join(str(error).split())}); see configs/compare") from error
    return _from_values(path, values)


def _from_values(path: Path, values: Any) -> Protocol:
    fields = {field.name for field in dataclasses.fields(Protocol)} - {"name"}
    if not isinstance(values, dict) or set(values) - fields:
        unknown = ", ".join(sorted(set(values) - fields)) if isinstance(values, dict) else type(values).__name__
        raise OptionError(f"{path} holds {unknown}, expected a protocol's {', '.join(sorted(fields))}")
    lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    return Protocol(**{"name": path.stem, **values, **lists})
