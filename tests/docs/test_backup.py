"""The backup and the restore of the operations guide, with the commands that stand there, on a store in use."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ServerFactory
from tests.docs.blocks import blocks_of
from tests.docs.conftest import Reader
from tests.parts.postgres import require_binaries, running_postgres
from tests.parts.server import ROOT, Server

PROMPT = "Keep this in mind"
DATABASE = "postgresql://clinvk@db.example/clinvk"


def commands(word: str) -> str:
    """The one block of the guide that has ``word``."""
    (found,) = (block.text for block in blocks_of(ROOT / "docs" / "operations.md") if block.kind == "sh" and word in block.text)
    return found


def prompts_of(server: Server, session: str) -> list[str]:
    return [turn["prompt"] for turn in server.client.get(f"/api/v1/sessions/{session}/turns").json["turns"]]


def test_sqlite(server: ServerFactory, reader: Reader) -> None:
    live = server()
    session = live.client.prompt("demo", PROMPT).json["session_id"]
    done = reader.run("env", f"CLINVK_HOME={live.clinvk_home}", "bash", "-euc", commands("clinvk backup sessions"))
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE((reader.folder / "sessions-backup.db").stat().st_mode) == 0o600
    again = reader.run("env", f"CLINVK_HOME={live.clinvk_home}", "bash", "-euc", commands("clinvk backup sessions"))
    assert (again.returncode, "exists; choose another name" in again.stderr) == (1, True), "an older backup is not overwritten"
    nowhere = reader.run(
        "env", f"CLINVK_HOME={reader.folder}/nobody", "bash", "-euc", commands("clinvk backup sessions").replace(".db", "2.db")
    )
    assert (nowhere.returncode, "there is no session store" in nowhere.stderr) == (1, True)
    assert not (reader.folder / "sessions-backup2.db").exists()
    assert not (reader.folder / "nobody").exists()

    restored = reader.folder / "restored" / "sessions.db"
    restored.parent.mkdir()
    shutil.copy(reader.folder / "sessions-backup.db", restored)
    after = server({"session": {"database_url": f"sqlite:///{restored}"}})
    assert prompts_of(after, session) == [PROMPT]
    assert after.client.post(f"/api/v1/sessions/{session}/resume", {"prompt": "And?", "rebuild": True}).status == 200


def test_postgresql(server: ServerFactory, tmp_path: Path) -> None:
    dump, restore = commands("pg_dump").strip().splitlines()
    with running_postgres() as url:
        config = {"session": {"database_url": url}}
        live = server(config)
        session = live.client.prompt("demo", PROMPT).json["session_id"]
        run(dump.replace(DATABASE, url), tmp_path)
        assert live.client.ask("DELETE", f"/api/v1/sessions/{session}").status == 200
        live.stop()
        run(restore.replace(DATABASE, url), tmp_path)
        after = server(config)
        assert prompts_of(after, session) == [PROMPT]
        after.stop()


def run(command: str, folder: Path) -> None:
    path = os.pathsep.join((require_binaries(), os.environ["PATH"]))
    done = subprocess.run(
        ["bash", "-euc", command], cwd=folder, env={"PATH": path}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("word", ["clinvk backup sessions", "pg_dump"])
def test_the_guide_has_it(word: str) -> None:
    assert commands(word)
