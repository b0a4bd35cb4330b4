"""A folder is let in if, and only if, its real path lies in an allowed one and in no blocked one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.errors import WorkdirNotAllowed
from services.workdir import WorkdirRules
from tests.properties.strategies import tried, unruly_texts

FOLDERS = ("a", "a/b", "a/b/c", "ab", "ab/c", "a b", "b")
LINKS = {"to-a": "a", "a/to-b": "b", "b/up": "..", "loop": "loop", "to-root": "/", "to-etc": "/etc"}
steps = st.sampled_from(
    ["a", "b", "c", "ab", "a b", "to-a", "to-b", "up", "loop", "to-root", "to-etc", "..", ".", "", "//", "missing", "~"]
)
paths = st.lists(steps, max_size=6).map("/".join)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True, exist_ok=True)
    for link, target in LINKS.items():
        (root / link).symlink_to(target)
    return root


@settings(max_examples=300, deadline=None)
@given(path=paths, allowed=st.lists(st.sampled_from(FOLDERS), max_size=2), blocked=st.lists(st.sampled_from(FOLDERS), max_size=2))
def test_what_is_let_in_is_allowed_by_its_real_path(tree: Path, path: str, allowed: list[str], blocked: list[str]) -> None:
    rules = WorkdirRules([str(tree / folder) for folder in allowed], ["/etc", *(str(tree / folder) for folder in blocked)])
    asked = f"{tree}/{path}"
    real = Path(os.path.realpath(asked))
    inside = [real == tree / folder or tree / folder in real.parents for folder in allowed]
    barred = [real == Path(folder) or Path(folder) in real.parents for folder in ("/etc", *(tree / folder for folder in blocked))]
    may = real.is_dir() and not any(barred) and (any(inside) or not allowed)
    found = tried(WorkdirNotAllowed, lambda: rules.check(asked))
    assert found == str(real) if may else isinstance(found, WorkdirNotAllowed)


@given(text=unruly_texts)
def test_any_text_is_a_folder_or_refused(tree: Path, text: str) -> None:
    for asked in (text, f"/{text}", f"{tree}/{text}"):
        found = tried(WorkdirNotAllowed, lambda asked=asked: WorkdirRules(blocked=["/etc"]).check(asked))
        assert found.message if isinstance(found, WorkdirNotAllowed) else os.path.isdir(found)
