"""The steps of the Dockerfile, carried out in a clean root; and what they built, started as `docker run … serve --host 0.0.0.0`."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.container import Container
from tests.deploy.dockerfile import DOCKERFILE, IGNORED, Built, Stage, parse
from tests.parts.processes import children, eventually, state

KEY = "a-key-of-the-tests-0123456789"
PROMPT = {"backend": "demo", "prompt": "Say hello"}


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
    (worker,) = [pid for pid in children(container.pid) if "supervisor" not in Path(f"/proc/{pid}/cmdline").read_text()]
    os.kill(worker, signal.SIGKILL)
    assert eventually(lambda: state(worker) is None)
    assert eventually(lambda: container.health() == 0, 30)
    assert container.ask("POST", "/api/v1/prompt", PROMPT, KEY)[0] == 200
    assert eventually(lambda: not [pid for pid in children(container.pid) if (now := state(pid)) and now[0] == "Z"])


def test_health_check_tells_a_server_that_does_not_answer(container: Container) -> None:
    os.kill(container.pid, signal.SIGSTOP)
    (worker,) = [pid for pid in children(container.pid) if "supervisor" not in Path(f"/proc/{pid}/cmdline").read_text()]
    os.kill(worker, signal.SIGSTOP)
    try:
        assert container.health() == 1
    finally:
        os.kill(worker, signal.SIGCONT)
        os.kill(container.pid, signal.SIGCONT)
