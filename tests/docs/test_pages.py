"""What the pages say is so: tables are those of the code, links lead somewhere, every error code has its cure, both languages agree."""

from __future__ import annotations

import re
from itertools import chain
from typing import get_args

import pytest

from app.errors import STATUS
from docs.generate import GENERATED, MARKED, PAGES, ROOT, stale_pages
from services.errors import RUN_FAILURE_CODES, ClinvkError
from services.events import FailureKind
from tests.docs.blocks import blocks_of

LINK = re.compile(r"\]\((?!https?:|mailto:|#)(?P<path>[^)#\s]*)(?:#(?P<anchor>[^)\s]+))?\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
HERE = re.compile(r"\]\(#(?P<anchor>[^)\s]+)\)")


def anchors(text: str) -> set[str]:
    """As the usual renderers make them of headings."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(text)}


def headings(text: str) -> list[str]:
    """The levels of the headings outside of code, in their order."""
    return re.findall(r"^(#+) ", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)


def test_no_table_is_stale() -> None:
    assert [page.name for page, _ in stale_pages()] == [], "run python -m docs.generate"


def test_every_generated_table_stands_somewhere() -> None:
    used = set(chain.from_iterable((found["name"] for found in MARKED.finditer(page.read_text())) for page in PAGES))
    assert used == set(GENERATED)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page) -> None:
    text = page.read_text()
    for found in LINK.finditer(text):
        target = (page.parent / found["path"]).resolve()
        assert target.exists(), found[0]
        if found["anchor"] and target.suffix == ".md":
            assert found["anchor"] in anchors(target.read_text()), found[0]
    assert {found["anchor"] for found in HERE.finditer(text)} <= anchors(text)


def test_every_error_code_has_its_cause_and_cure() -> None:
    codes = {*STATUS, *RUN_FAILURE_CODES.values(), *(kind.code for kind in kinds_below(ClinvkError))}
    told = re.findall(r"^### (\S+)$", (ROOT / "docs" / "troubleshooting.md").read_text(), re.MULTILINE)
    assert sorted(told) == sorted(codes)
    assert set(RUN_FAILURE_CODES) == set(get_args(FailureKind))


def kinds_below(kind: type[ClinvkError]) -> list[type[ClinvkError]]:
    """Those whose code is known without an instance."""
    return [kind, *chain.from_iterable(kinds_below(one) for one in kind.__subclasses__() if isinstance(getattr(one, "code", None), str))]


def test_the_chinese_readme_is_in_step() -> None:
    english, chinese = ROOT / "README.md", ROOT / "README.zh.md"
    assert headings(chinese.read_text()) == headings(english.read_text())
    assert [(block.kind, code_of(block.text)) for block in blocks_of(chinese)] == [
        (block.kind, code_of(block.text)) for block in blocks_of(english)
    ]
    links = [
        sorted(found["path"] for found in LINK.finditer(page.read_text()) if "README" not in found["path"]) for page in (english, chinese)
    ]
    assert links[0] == links[1]


def code_of(text: str) -> list[str]:
    """Without what is for people: comments."""
    return [re.sub(r"\s+# .*$", "", line) for line in text.splitlines() if not line.startswith("# ")]
