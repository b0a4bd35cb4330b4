"""What the pages say is so: tables are those of the code, links lead somewhere, every error code has its cure, both languages agree."""

from __future__ import annotations

import re
import shlex
from itertools import chain
from pathlib import Path
from typing import get_args

import pytest

from app.api.errors import STATUS
from app.cli.command import build_parser
from app.config.environment import NAMED, READ_ELSEWHERE, variable
from app.config.validation import leaf_keys, node_at
from docs.generate import GENERATED, MARKED, PAGES, ROOT, stale_pages
from docs.pictures import MODULES
from services.depth import VARIABLE as DEPTH_VARIABLE
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


def test_the_module_map_shows_every_folder() -> None:
    for layer, modules in MODULES.items():
        folders = {folder.name for folder in (ROOT / layer).iterdir() if list(folder.glob("*.py"))}
        assert {name for name, _ in modules} == folders


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    for span in spans(page):
        if re.fullmatch(r"(tests|app|services|blueprints|deploy|bench|docs)/[\w/.-]+", span):
            assert (ROOT / span).exists(), span
        if re.fullmatch(r"test_\w+\.py", span):
            assert list((ROOT / "tests").glob(f"*/{span}")), span


def test_every_error_code_has_its_cause_and_cure() -> None:
    codes = {*STATUS, *RUN_FAILURE_CODES.values(), *(kind.code for kind in kinds_below(ClinvkError))}
    told = re.findall(r"^### (\S+)$", (ROOT / "docs" / "troubleshooting.md").read_text(), re.MULTILINE)
    assert sorted(told) == sorted(codes)
    assert set(RUN_FAILURE_CODES) == set(get_args(FailureKind))


def kinds_below(kind: type[ClinvkError]) -> list[type[ClinvkError]]:
    """Those whose code is known without an instance."""
    return [kind, *chain.from_iterable(kinds_below(one) for one in kind.__subclasses__() if isinstance(getattr(one, "code", None), str))]


def spans(page: Path) -> list[str]:
    """The words in code of a page, but for those of the original program: the first column of the migration's tables."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    if page.name == "migration.md":
        text = re.sub(r"^\|[^|]*\|", "|", re.sub(r"<!-- generated.*?<!-- end -->", "", text, flags=re.DOTALL), flags=re.MULTILINE)
    return re.findall(r"`([^`\n]+)`", text)


def is_understood(command: str) -> bool:
    try:
        build_parser().parse_args(shlex.split(command)[1:])
    except SystemExit as ended:
        return ended.code == 0
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_that_are_named_exist(page: Path) -> None:
    commands = [span for span in spans(page) if re.match(r"clinvk [a-z-]+[^*:]*$", span) and "config set" not in span]
    assert [command for command in commands if not is_understood(command)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_and_variables_that_are_named_exist(page: Path) -> None:
    known = {variable(path) for path in leaf_keys()} | set(NAMED) | READ_ELSEWHERE | {DEPTH_VARIABLE}
    for span in spans(page):
        if found := re.match(r"((?:server|session|unified_flags|parallel|backends\.[a-z<>]+)\.[a-z_.]+[a-z])(?=:|$)", span):
            assert node_at(tuple(found[1].split("."))), span
        if found := re.fullmatch(r"(CLINVK_[A-Z_]+[A-Z])(=.*)?", span):
            assert found[1] in known or found[1].startswith("CLINVK_BACKENDS__"), span


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
