"""One run of `spatialme compare`: options in, files out."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from spatialme.device import pick_device
from spatialme.errors import OptionError, OutputError
from spatialme.evaluation.baselines import METHODS
from spatialme.evaluation.compare import Comparer, compare_all
from spatialme.evaluation.conditions import conditions
from spatialme.evaluation.external import ExternalTool, parse_externals
from spatialme.evaluation.matching import Engine, open_matcher
from spatialme.evaluation.page import page
from spatialme.evaluation.pairs import find_pairs
from spatialme.evaluation.protocols import load_protocol
from spatialme.evaluation.report import markdown, means_table, results_csv
from spatialme.evaluation.results import Comparison
from spatialme.flow import WEIGHT_NAMES, open_flow
from spatialme.inpaint import BRANCHES
from spatialme.weights import find

DEFAULT_METHODS = ("poly", "propagation", "expansion", "refined")


@dataclass(frozen=True)
class ComparisonSummary:
    """What the command prints."""

    comparison: Comparison
    files: tuple[Path, ...]

    def lines(self) -> list[str]:
        """The table of means in columns, failures, and the files."""
        table = [[cell.replace("**", "") for cell in row] for row in _without_intervals(means_table(self.comparison))]
        widths = [max(map(len, column)) for column in zip(*table)]
        aligned = ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths)).rstrip() for row in table]
        failed = sum(bool(row.error) for row in self.comparison.rows)
        trouble = [f"failed: {failed} of {len(self.comparison.rows)} rows, see results.csv"] if failed else []
        return [*aligned, *trouble, "wrote " + ", ".join(map(str, self.files))]


def run(
    data: Path,
    out: Path,
    *,
    methods: str | None,
    protocol: str | None,
    disparity: str,
    external: str | None,
    device: str,
) -> ComparisonSummary:
    """Compare and write; see `spatialme.evaluation.commands.compare`."""
    chosen = load_protocol(protocol)
    tools = parse_externals(external)
    names = _method_names(methods, chosen.methods or DEFAULT_METHODS, tools)
    where = pick_device(device)
    pairs = find_pairs(data)
    matcher = _matcher(disparity, where)
    _make_folder(out)
    comparer = Comparer(
        names,
        tools,
        protocol=chosen,
        matcher=matcher,
        cache=out / "disparity",
        device=where,
        flow=open_flow("auto", where),
    )
    rows, shown = compare_all(comparer, pairs)
    weights = {name: path for name in WEIGHT_NAMES if (path := find(name)) is not None}
    said = f"maps of {matcher}" if isinstance(matcher, Path) else matcher[0]
    comparison = Comparison(
        protocol=chosen,
        rows=tuple(rows),
        shown=tuple(shown),
        methods={name: METHODS[name].summary for name in names}
        | {tool.name: f"files of {tool.folder}" for tool in tools},
        baselines=tuple(name for name in names if name not in BRANCHES and name != "refined"),
        conditions=conditions(device=where, matcher=said, weights=weights),
    )
    contents = {
        "results.csv": results_csv(comparison),
        "results.md": markdown(comparison),
        "report.html": page(comparison),
    }
    return ComparisonSummary(comparison, tuple(_write(out / name, text) for name, text in contents.items()))


def _method_names(given: str | None, default: tuple[str, ...], tools: list[ExternalTool]) -> list[str]:
    names = [name.strip() for name in given.split(",") if name.strip()] if given is not None else list(default)
    for name in names:
        if name not in METHODS:
            raise OptionError(f"method {name!r} is not known; use {', '.join(METHODS)}")
    every = [*names, *(tool.name for tool in tools)]
    if not every or len(set(every)) != len(every):
        raise OptionError(f"--methods and --external name {', '.join(every) or 'nothing'}; name each method once")
    return names


def _matcher(disparity: str, device: torch.device) -> tuple[str, Engine] | Path:
    return Path(disparity) if Path(disparity).is_dir() else open_matcher(disparity, device)


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"--out {out} cannot be made a folder: {error.strerror}; choose another") from error


def _write(path: Path, text: str) -> Path:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
    return path


def _without_intervals(table: list[list[str]]) -> list[list[str]]:
    heading, *rows = table
    return [[cell.split(" (")[0] for cell in heading], *([cell.split(" [")[0] for cell in row] for row in rows)]
