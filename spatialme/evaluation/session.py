"""One run of `spatialme compare`: options in, files out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from spatialme.device import pick_device
from spatialme.disk import make_folder, write_text
from spatialme.errors import InputError, OptionError, SpatialmeError
from spatialme.evaluation.baselines import FUSED, method_spec
from spatialme.evaluation.baselines.diffusion.checkpoints import CHECKPOINTS
from spatialme.evaluation.command_tool import parse_commands
from spatialme.evaluation.compare import VGG16, Comparer, compare_all
from spatialme.evaluation.conditions import conditions
from spatialme.evaluation.external import Tool, parse_externals
from spatialme.evaluation.matching import Engine, open_matcher
from spatialme.evaluation.page import page
from spatialme.evaluation.pairs import ClipSource, find_pairs
from spatialme.evaluation.prepared import find_prepared
from spatialme.evaluation.protocols import Protocol, load_protocol
from spatialme.evaluation.report import Table, markdown, means_table, results_csv
from spatialme.evaluation.results import Comparison
from spatialme.flow import WEIGHT_NAMES, open_flow
from spatialme.inpaint import BRANCHES
from spatialme.refine import Refiner
from spatialme.weights import find

DEFAULT_METHODS = ("poly", "propagation", "expansion", "refined")
OURS = (*BRANCHES, "mean", *FUSED)


@dataclass(frozen=True)
class ComparisonSummary:
    """What the command prints."""

    comparison: Comparison
    files: tuple[Path, ...]

    def lines(self) -> list[str]:
        """The table of means in columns, failures, and the files."""
        aligned = _aligned(means_table(self.comparison))
        for group, part in self.comparison.by_group().items():
            aligned += ["", f"{group}:", *_aligned(means_table(part))]
        aligned += [self.comparison.protocol.note] if self.comparison.protocol.note else []
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
    command: str | None,
    command_timeout: float,
    device: str,
) -> ComparisonSummary:
    """Compare and write; see `spatialme.evaluation.commands.compare`."""
    chosen = load_protocol(protocol)
    commands = parse_commands(command, out / "commands", timeout_seconds=command_timeout)
    tools: list[Tool] = [*parse_externals(external), *commands]
    names = _method_names(methods, chosen.methods or DEFAULT_METHODS, tools)
    where = pick_device(device)
    sources = _sources(data, chosen)
    matcher = _matcher(disparity, where)
    make_folder(out)
    comparer = Comparer(
        names,
        tools,
        protocol=chosen,
        matcher=matcher,
        cache=out / "disparity",
        device=where,
        flow=open_flow("auto", where),
    )
    rows, shown = compare_all(comparer, sources)
    said = f"maps of {matcher}" if isinstance(matcher, Path) else matcher[0]
    comparison = Comparison(
        protocol=chosen,
        rows=tuple(rows),
        shown=tuple(shown),
        methods={name: method_spec(name).summary for name in names} | {tool.name: tool.summary for tool in tools},
        baselines=tuple(name for name in [*names, *(tool.name for tool in tools)] if not _is_ours(name)),
        conditions=conditions(device=where, matcher=said, weights=_weights(names)) | _refiner(names),
    )
    contents = {
        "results.csv": results_csv(comparison),
        "results.md": markdown(comparison),
        "report.html": page(comparison),
    }
    for name, text in contents.items():
        write_text(out / name, text)
    return ComparisonSummary(comparison, tuple(out / name for name in contents))


def _sources(data: Path, protocol: Protocol) -> list[ClipSource]:
    """Clips of a folder, or of manifests with commas between."""
    if data.suffix != ".json":
        return [*find_pairs(data)]
    found = [source for manifest in str(data).split(",") for source in find_prepared(Path(manifest.strip()), protocol)]
    names = [source.name for source in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{data} have clips of one name, such as {twice[0]}; prepare them under different names")
    return found


def _method_names(given: str | None, default: tuple[str, ...], tools: Sequence[Tool]) -> list[str]:
    names = [name.strip() for name in given.split(",") if name.strip()] if given is not None else list(default)
    for name in names:
        method_spec(name)
    every = [*names, *(tool.name for tool in tools)]
    if not every or len(set(every)) != len(every):
        raise OptionError(
            f"--methods, --external and --command name {', '.join(every) or 'nothing'}; name each method once"
        )
    return names


def _weights(names: list[str]) -> dict[str, list[Path]]:
    """Files of the networks that take part, by name."""
    packaged = {name: [path] for name in (*WEIGHT_NAMES, VGG16) if (path := find(name)) is not None}
    checkpoints = {name for method in names for name in method_spec(method).checkpoints}
    return packaged | {name: files for name in sorted(checkpoints) if (files := CHECKPOINTS[name].files())}


def _matcher(disparity: str, device: torch.device) -> tuple[str, Engine] | Path:
    return Path(disparity) if Path(disparity).is_dir() else open_matcher(disparity, device)


def _is_ours(name: str) -> bool:
    return name.partition("=")[0] in OURS


def _refiner(names: list[str]) -> dict[str, str]:
    """Whether `refined` is more than its initial blend, and which weights others have."""
    said = []
    for name in names:
        fused, _, weights = name.partition("=")
        if fused in FUSED:
            said.append(f"{name}: {_refiner_of(weights or None)}")
    return {"refiner": "; ".join(said)} if said else {}


def _refiner_of(weights: str | None) -> str:
    try:
        refiner = Refiner.load(weights)
    except SpatialmeError:
        return "not loaded"
    if not refiner.trained:
        return "untrained, the initial blend of its branches"
    return f"trained, {refiner.name} {refiner.digest[:12]}"


def _aligned(table: Table) -> list[str]:
    """In columns, without intervals and what is meant for Markdown."""
    heading, *rows = table
    cells = [[cell.split(" (")[0] for cell in heading]]
    cells += [[cell.replace("**", "").split(" [")[0] for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells)]
    return ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths)).rstrip() for row in cells]
