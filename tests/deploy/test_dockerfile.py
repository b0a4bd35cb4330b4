"""The steps of the Dockerfile, carried out in a clean root; and what they built, started as `docker run … serve --host 0.0.0.0`."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from tests.deploy.container import Container
from tests.deploy.dockerfile import DOCKERFILE, IGNORED, Built, Stage, as_root, build, parse
from tests.parts.processes import children, eventually, state
from tests.parts.programs import do_without, require_program

KEY = "a-key-of-the-tests-0123456789"
PROMPT = {"backend": "demo", "prompt": "Say hello"}


def npm_package(path: Path) -> Path:
    """A CLI as npm installs it: here one that knows nothing but its version."""
    about = {"name": "a-cli", "version": "9.9.9", "bin": {"claude": "claude.js"}}
    script = "#!/usr/bin/env node\nconsole.log('9.9.9 (Claude Code)')\n"
    with tarfile.open(path, "w:gz") as tar:
        for name, text, mode in (("package.json", json.dumps(about), 0o644), ("claude.js", script, 0o755)):
            member = tarfile.TarInfo(f"package/{name}")
            member.size, member.mode = len(text), mode
            tar.addfile(member, BytesIO(text.encode()))
    return path


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stage, Built]]:
    """Built with one CLI. The last stage is not told of it: its `apt-get` would change this machine's /usr."""
    for program, package in (("bwrap", "bubblewrap"), ("npm", "npm"), ("setpriv", "util-linux")):
        require_program(program, package)
    if subprocess.run(["/usr/bin/python3", "-c", "import ensurepip, sys; sys.exit(sys.version_info < (3, 11))"]).returncode:
        do_without("/usr/bin/python3 is not 3.11 or later with the module ensurepip: `apt-get install python3-venv`")
    folder = tmp_path_factory.mktemp("image")
    folder.chmod(0o755)
    package = npm_package(folder / "a-cli.tgz")
    yield build(folder, {"clis": {"CLIS": "/a-cli.tgz"}}, {"a-cli.tgz": package})
    if os.geteuid():
        subprocess.run([*as_root(), "rm", "-rf", str(folder)], check=True)


@pytest.fixture(scope="module")
def container(image: tuple[Stage, Built], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    folder = tmp_path_factory.mktemp("container")
    with Container(*image, folder, "serve", "--host", "0.0.0.0", env={"CLINVK_API_KEYS": f"tests={KEY}"}) as one:
        one.wait_until_healthy()
        yield one


def test_everything_that_is_copied_passes_the_ignore_file() -> None:
    allowed = {line[1:] for line in IGNORED.read_text().splitlines() if line.startswith("!")}
    copied = [words.split()[:-1] for stage in parse(DOCKERFILE.read_text()) for name, words in stage.steps if name == "COPY"]
    assert allowed == {source for sources in copied if not sources[0].startswith("--") for source in sources}


def test_container_answers_who_has_the_key(container: Container) -> None:
    status, answer = container.ask("POST", "/api/v1/prompt", PROMPT, KEY)
    assert (status, answer["exit_code"]) == (200, 0)
    assert "Say hello" in answer["output"]
    assert container.ask("POST", "/api/v1/prompt", PROMPT)[0] == 401


def test_chosen_cli_is_there(container: Container) -> None:
    def version() -> str | None:
        _, answer = container.ask("GET", "/api/v1/backends", key=KEY)
        told: dict[str, str | None] = {one["name"]: one["version"] for one in answer["backends"] if one["available"]}
        return told["claude"]

    assert eventually(lambda: version() and "9.9.9" in str(version())), container.log()


def test_container_is_a_user_without_rights_in_a_root_that_it_cannot_change(container: Container) -> None:
    status = Path(f"/proc/{container.pid}/status").read_text()
    assert re.search(r"(?m)^Uid:\t10001\t10001\t10001\t10001$", status)
    assert re.search(r"(?m)^CapBnd:\t0+$", status)
    assert re.search(r"(?m)^NoNewPrivs:\t1$", status)
    assert "NSpid:" in status
    for path in ("/opt/clinvk/x", "/etc/x", "/x"):
        assert container.run(["touch", path]).returncode, path
    for path in ("/home/clinvk/x", "/workspace/x", "/tmp/x"):
        assert container.run(["touch", path]).returncode == 0, path


def test_without_a_key_the_container_makes_one_and_prints_it_and_docker_stop_ends_it(image: tuple[Stage, Built], tmp_path: Path) -> None:
    with Container(*image, tmp_path) as one:
        one.wait_until_healthy()
        (key,) = re.findall(r"made for this run .*\n\s+(\S+)", one.log())
        assert one.ask("POST", "/api/v1/prompt", PROMPT)[0] == 401
        assert one.ask("POST", "/api/v1/prompt", PROMPT, key)[0] == 200
        assert one.stop() == 0, one.log()


def test_first_process_reaps_what_a_killed_worker_leaves(container: Container) -> None:
    """So no init process is needed."""
    (worker,) = [pid for pid in children(container.pid) if "keeper" not in Path(f"/proc/{pid}/cmdline").read_text()]
    os.kill(worker, signal.SIGKILL)
    assert eventually(lambda: state(worker) is None)
    assert eventually(lambda: container.health() == 0, 30)
    assert container.ask("POST", "/api/v1/prompt", PROMPT, KEY)[0] == 200
    assert eventually(lambda: not [pid for pid in children(container.pid) if (now := state(pid)) and now[0] == "Z"])


def test_health_check_tells_a_server_that_does_not_answer(container: Container) -> None:
    os.kill(container.pid, signal.SIGSTOP)
    (worker,) = [pid for pid in children(container.pid) if "keeper" not in Path(f"/proc/{pid}/cmdline").read_text()]
    os.kill(worker, signal.SIGSTOP)
    try:
        assert container.health() == 1
    finally:
        os.kill(worker, signal.SIGCONT)
        os.kill(container.pid, signal.SIGCONT)
