"""Run one case with the real CLI, in a home of its own, and keep what it writes."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from services.clis.probe import VERSION
from services.clis.registry import BUILT_IN
from tests.parts.clis import NO_WAY_OUT, cli_path, real_cli_in
from tests.parts.model_api import FakeModelApi
from tests.record.cases import BASE, CASES, PROMPT, STREAM, Case

TIMEOUT_S = 120.0
FOLDER = "/recorded"
"""Stands for the temporary folder of a recording, and for the model API's address."""


@dataclass(frozen=True)
class Captured:
    stdout: str
    stderr: str
    meta: dict[str, object]

    def write(self, folder: Path, case: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{case}.stdout.jsonl").write_text(self.stdout)
        (folder / f"{case}.meta.json").write_text(json.dumps(self.meta, indent=1) + "\n")
        stderr = folder / f"{case}.stderr.txt"
        stderr.unlink(missing_ok=True)
        if self.stderr:
            stderr.write_text(self.stderr)


def version_of(cli: str) -> str:
    env = {"PATH": cli_path(), "HOME": tempfile.gettempdir()}
    output = subprocess.run([cli, "--version"], env=env, capture_output=True, text=True, timeout=TIMEOUT_S, check=True).stdout
    match = VERSION.search(output)
    assert match, f"{cli} --version says {output!r}"
    return match[0]


def capture(cli: str, name: str, version: str) -> Captured:
    with tempfile.TemporaryDirectory() as temporary:
        api = FakeModelApi().start()
        try:
            return _capture(cli, name, version, Path(temporary), api)
        finally:
            api.stop()


def _capture(cli: str, name: str, version: str, folder: Path, api: FakeModelApi) -> Captured:
    folder.chmod(0o755)
    real = real_cli_in(folder / "home", cli, api.url)
    work = folder / "work"
    work.mkdir()
    # Claude Code names its sockets below TMPDIR, with its process id.
    base = {"TMPDIR": str(folder), "PATH": cli_path(), "HOME": str(folder / "home"), "LANG": "C.UTF-8"}
    env = base | NO_WAY_OUT | dict(BUILT_IN[cli].fixed_env) | dict(real.env) | real.backend["env"]

    def run(case: Case) -> tuple[list[str], dict[str, str], subprocess.CompletedProcess[str]]:
        api.forget()
        api.script(PROMPT, *case.replies)
        argv = [cli, *BASE[cli], *(STREAM[cli] if case.is_stream else ()), *case.args]
        own = env | dict(case.env)
        return argv, own, subprocess.run(argv, cwd=work, env=own, input=PROMPT, capture_output=True, text=True, timeout=TIMEOUT_S)

    case = CASES[cli][name]
    if case.first:
        run(CASES[cli][case.first])
    argv, own, done = run(case)

    def settled(text: str) -> str:
        return text.replace(os.path.realpath(folder), FOLDER).replace(str(folder), FOLDER).replace(api.url, f"http:/{FOLDER}")

    meta = {"cli": cli, "version": version, "argv": argv, "env": sorted(own), "exit": done.returncode}
    return Captured(settled(done.stdout), settled(done.stderr), meta)
