"""The server's log in a file, rotated by Debian's logrotate with our rules while the server writes: no line is lost."""

from __future__ import annotations

import gzip
import os
import pwd
import subprocess
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

import orjson
import pytest

from app.config.load import load_settings
from app.config.problems import SettingsError
from tests.parts.processes import eventually
from tests.parts.programs import require_program
from tests.parts.server import ROOT, Server

RULES = ROOT / "deploy" / "logrotate" / "clinvk"
ROTATIONS = 3
LINES_BETWEEN = 50


def rules_for(folder: Path) -> Path:
    """Our rules for logs in ``folder``, owned by whoever runs the tests."""
    text = RULES.read_text()
    user = pwd.getpwuid(os.getuid()).pw_name
    for old, new in {"/var/log/clinvk/*.log": f"{folder}/*.log", "su clinvk clinvk": f"su {user} {user}"}.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = folder.parent / "rules"
    path.write_text(text)
    path.chmod(0o644)
    return path


def logrotate(folder: Path, *options: str) -> str:
    command = [require_program("logrotate"), "--state", str(folder.parent / "state"), *options, str(rules_for(folder))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_logrotate_understands_the_rules(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir(mode=0o755)
    (folder / "clinvk.log").write_text("a line\n")
    said = logrotate(folder, "--debug")
    assert "error" not in said
    assert f"considering log {folder}/clinvk.log" in said


def test_no_line_is_lost_while_the_log_is_rotated(server: Callable[..., Server], tmp_path: Path) -> None:
    """Two workers write, each request one line with its id; each rotation happens between two of them, wherever it falls."""
    folder = tmp_path / "log"
    folder.mkdir(mode=0o755)
    one = server({"server": {"log_file": str(folder / "clinvk.log"), "workers": 2}})
    sent: list[str] = []
    is_over = Event()

    def ask() -> None:
        while not is_over.is_set():
            request_id = f"rotation-{len(sent)}"
            assert one.client.get("/api/v1/backends", headers={"X-Request-ID": request_id}).status == 200
            sent.append(request_id)

    asker = Thread(target=ask)
    asker.start()
    try:
        for _ in range(ROTATIONS):
            so_far = len(sent)
            assert eventually(lambda so_far=so_far: len(sent) >= so_far + LINES_BETWEEN, 60)
            logrotate(folder, "--force")
            assert eventually(lambda: (folder / "clinvk.log").exists())
    finally:
        is_over.set()
        asker.join(60)
    assert eventually(lambda: logged(folder) >= set(sent)), sorted(set(sent) - logged(folder))
    assert {path.name for path in folder.iterdir()} == {"clinvk.log", "clinvk.log.1", "clinvk.log.2.gz", "clinvk.log.3.gz"}
    assert "rotation-" not in one.log()


@pytest.mark.parametrize("path", ["/no-such-folder/clinvk.log", "/proc/1/clinvk.log"])
def test_log_file_that_cannot_be_written_stops_the_start(path: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="its folder must exist"):
        load_settings(None, {"HOME": str(tmp_path), "CLINVK_SERVER__LOG_FILE": path})


def logged(folder: Path) -> set[str]:
    """The request ids of all logs, the packed ones too."""
    lines: list[bytes] = []
    for path in folder.iterdir():
        data = path.read_bytes()
        lines += (gzip.decompress(data) if path.suffix == ".gz" else data).splitlines()
    told = [orjson.loads(line) for line in lines]
    assert all(line["time"] for line in told)
    return {line["request_id"] for line in told if "request_id" in line}
