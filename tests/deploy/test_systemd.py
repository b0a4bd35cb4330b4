"""Our unit, started by a real systemd: it serves, reloads, stops in good order, and the CLIs' sandbox works below it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.container import ASK
from tests.deploy.dockerfile import Built, Stage
from tests.deploy.systemd import Systemd
from tests.parts.processes import eventually

CONFIG: dict[str, Any] = {
    "default_backend": "demo",
    "backends": {"slow": {"command": "sh -c 'touch begun; sleep 3; echo the whole answer'"}},
    "server": {"allowed_workdir_prefixes": ["/srv/clinvk"]},
}


@pytest.fixture(scope="module")
def systemd(image: tuple[Stage, Built], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Systemd]:
    with Systemd(tmp_path_factory.mktemp("systemd"), image[1], yaml.safe_dump(CONFIG)) as one:
        yield one
        print(one.log()[-4000:])


def configure(systemd: Systemd, **server: Any) -> None:
    text = yaml.safe_dump(CONFIG | {"server": CONFIG["server"] | server})
    (systemd.root / "etc" / "clinvk" / "config.yaml").write_text(text)


def ask(systemd: Systemd, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    done = systemd.run("/opt/clinvk/bin/python3", "-c", ASK, json.dumps([method, path, {"Content-Type": "application/json"}, body]))
    assert done.returncode == 0, done.stderr
    status, answer = json.loads(done.stdout)
    return status, answer


def prompt(systemd: Systemd, backend: str) -> tuple[int, Any]:
    return ask(systemd, "POST", "/api/v1/prompt", {"backend": backend, "prompt": "Say hello"})


def sandboxes(systemd: Systemd) -> set[str]:
    """What the backends that are there say of their isolation."""
    _, answer = ask(systemd, "GET", "/api/v1/backends")
    return {one["isolation"]["sandbox"] for one in answer["backends"] if one["available"]}


def test_unit_serves(systemd: Systemd) -> None:
    status, answer = prompt(systemd, "demo")
    assert (status, answer["exit_code"]) == (200, 0)
    assert systemd.show("NRestarts") == "0"


def test_server_is_held_as_the_unit_says(systemd: Systemd) -> None:
    status = systemd.run("cat", f"/proc/{systemd.show('MainPID')}/status").stdout
    for line in ("Uid:\t990\t990\t990\t990", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"):
        assert re.search(rf"(?m)^{line}$", status), line
    for path in ("/srv/clinvk/x", "/var/lib/clinvk/x", "/var/log/clinvk/x", "/tmp/x"):
        assert systemd.run("touch", path, inside=True).returncode == 0, path
    for path in ("/etc/x", "/etc/clinvk/x", "/opt/x", "/srv/x", "/root", "/home/x"):
        assert systemd.run("touch", path, inside=True).returncode, path
    assert "Permission denied" in systemd.run("ls", "/root", inside=True).stderr


def test_reload_puts_a_changed_file_in_force(systemd: Systemd) -> None:
    first = systemd.show("MainPID")
    configure(systemd, sandbox={"kind": "bubblewrap"})
    assert systemd.systemctl("reload", "clinvk") == ""
    try:
        assert eventually(lambda: sandboxes(systemd) == {"bubblewrap"}), systemd.log()
        # A CLI in its sandbox below all that the unit forbids: what the unit leaves out, it leaves out for this.
        status, answer = prompt(systemd, "demo")
        assert (status, answer["exit_code"]) == (200, 0), answer
    finally:
        configure(systemd)
        systemd.systemctl("reload", "clinvk")
    assert systemd.show("MainPID") == first


def test_stop_lets_a_run_finish(systemd: Systemd) -> None:
    with ThreadPoolExecutor() as pool:
        running = pool.submit(prompt, systemd, "slow")
        begun = Path(systemd.root, "srv", "clinvk", "begun")
        assert eventually(begun.exists)
        assert systemd.systemctl("stop", "clinvk") == ""
        status, answer = running.result(60)
    assert (status, answer["output"].strip()) == (200, "the whole answer")
    assert (systemd.show("ActiveState"), systemd.show("Result")) == ("inactive", "success")
    assert systemd.systemctl("start", "clinvk") == ""


def test_server_that_was_killed_is_started_again(systemd: Systemd) -> None:
    first = systemd.show("MainPID")
    systemd.run("kill", "-KILL", first)
    assert eventually(lambda: systemd.show("ActiveState") == "active" and systemd.show("MainPID") not in (first, "0"), 60)
    assert prompt(systemd, "demo")[0] == 200


def test_wrong_configuration_is_told_and_not_tried_again(systemd: Systemd) -> None:
    configure(systemd, prot=8080)
    systemd.systemctl("restart", "clinvk")
    try:
        assert (systemd.show("ActiveState"), systemd.show("ExecMainStatus")) == ("failed", "2")
        assert "did you mean" in systemd.log()
    finally:
        configure(systemd)
        systemd.systemctl("start", "clinvk")
