"""A comparison as files: `results.csv`, and tables in Markdown."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterable, Sequence

import numpy as np

from spatialme.evaluation.metrics import columns
from spatialme.evaluation.published import PUBLISHED
from spatialme.evaluation.results import Comparison, Row, best_of
from spatialme.evaluation.statistics import bootstrap_interval, sign_flip_p

LOGGER = logging.getLogger(__name__)

METRIC_COLUMNS = (
    "mae", "psnr", "ssim", "ms_ssim", "lpips", "psnr_hole", "lpips_hole", "psnr_border", "siou", "e_warp", "flicker",
    "detail_ratio", "level_shift",
)  # fmt: skip
COST_COLUMNS = ("seconds_per_frame", "peak_memory_mb")
TESTED_COLUMNS = ("psnr_hole", "lpips_hole", "psnr", "lpips")

Table = list[list[str]]  # the first row is the heading


def results_csv(comparison: Comparison) -> str:
    """One line per clip and method; after the promised columns come all others that have a value anywhere.

    Warns once, in one line, of the values that could not be taken.
    """
    extra = [
        c for c in columns() if c not in METRIC_COLUMNS and any(row.value(c) is not None for row in comparison.rows)
    ]
    numbers = [*METRIC_COLUMNS, *COST_COLUMNS]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["clip", "method", "frames", *numbers, "error", *extra])
    for row in comparison.rows:
        written = [_number(row.value(column)) for column in numbers]
        writer.writerow(
            [row.clip, row.method, row.frames, *written, row.error, *[_number(row.value(c)) for c in extra]]
        )
    _warn_of_empty([row for row in comparison.rows if not row.error], numbers)
    return text.getvalue()


def markdown(comparison: Comparison) -> str:
    """Means over the clips, the paired test, what papers print, what failed, and the conditions."""
    clips = len({row.clip for row in comparison.rows})
    parts = [
        "# Comparison",
        f"Means over {clips} clip{'s' if clips != 1 else ''}, protocol `{comparison.protocol.name}`; in brackets the "
        "95 % interval of the mean by bootstrap over clips; the best of each column in bold.",
        _markdown(means_table(comparison)),
        "## Against the best baseline",
        "Mean difference per clip, positive numbers where the value is larger; p by random signs (paired, two-sided).",
        _markdown(test_table(comparison)),
        "## Published, for orientation",
        "As printed in the papers: other clips, other disparity, other machines. Not comparable row by row.",
        _markdown(published_table(comparison)),
    ]
    failed = [f"- {row.clip}, {row.method}: {row.error}" for row in comparison.rows if row.error]
    if failed:
        parts += ["## Failed", "\n".join(failed)]
    parts += ["## Methods", "\n".join(f"- `{name}`: {what}" for name, what in comparison.methods.items())]
    parts += ["## Conditions", "\n".join(f"- {name}: {what}" for name, what in comparison.conditions.items())]
    return "\n\n".join(parts) + "\n"


def means_table(comparison: Comparison) -> Table:
    """Methods by the protocol's columns and seconds per frame."""
    shown = [*comparison.protocol.metrics, "seconds_per_frame"]
    cells = {column: _mean_cells(comparison, column) for column in shown}
    heading = ["method", *(f"{column} {_arrow(column)}" for column in shown)]
    return [heading, *([name, *(cells[column].get(name, "") for column in shown)] for name in comparison.methods)]


def test_table(comparison: Comparison) -> Table:
    """Each of our methods against the baseline that is best on average, per column."""
    table = [["method", "column", "best baseline", "difference", "p", "clips"]]
    for column in TESTED_COLUMNS:
        values = comparison.common_values(column)
        baselines = {name: float(values[name].mean()) for name in comparison.baselines if name in values}
        if not baselines:
            continue
        best = best_of(column, baselines)
        for method in (name for name in values if name not in comparison.baselines):
            difference = values[method] - values[best]
            p = _number(sign_flip_p(difference), 2)
            interval = _with_interval(difference, signed=True)
            table.append([method, column, best, interval, p, str(len(difference))])
    return table


def published_table(comparison: Comparison) -> Table:
    """The papers' rows, of those of our columns that they print."""
    shown = [c for c in ("psnr", "ssim", "ms_ssim", "lpips") if any(c in row.values for row in PUBLISHED)]
    heading = ["method (published)", "source", *shown]
    return [heading, *([row.method, row.source, *(_number(row.values.get(c)) for c in shown)] for row in PUBLISHED)]


def _mean_cells(comparison: Comparison, column: str) -> dict[str, str]:
    values = comparison.common_values(column)
    if not values:
        return {}
    best = best_of(column, {method: float(found.mean()) for method, found in values.items()})
    cells = {method: _with_interval(found) for method, found in values.items()}
    cells[best] = f"**{cells[best]}**"
    return cells


def _with_interval(values: np.ndarray, *, signed: bool = False) -> str:
    mean = f"{values.mean():+.4g}" if signed else f"{values.mean():.4g}"
    if len(values) < 2:
        return mean
    low, high = bootstrap_interval(values)
    return f"{mean} [{low:.4g}, {high:.4g}]"


def _arrow(column: str) -> str:
    spec = columns().get(column)
    if spec is not None and spec.target is not None:
        return f"(best {spec.target:g})"
    return "(higher is better)" if spec is not None and spec.higher_is_better else "(lower is better)"


def _markdown(table: Table) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in table]
    lines.insert(1, "|" + " --- |" * len(table[0]))
    return "\n".join(lines)


def _number(value: float | None, digits: int = 6) -> str:
    return "" if value is None else f"{value:.{digits}g}"


def _warn_of_empty(rows: Sequence[Row], shown: Iterable[str]) -> None:
    empty = {column: sum(row.value(column) is None for row in rows) for column in shown}
    told = ", ".join(f"{column} ({count} of {len(rows)} rows)" for column, count in empty.items() if count)
    if told:
        LOGGER.warning("could not be taken and left empty: %s", told)
