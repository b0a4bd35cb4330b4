"""`python -m docs.generate`: rewrite the tables of the documentation from the code that they describe, and draw its pictures.

A table stands between `<!-- generated: NAME -->` and `<!-- end -->`; the rest of a page is written by hand.
With `--check` nothing is written, and the exit code is 1 where a page is stale.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from docs.api_tables import (
    aliases,
    anthropic_ignored,
    chat_ignored,
    error_codes,
    mcp_tools,
    response_ignored,
    response_refused,
    routes_below,
)
from docs.backend_tables import backend_facts, backend_options
from docs.client_tables import client_blocks, connect_facts, connect_table
from docs.metrics_tables import metric_labels, metrics
from docs.pictures import PICTURES
from docs.settings_tables import left_out, named_variables, settings_tables

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "README.zh.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md")))

MARKED = re.compile(r"(?P<head><!-- generated: (?P<name>[a-z-]+) -->\n).*?(?P<tail><!-- end -->)", re.DOTALL)

GENERATED: Mapping[str, Callable[[], str]] = {
    "settings": settings_tables,
    "named-variables": named_variables,
    "left-out": left_out,
    "backend-options": backend_options,
    "backend-facts": backend_facts,
    "native-routes": lambda: routes_below("/api"),
    "openai-routes": lambda: routes_below("/openai"),
    "anthropic-routes": lambda: routes_below("/anthropic"),
    "mcp-routes": lambda: routes_below("/mcp"),
    "mcp-tools": mcp_tools,
    "meta-routes": lambda: routes_below(""),
    "aliases": aliases,
    "error-codes": error_codes,
    "metrics": metrics,
    "metric-labels": metric_labels,
    "chat-ignored": chat_ignored,
    "response-ignored": response_ignored,
    "response-refused": response_refused,
    "anthropic-ignored": anthropic_ignored,
    "clients": client_blocks,
    "connect-clients": connect_table,
    "connect-facts": connect_facts,
}
"""What may stand in a page, by the name in its mark."""


def renewed(text: str) -> str:
    """``text`` with every generated part as it is now. Raises KeyError for a mark that nothing generates."""
    return MARKED.sub(lambda found: f"{found['head']}\n{GENERATED[found['name']]().strip()}\n\n{found['tail']}", text)


def stale_pages() -> Iterator[tuple[Path, str]]:
    """Each page and picture that is not what it should be, with what it should be."""
    for page in PAGES:
        if page.exists():
            text = page.read_text()
            if (new := renewed(text)) != text:
                yield page, new
    for name, draw in PICTURES.items():
        file = ROOT / "docs" / "images" / f"{name}.svg"
        if not file.exists() or file.read_text() != draw():
            yield file, draw()


def main(argv: list[str]) -> int:
    is_check = "--check" in argv
    stale = list(stale_pages())
    for page, text in stale:
        print(f"{page.relative_to(ROOT)} {'is stale' if is_check else 'written'}")
        if not is_check:
            page.write_text(text)
    return 1 if stale and is_check else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
