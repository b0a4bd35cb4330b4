"""Every code block of the documentation that can be run is run, as a reader would paste it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import yaml

from app.backends import build_backends
from app.config.load import load_settings
from tests.docs.blocks import Block, all_blocks
from tests.docs.conftest import Reader

SHELL, PYTHON, NODE = ("sh", "bash"), ("python",), ("js",)
DATA = ("yaml", "json")
TEXT = ("text",)
"""What a program says: nothing to run."""


def run_shell(reader: Reader, block: Block) -> None:
    done = reader.run("bash", "-euo", "pipefail", "-c", reader.rewritten(block.text))
    assert (done.returncode != 0) is (block.note == "fails"), f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"


def run_python(reader: Reader, block: Block) -> None:
    done = reader.run("python3", "-W", "error::DeprecationWarning:__main__", "-c", reader.rewritten(block.text))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip(), "it prints nothing"


def run_node(reader: Reader, block: Block) -> None:
    if not shutil.which("node") or not (reader.folder / "node_modules").exists():
        reason = "the JavaScript clients are not installed: `npm ci --prefix tests/clients`"
        if os.environ.get("REQUIRE_CLIENTS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    script = reader.folder / "block.mjs"
    script.write_text(reader.rewritten(block.text))
    done = reader.run("node", "--preserve-symlinks", str(script))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip(), "it prints nothing"


RUN: Mapping[str, Callable[[Reader, Block], None]] = {
    **dict.fromkeys(SHELL, run_shell), **dict.fromkeys(PYTHON, run_python), **dict.fromkeys(NODE, run_node),
}  # fmt: skip

RUNNABLE = [block for block in all_blocks(*RUN) if not block.why_not_run]
LEFT = [block for block in all_blocks() if block.why_not_run]
CONFIGURATIONS = [block for block in all_blocks("yaml") if not block.note]


def write_files(reader: Reader, block: Block) -> None:
    """The files that the page has told of before this block."""
    for one in all_blocks():
        if one.page == block.page and one.file and one.line < block.line:
            path = reader.folder / one.file
            path.write_text(reader.rewritten(one.text))
            path.chmod(0o755)


@pytest.mark.parametrize("block", RUNNABLE, ids=lambda block: block.id)
def test_a_block_does_what_the_page_says(reader: Reader, block: Block) -> None:
    write_files(reader, block)
    RUN[block.kind](reader, block)


@pytest.mark.parametrize("block", CONFIGURATIONS, ids=lambda block: block.id)
def test_a_configuration_is_one(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(block.text)
    settings = load_settings(str(file), environ={"HOME": str(tmp_path), "PATH": os.environ["PATH"]})
    build_backends(settings)
    assert not settings.warnings


@pytest.mark.parametrize("block", all_blocks("json"), ids=lambda block: block.id)
def test_json_is_json(block: Block) -> None:
    json.loads(block.text)


@pytest.mark.parametrize("block", [block for block in all_blocks("yaml") if block.file], ids=lambda block: block.id)
def test_a_yaml_file_is_yaml(block: Block) -> None:
    yaml.safe_load(block.text)


@pytest.mark.parametrize("block", LEFT, ids=lambda block: block.id)
def test_a_block_that_is_not_run_says_why_and_is_at_least_shell(block: Block, reader: Reader) -> None:
    assert len(block.why_not_run) > 10
    if block.kind in SHELL:
        assert not reader.run("bash", "-n", "-c", block.text).stderr


def test_every_block_is_of_a_kind_that_is_looked_at() -> None:
    others = [block.id for block in all_blocks() if block.kind not in (*RUN, *DATA, *TEXT) and not block.why_not_run and not block.file]
    assert not others, "say what kind they are, or why they are not run"
