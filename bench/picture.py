"""Bars as an SVG, for the README: readable on a light page and on a dark one. Standard library alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from bench.section import Group, Section

COLUMNS, COLUMN_WIDTH = 2, 430
MARGIN = 20
BAR_X, BAR_WIDTH = 60, 210
BAR_HEIGHT, BAR_STEP, GROUP_GAP, TITLE_HEIGHT = 14, 20, 16, 34
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #57606a }
.title { font-size: 15px; font-weight: 600; fill: #1f2328 }
.group { font-weight: 600; fill: #1f2328 }
.bare, .direct { fill: #8c959f }
.cold { fill: #bf8700 }
.warm, .served { fill: #1a7f37 }
@media (prefers-color-scheme: dark) {
  text { fill: #9198a1 }
  .title, .group { fill: #f0f6fc }
  .bare, .direct { fill: #656c76 }
  .cold { fill: #d29922 }
  .warm, .served { fill: #3fb950 }
}
"""


def draw(sections: Sequence[Section]) -> str:
    """One chart a section, one below the other; its groups beside each other."""
    parts, y = [], 10
    for section in sections:
        parts.append(f'<text class="title" x="{MARGIN}" y="{y + 16}">{escape(section.title)}</text>')
        y += TITLE_HEIGHT
        for start in range(0, len(section.groups), COLUMNS):
            row = section.groups[start : start + COLUMNS]
            for column, group in enumerate(row):
                parts += _group(group, MARGIN + column * COLUMN_WIDTH, y)
            y += BAR_STEP * (max(len(group.bars) for group in row) + 1) + GROUP_GAP
    width = COLUMNS * COLUMN_WIDTH
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {y}" width="{width}" height="{y}" role="img">'
    told = "; ".join(section.title for section in sections)
    return "\n".join([head, f"<title>{escape(told)}</title>", f"<style>{STYLE}</style>", *parts, "</svg>", ""])


def _group(group: Group, x: int, y: int) -> Iterator[str]:
    longest = max(value for _, value, _ in group.bars) or 1
    yield f'<text class="group" x="{x}" y="{y + 12}">{escape(group.title)}</text>'
    for number, (label, value, told) in enumerate(group.bars, start=1):
        top, width = y + number * BAR_STEP, max(2.0, value / longest * BAR_WIDTH)
        yield f'<text x="{x}" y="{top + 11}">{escape(label)}</text>'
        yield f'<rect class="{escape(label)}" x="{x + BAR_X}" y="{top}" width="{width:.1f}" height="{BAR_HEIGHT}" rx="2"/>'
        yield f'<text x="{x + BAR_X + width + 8:.1f}" y="{top + 11}">{escape(told)}</text>'
