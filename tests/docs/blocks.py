"""The fenced blocks of the documentation, and what their pages say about them in comments that nobody sees:

<!-- not run: the reason -->      before a block that cannot be run here
<!-- file: NAME -->               a block that is a file which the next ones use
<!-- fails -->                    a block that shows an error: it must fail
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.parts.server import ROOT

PAGES = (ROOT / "README.md", ROOT / "README.zh.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").glob("*.md")))

BLOCK = re.compile(
    r"(?:^<!-- (?P<note>not run: [^>]+|file: \S+|fails) -->\n+)?^(?P<indent> *)```(?P<kind>\S*)\n(?P<text>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    kind: str
    text: str
    note: str = ""

    @property
    def id(self) -> str:
        return f"{self.page.name}:{self.line}:{self.kind}"

    @property
    def file(self) -> str:
        """The name of the file that it is; empty for a block that is none."""
        return self.note.removeprefix("file: ") if self.note.startswith("file: ") else ""

    @property
    def why_not_run(self) -> str:
        return self.note.removeprefix("not run: ") if self.note.startswith("not run: ") else ""


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(page, text.count("\n", 0, found.start("kind")) + 1, found["kind"], found["text"], found["note"] or "")
        for found in BLOCK.finditer(text)
    ]


def all_blocks(*kinds: str) -> list[Block]:
    return [block for page in PAGES if page.exists() for block in blocks_of(page) if not kinds or block.kind in kinds]
