"""A comparison as one HTML file that needs nothing else: slider, worst holes, anaglyphs, plot and tables."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable

import cv2
import numpy as np

from spatialme.evaluation.page_parts import SCRIPT, STYLE
from spatialme.evaluation.plot import quality_plot
from spatialme.evaluation.report import Table, means_table, published_table, test_heading, test_table
from spatialme.evaluation.results import Comparison, Picture, Shown
from spatialme.evaluation.worst import worst_holes
from spatialme.video.anaglyph import mix

JPEG_QUALITY = 90
CROP_PX, CROP_SCALE, CROPS = 64, 2, 2  # of the worst holes
LEAST_SHOWN_PX = 720  # smaller pictures are enlarged to this width


def page(comparison: Comparison) -> str:
    """The whole file."""
    clips = [_clip_section(number, shown) for number, shown in enumerate(comparison.shown)]
    failed = [["clip", "method", "error"], *([row.clip, row.method, row.error] for row in comparison.rows if row.error)]
    conditions = [["condition", "value"], *map(list, comparison.conditions.items())]
    methods = [["method", "what it is"], *map(list, comparison.methods.items())]
    parts = [
        "<h1>Comparison</h1>",
        "<p>Means over the clips, in brackets the 95 % interval by bootstrap; the best of each column in bold. "
        f"{html.escape(comparison.protocol.note)}</p>",
        _table(means_table(comparison)),
        quality_plot(comparison),
        f"<h2>{test_heading(comparison)}</h2>",
        "<p>Mean difference per clip; p by random signs (paired, two-sided).</p>",
        _table(test_table(comparison)),
        *(
            f"<h2>{html.escape(group.capitalize())} alone</h2>{_table(means_table(part))}{_table(test_table(part))}"
            for group, part in comparison.by_group().items()
        ),
        "<h2>Clips</h2>",
        f"<p>Shown: {len(comparison.shown)}. Drag the line; choose what stands on its two sides.</p>",
        *clips,
        "<h2>Published, for orientation</h2>",
        "<p>As printed in the papers: other clips, other disparity, other machines.</p>",
        _table(published_table(comparison)),
        *(["<h2>Failed</h2>", _table(failed)] if len(failed) > 1 else []),
        "<h2>Methods</h2>",
        _table(methods),
        "<h2>Conditions</h2>",
        _table(conditions),
    ]
    body = "\n".join(parts)
    return (
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8><title>spatialme compare</title>"
        f"<style>{STYLE}</style></head><body>\n{body}\n<script>{SCRIPT}</script></body></html>\n"
    )


def _clip_section(number: int, shown: Shown) -> str:
    """One clip: the slider over all its pictures, and crops of the worst holes."""
    pictures = {"real right view": shown.truth, **shown.views, "left view": shown.left}
    pictures |= {f"anaglyph, {name}": mix(shown.left, view, "dubois") for name, view in shown.views.items()}
    sources = {name: _jpeg(picture) for name, picture in pictures.items()}
    names = list(sources)
    first, second = names[0], list(shown.views)[-1]
    height, width = shown.truth.shape[:2]
    return (
        f'<section class=clip id="clip{number}"><h3>{html.escape(shown.clip)}, frame {shown.index}</h3>'
        f"<p>{_choice('under', names, first)} | {_choice('over', names, second)}</p>"
        f'<div class=slider style="max-width:{max(width, LEAST_SHOWN_PX)}px;aspect-ratio:{width}/{height}">'
        "<img class=under alt=''><img class=over alt=''><div class=line></div>"
        "<input type=range min=0 max=1000 value=500 aria-label='where the line stands'></div>"
        f"<script type=application/json>{json.dumps(sources)}</script>"
        f"{_crops(shown)}</section>"
    )


def _crops(shown: Shown) -> str:
    places = worst_holes(shown, size_px=CROP_PX, count=CROPS)
    rows = []
    for top, left in places:
        here = np.s_[top : top + CROP_PX, left : left + CROP_PX]
        pictures = {"real": shown.truth, **shown.views}
        figures = (_figure(name, picture[here]) for name, picture in pictures.items())
        rows.append(f"<div class=crops>{''.join(figures)}</div>")
    return f"<p>Worst holes: where the methods err most together.</p>{''.join(rows)}" if rows else ""


def _figure(name: str, crop: Picture) -> str:
    grown = crop.repeat(CROP_SCALE, axis=0).repeat(CROP_SCALE, axis=1)
    return f"<figure><img src='{_jpeg(grown)}' alt=''><figcaption>{html.escape(name)}</figcaption></figure>"


def _choice(role: str, names: Iterable[str], chosen: str) -> str:
    options = "".join(f"<option{' selected' * (name == chosen)}>{html.escape(name)}</option>" for name in names)
    return f"<select class={role} aria-label='picture'>{options}</select>"


def _jpeg(picture: Picture) -> str:
    settings = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111]  # full chroma
    written, content = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), settings)
    assert written
    return "data:image/jpeg;base64," + base64.b64encode(content.tobytes()).decode()


def _table(table: Table) -> str:
    heading, *rows = table
    head = "".join(f"<th>{_two_lines(cell, ' (')}</th>" for cell in heading)
    body = "".join("<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<div class=wide><table><tr>{head}</tr>{body}</table></div>"


def _cell(cell: str) -> str:
    """Markdown's bold as HTML's, the interval below its mean."""
    bold = cell.startswith("**") and cell.endswith("**")
    text = _two_lines(cell.strip("*") if bold else cell, " [")
    return f"<b>{text}</b>" if bold else text


def _two_lines(cell: str, bracket: str) -> str:
    """What stands in brackets at the end, small and below."""
    text, opened, rest = cell.partition(bracket)
    if not opened or rest[-1] not in ")]":
        return html.escape(cell)
    return f"{html.escape(text)}<br><small>{html.escape(opened.strip() + rest)}</small>"
