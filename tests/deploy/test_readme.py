"""The commands of deploy/README.md: those that prepare a machine for the unit are run, in a clean root; of all others the files exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.deploy.dockerfile import Built, new_root
from tests.parts.programs import require_program
from tests.parts.server import ROOT

README = (ROOT / "deploy" / "README.md").read_text()
ELSEWHERE = ("python3 -m venv", "/opt/clinvk/bin/pip install", "systemctl ")
"""What the Dockerfile does as well, and what `test_systemd` does with a systemd of its own."""
PLACES = {
    "/etc/clinvk": "750 root clinvk",
    "/etc/clinvk/config.yaml": "640 root clinvk",
    "/etc/clinvk/clinvk.env": "600 root root",
    "/etc/systemd/system/clinvk.service": "644 root root",
    "/srv/clinvk": "750 clinvk clinvk",
}


def block_after(heading: str) -> list[str]:
    """The lines of the first block of commands below a heading."""
    text: str = README.partition(f"\n## {heading}\n")[2].partition("```sh\n")[2].partition("```")[0]
    return text.splitlines()


def test_commands_for_systemd_put_everything_in_its_place(tmp_path: Path) -> None:
    for program in ("systemd-sysusers", "systemd-tmpfiles"):
        require_program(program, "systemd")
    tmp_path.chmod(0o755)
    machine = Built(new_root(tmp_path / "root", {}), {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}, workdir="/src")
    (tmp_path / "root" / "src").mkdir()
    commands = [line for line in block_after("systemd") if not line.startswith(ELSEWHERE)]
    assert len(commands) == 7
    script = "\n".join(["set -e", *commands, f"stat --format '%n %a %U %G' {' '.join(PLACES)}", "readlink /usr/local/bin/clinvk"])
    mounts = ("--perms", "0755", "--dir", "/usr/local/bin", "--ro-bind", str(ROOT / "deploy"), "/src/deploy")
    done = subprocess.run([*machine.bwrap(*mounts), "--", "/bin/sh", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *told, link = done.stdout.splitlines()
    assert dict(line.split(" ", 1) for line in told) == PLACES
    assert link == "/opt/clinvk/bin/clinvk"


@pytest.mark.parametrize("path", sorted(set(re.findall(r"deploy/[\w./-]+\w", README))))
def test_file_that_a_command_names_exists(path: str) -> None:
    assert (ROOT / path).exists() or (ROOT / "tests" / path).exists()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`(test_\w+\.py)`", README))))
def test_test_that_the_table_names_exists(path: str) -> None:
    assert (ROOT / "tests" / "deploy" / path).exists()
