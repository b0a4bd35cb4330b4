"""Boxes, arrows and text as an SVG that is readable on a light page and on a dark one. Standard library alone."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

STYLE = """
  .page { fill: #ffffff; stroke: #d0d7de }
  .box { fill: #f6f8fa; stroke: #8c959f }
  .area { fill: none; stroke: #d0d7de }
  .core { fill: #ddf4ff; stroke: #0969da }
  .good { fill: #dafbe1; stroke: #1a7f37 }
  .bad { fill: #ffebe9; stroke: #cf222e }
  .wait { fill: #fff8c5; stroke: #9a6700 }
  .line { fill: none; stroke: #6e7781; stroke-width: 1.5 }
  .faint { stroke-dasharray: 4 4 }
  .tip { fill: #6e7781 }
  text { font: 12px ui-sans-serif, system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: #57606a }
  .title { font-size: 14px; font-weight: 600; fill: #1f2328 }
  .head { font-size: 13px; font-weight: 600; fill: #0969da }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117; stroke: #30363d }
    .box { fill: #161b22; stroke: #6e7681 }
    .area { stroke: #30363d }
    .core { fill: #121d2f; stroke: #4493f8 }
    .good { fill: #12261e; stroke: #3fb950 }
    .bad { fill: #25171c; stroke: #f85149 }
    .wait { fill: #272115; stroke: #d29922 }
    .line { stroke: #9198a1 }
    .tip { fill: #9198a1 }
    text { fill: #9198a1 }
    .title { fill: #f0f6fc }
    .head { fill: #4493f8 }
  }
"""
TIP = '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path class="tip" d="M0 0 L8 4 L0 8 z"/></marker>'

PADDING, TITLE_HEIGHT, LINE_HEIGHT = 12, 20, 16
WIDTHS = {"title": 7.4, "head": 6.8, "": 6.1}
"""Mean width of a character, by style: text that would leave its box is an error."""

Point = tuple[float, float]


class Drawing:
    def __init__(self, width: int, height: int, description: str) -> None:
        self._width, self._height, self._description = width, height, description
        self._parts: list[str] = []

    def box(
        self, x: float, y: float, width: float, title: str, lines: Sequence[str] = (), *, kind: str = "box", height: float = 0
    ) -> float:
        """A box as high as its text, or ``height``. Returns where it ends."""
        needed = TITLE_HEIGHT * bool(title) + LINE_HEIGHT * len(lines) + 12
        height = height or needed
        assert height >= needed, f"{title}: {height} is too low, {needed} is needed"
        self._parts.append(f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"/>')
        top = y + (height - needed) / 2 + 6
        if title:
            self.text(x + PADDING, top + 14, title, "title", room=width - 2 * PADDING)
            top += TITLE_HEIGHT
        for number, line in enumerate(lines):
            self.text(x + PADDING, top + 12 + LINE_HEIGHT * number, line, room=width - 2 * PADDING)
        return y + height

    def area(self, x: float, y: float, width: float, height: float, title: str) -> None:
        self._parts.append(f'<rect class="area" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="8"/>')
        self.text(x + PADDING, y + 20, title, "head", room=width - 2 * PADDING)

    def text(self, x: float, y: float, text: str, style: str = "", *, anchor: str = "start", room: float = 0) -> None:
        needed = len(text) * WIDTHS[style]
        assert not room or needed <= room, f"{text!r} needs {needed:.0f}, there is room for {room:.0f}"
        self._parts.append(f'<text class="{style}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(text)}</text>')

    def arrow(self, *points: Point, label: str = "", at: Point | None = None, anchor: str = "middle", is_faint: bool = False) -> None:
        """Along ``points``; its label stands above the middle of the first part, or ``at`` a point."""
        path = " ".join(f"{'M' if number == 0 else 'L'}{x:g} {y:g}" for number, (x, y) in enumerate(points))
        self._parts.append(f'<path class="line{" faint" * is_faint}" d="{path}" marker-end="url(#tip)"/>')
        if label:
            (x1, y1), (x2, y2) = points[:2]
            x, y = at or ((x1 + x2) / 2, (y1 + y2) / 2 - 6)
            self.text(x, y, label, anchor=anchor)

    def bar(self, x1: float, x2: float, y: float, kind: str) -> None:
        self._parts.append(f'<rect class="{kind}" x="{x1:g}" y="{y:g}" width="{x2 - x1:g}" height="18" rx="4"/>')

    def rule(self, x1: float, y1: float, x2: float, y2: float) -> None:
        self._parts.append(f'<path class="area faint" d="M{x1:g} {y1:g} L{x2:g} {y2:g}"/>')

    def svg(self) -> str:
        width, height = self._width, self._height
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-labelledby="title">'
        page = f'<rect class="page" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>'
        title = f'<title id="title">{escape(self._description)}</title>'
        return "\n".join([head, title, f"<defs>{TIP}</defs>", f"<style>{STYLE}</style>", page, *self._parts, "</svg>", ""])
