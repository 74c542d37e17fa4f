"""Quality against time, as an SVG drawing inside the page."""

from __future__ import annotations

import html
import math

from spatialme.evaluation.results import Comparison

WIDTH, HEIGHT, MARGIN = 720, 360, 60
LINE_PX, NAME_PX = 13, 100  # of a name beside its dot
QUALITY, COST = "psnr", "seconds_per_frame"


def quality_plot(comparison: Comparison) -> str:
    """PSNR over seconds per frame (logarithmic), one dot per method; nothing where neither is known."""
    quality, cost = comparison.common_values(QUALITY), comparison.common_values(COST)
    points = {
        name: (math.log10(max(1e-6, cost[name].mean())), float(quality[name].mean()))
        for name in quality
        if name in cost
    }
    if not points:
        return ""
    xs, ys = zip(*points.values())
    left, right = math.floor(min(xs)), max(math.floor(min(xs)) + 1, math.ceil(max(xs)))
    low, high = math.floor(min(ys)), max(math.floor(min(ys)) + 1, math.ceil(max(ys)))

    def place(x: float, y: float) -> tuple[float, float]:
        across = MARGIN + (WIDTH - 2 * MARGIN) * (x - left) / (right - left)
        return across, HEIGHT - MARGIN + (2 * MARGIN - HEIGHT) * (y - low) / (high - low)

    drawn = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img">',
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 8}" text-anchor="middle">seconds per frame</text>',
        f'<text x="8" y="{MARGIN / 2}">PSNR, dB</text>',
    ]
    for decade in range(left, right + 1):
        x, bottom = place(decade, low)
        drawn.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{MARGIN}" y2="{bottom:.1f}" stroke="#ddd"/>')
        drawn.append(f'<text x="{x:.1f}" y="{bottom + 18:.1f}" text-anchor="middle">{10.0**decade:g}</text>')
    for level in (low, high):
        x, y = place(left, level)
        drawn.append(f'<line x1="{x:.1f}" x2="{WIDTH - MARGIN}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        drawn.append(f'<text x="{x - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">{level}</text>')
    taken: list[tuple[float, float]] = []  # where names begin
    dots = {name: place(*point) for name, point in points.items()}
    for name, (x, y) in sorted(dots.items(), key=lambda dot: dot[1][1]):
        line = y + 4
        while any(abs(line - other) < LINE_PX and abs(x - start) < NAME_PX for start, other in taken):
            line += 1
        taken.append((x, line))
        drawn.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="#06c"/>')
        drawn.append(f'<text x="{x + 7:.1f}" y="{line:.1f}">{html.escape(name)}</text>')
    return "\n".join([*drawn, "</svg>"])
