"""A comparison as files: `results.csv`, and tables in Markdown."""

from __future__ import annotations

import csv
import dataclasses
import io
import logging
from collections.abc import Sequence

import numpy as np

from spatialme.evaluation.comfort import Comfort
from spatialme.evaluation.metrics import METRICS, columns
from spatialme.evaluation.published import PUBLISHED
from spatialme.evaluation.results import Comparison, Row, best_of
from spatialme.evaluation.statistics import bootstrap_interval, sign_flip_p

LOGGER = logging.getLogger(__name__)

# before all other metrics, in this order
METRIC_COLUMNS = (
    "mae", "psnr", "ssim", "ms_ssim", "lpips", "psnr_hole", "lpips_hole", "psnr_border", "siou", "e_warp", "flicker",
    "detail_ratio", "level_shift",
)  # fmt: skip
COST_COLUMNS = ("seconds_per_frame", "peak_memory_mb")
COMFORT_COLUMNS = tuple(field.name for field in dataclasses.fields(Comfort))
TESTED_COLUMNS = ("psnr_hole", "lpips_hole", "psnr", "lpips")
NEED_VGG16 = ("lpips_vgg", "dists")

Table = list[list[str]]  # the first row is the heading


def results_csv(comparison: Comparison) -> str:
    """One line per clip and method.

    Warns once, in one line, of the values that could not be taken.
    """
    first = [*METRIC_COLUMNS, *COST_COLUMNS]
    others = [column for column in columns() if column not in METRIC_COLUMNS] + list(COMFORT_COLUMNS)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["clip", "method", "frames", *first, "error", "group", *others])
    for row in comparison.rows:
        here, there = ([_number(row.value(column)) for column in part] for part in (first, others))
        writer.writerow([row.clip, row.method, row.frames, *here, row.error, row.group, *there])
    _warn_of_empty([row for row in comparison.rows if not row.error])
    return text.getvalue()


def markdown(comparison: Comparison) -> str:
    """Means over the clips, the paired test, what papers print, what failed, and the conditions."""
    parts = [
        "# Comparison",
        f"Means over {_clips(comparison)}, protocol `{comparison.protocol.name}`; in brackets the 95 % interval of the "
        "mean by bootstrap over clips; the best of each column in bold.",
        *([comparison.protocol.note] if comparison.protocol.note else []),
        _markdown(means_table(comparison)),
        f"## {test_heading(comparison)}",
        "Mean difference per clip, positive numbers where the value is larger; p by random signs (paired, two-sided).",
        _markdown(test_table(comparison)),
    ]
    for group, part in comparison.by_group().items():
        parts += [f"## {group.capitalize()} alone: {_clips(part)}", _markdown(means_table(part))]
        parts += [_markdown(test_table(part))]
    parts += [
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


def _clips(comparison: Comparison) -> str:
    count = len({row.clip for row in comparison.rows})
    return f"{count} clip{'s' if count != 1 else ''}"


def means_table(comparison: Comparison) -> Table:
    """Methods by the protocol's columns and seconds per frame."""
    shown = [*comparison.protocol.metrics, "seconds_per_frame"]
    cells = {column: _mean_cells(comparison, column) for column in shown}
    heading = ["method", *(f"{column} {_arrow(column)}" for column in shown)]
    return [heading, *([name, *(cells[column].get(name, "") for column in shown)] for name in comparison.methods)]


def test_heading(comparison: Comparison) -> str:
    """What the methods are tested against."""
    return "Against the best baseline" if comparison.baselines else "Against the best of the other methods"


def test_table(comparison: Comparison) -> Table:
    """Each of our methods against the baseline that is best on average, per column.

    Without a baseline, the last method against the best of the others: so is `refined` against its branches.
    """
    others = comparison.baselines or tuple(comparison.methods)[:-1]
    table = [["method", "column", "against", "difference", "p", "clips"]]
    for column in TESTED_COLUMNS:
        values = comparison.common_values(column)
        baselines = {name: float(values[name].mean()) for name in others if name in values}
        if not baselines:
            continue
        best = best_of(column, baselines)
        for method in (name for name in values if name not in others):
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


def _warn_of_empty(rows: Sequence[Row]) -> None:
    """Of whole columns; those of regions follow from them."""
    told = [*METRICS, *COST_COLUMNS, *COMFORT_COLUMNS]
    empty = {column: sum(row.value(column) is None for row in rows) for column in told}
    counts = ", ".join(f"{column} ({count} of {len(rows)} rows)" for column, count in empty.items() if count)
    hint = "; VGG16 is needed: spatialme weights fetch vgg16" if all(empty[name] for name in NEED_VGG16) else ""
    if counts:
        LOGGER.warning("could not be taken and left empty: %s%s", counts, hint)
