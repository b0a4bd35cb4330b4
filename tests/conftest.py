"""The fixtures that every kind of test may use. What they are made of is in `tests.parts`."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.observability.context import current_request, set_current_request
from tests.parts.clis import NO_WAY_OUT, REAL_CLIS, SLOW_CLIS, TESTED_CLIS, FakeCli, RealCli, cli_path, real_cli_in, require
from tests.parts.model_api import FakeModelApi
from tests.parts.processes import command_line, eventually
from tests.parts.server import LOG_TAIL_CHARS, Server

ServerFactory = Callable[..., Server]


def pytest_configure() -> None:
    """Ctrl-C is heard also where a shell started the tests in the background: it has that ignored, by them and by all they start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Before ``-m`` selects: make ``long`` what is no smoke test of a slow CLI; leave out CLIs of which this run has no other version."""
    same_version: list[pytest.Item] = []
    for item in items:
        clis = _real_clis_of(item)
        if clis & SLOW_CLIS and not item.get_closest_marker("smoke"):
            item.add_marker("long")
        if clis - TESTED_CLIS:
            same_version.append(item)
    if same_version:
        config.hook.pytest_deselected(items=same_version)
        items[:] = [item for item in items if item not in same_version]


def _real_clis_of(item: pytest.Item) -> set[str]:
    parameters = getattr(item, "callspec", None)
    is_real = item.get_closest_marker("real_cli")
    return {name for name in REAL_CLIS if name in parameters.params.values()} if parameters and is_real else set()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collecting makes a few hundred thousand objects and no garbage: no collector runs meanwhile, and none goes through them later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="module", autouse=True)
def unclosed_resources_fail_this_module() -> Iterator[None]:
    """A socket or an event loop that a module drops unclosed fails that module, not whichever test the collector runs in.

    What outlives the module, such as a cached application, is not gone through again after every later one.
    """
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def scripted_cli(tmp_path_factory: pytest.TempPathFactory) -> FakeCli:
    return FakeCli(tmp_path_factory.mktemp("scripted") / "reports")


@pytest.fixture
def fake_cli(scripted_cli: FakeCli) -> FakeCli:
    """The scripted CLI, which has forgotten the tests before this one."""
    scripted_cli.forget()
    return scripted_cli


@pytest.fixture
def model_api() -> Iterator[FakeModelApi]:
    api = FakeModelApi().start()
    yield api
    api.stop()


@pytest.fixture(autouse=True)
def no_request_is_left() -> Iterator[None]:
    """The body of every response is closed, which ends its request: another test in this process would take it for its own."""
    yield
    left = current_request()
    set_current_request(None)
    assert left is None, f"{left.method} {left.path} was not ended"


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerFactory]:
    """``server(config, env=…, args=…)`` starts one; at the end each is stopped and must leave nothing behind."""
    started: list[Server] = []

    def start(config: Mapping[str, Any] | None = None, env: Mapping[str, str] | None = None, args: tuple[str, ...] = ()) -> Server:
        started.append(Server(tmp_path_factory.mktemp("server"), config or {}, env, args))
        return started[-1]

    yield start
    failures = []
    for one in started:
        try:
            one.stop()
        except AssertionError as failure:
            failures.append(str(failure))
        print(one.log()[-LOG_TAIL_CHARS:])  # pytest shows it with a test that failed
    assert not failures, "\n".join(failures)


LIMITS = {"line_limit_bytes": 8 << 20, "max_output_bytes": 14 << 20, "max_concurrent_runs": 24}
"""Of the server that tests on the scripted CLI share: small enough to be passed."""


@pytest.fixture(scope="session")
def standing_server(scripted_cli: FakeCli, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = {"default_backend": "claude", "backends": {"claude": scripted_cli.backend()}, "server": LIMITS}
    one = Server(tmp_path_factory.mktemp("standing"), config)
    yield one
    one.stop()


@pytest.fixture
def fake_server(standing_server: Server, fake_cli: FakeCli) -> Iterator[Server]:
    """A server whose `claude` is the scripted CLI, shared by all tests that do not end it; each must leave no process behind."""
    logged = len(standing_server.log())
    yield standing_server
    gone = eventually(lambda: not standing_server.runs())
    print(standing_server.log()[logged:][-LOG_TAIL_CHARS:])
    assert gone, "left behind: " + "\n".join(f"{pid}: {command_line(pid)}" for pid in standing_server.runs())


@dataclass(frozen=True)
class Rig:
    """One server with all real CLIs, and the model API that they ask."""

    server: Server
    api: FakeModelApi
    clis: Mapping[str, RealCli]


@pytest.fixture(scope="session")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    api = FakeModelApi().start()
    folder = tmp_path_factory.mktemp("real")
    folder.chmod(0o755)
    clis = {name: real_cli_in(folder / name, name, api.url) for name in REAL_CLIS}
    env = {key: value for cli in clis.values() for key, value in cli.env.items()} | NO_WAY_OUT | {"PATH": cli_path()}
    config = {"backends": {name: cli.backend for name, cli in clis.items()}}
    server = Server(folder, config, env)
    yield Rig(server, api, clis)
    try:
        server.stop()
    finally:
        api.stop()


@dataclass(frozen=True)
class Real:
    """One real CLI behind a running server. ``name`` is its backend; ``api`` has forgotten what was before this test."""

    cli: RealCli
    server: Server
    api: FakeModelApi
    workdir: Path

    @property
    def name(self) -> str:
        return self.cli.name

    def ask(self, prompt: str, **fields: Any) -> Any:
        """``POST /api/v1/prompt``: the JSON of an answer that must be 200."""
        answer = self.server.client.prompt(self.name, prompt, workdir=str(self.workdir), **fields)
        assert answer.status == 200, answer.body
        return answer.json


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.real_cli) for name in REAL_CLIS])
def real(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Real]:
    """A real CLI behind the server; the test must leave no process of it behind."""
    require(request.param)
    rig: Rig = request.getfixturevalue("rig")
    rig.api.forget()
    logged = len(rig.server.log())
    workdir = tmp_path / "project"
    workdir.mkdir()
    yield Real(rig.clis[request.param], rig.server, rig.api, workdir)
    rig.api.release_all()
    gone = eventually(lambda: not rig.server.runs())
    print(rig.server.log()[logged:][-LOG_TAIL_CHARS:])
    assert gone, "left behind: " + "\n".join(f"{pid}: {command_line(pid)}" for pid in rig.server.runs())


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.real_cli) for name in REAL_CLIS])
def real_cli(request: pytest.FixtureRequest, model_api: FakeModelApi, tmp_path: Path) -> RealCli:
    """A real CLI set up to ask ``model_api``, with no server."""
    require(request.param)
    return real_cli_in(tmp_path / "home", request.param, model_api.url)
