"""The web page of the guide to long runs, in Chromium: its `EventSource` shows every text once, also across a restart of the server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.clients.browser.chromium import Chromium
from tests.conftest import ServerFactory
from tests.docs.blocks import blocks_of
from tests.docs.conftest import ADDRESS
from tests.parts.clis import FakeCli, do
from tests.parts.server import ROOT, Server

SHOWN = "(document.getElementById('output')?.textContent ?? '')"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def chromium(tmp_path: Path) -> Iterator[Chromium]:
    with Chromium(tmp_path) as one:
        yield one


@contextmanager
def page(folder: Path, server: Server, prompt: str = "Say hello") -> Iterator[str]:
    """The address of the guide's page, served as the guide says, with another prompt."""
    (html,) = (block.text for block in blocks_of(ROOT / "docs" / "long-runs.md") if block.kind == "html")
    (folder / "favicon.ico").touch()  # every browser asks for it
    (folder / "run.html").write_text(ADDRESS.sub(server.url, html).replace('"Say hello"', json.dumps(prompt)))
    pages = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=pages.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{pages.server_port}/run.html"
    finally:
        pages.shutdown()
        thread.join()
        pages.server_close()


def test_page_shows_a_run_and_shows_it_again_when_it_is_loaded_again(server: ServerFactory, chromium: Chromium, tmp_path: Path) -> None:
    one = server()
    expected = one.client.prompt("demo", "Say hello").json["output"]
    with page(tmp_path, one) as url:
        for _ in range(2):
            assert not chromium.open(url)
            chromium.wait_for(f"{SHOWN} === {json.dumps(expected)}")
            url = chromium.ask("location.href")
            chromium.open("about:blank")
        (run,) = one.client.get("/api/v1/runs").json["runs"]
        assert url.endswith(f"#{run['id']}")
    assert not chromium.errors


def test_page_goes_on_after_kill_9_of_the_server(server: ServerFactory, fake_cli: FakeCli, chromium: Chromium, tmp_path: Path) -> None:
    config = {"backends": {"claude": fake_cli.backend()}, "default_backend": "claude"}
    one = server(config)
    with page(tmp_path, one, do(["tokens", 20], ["say", "."], ["hang"])) as url:
        (tmp_path / "run.html").write_text((tmp_path / "run.html").read_text().replace('backend: "demo", ', ""))
        assert not chromium.open(url)
        chromium.wait_for(f"{SHOWN}.endsWith('.')")
        one.kill_everything()
        server(config, {"CLINVK_HOME": str(one.clinvk_home)}, ("--port", one.url.rpartition(":")[2]))
        chromium.wait_for(f"{SHOWN}.includes('has ended')")
        shown = chromium.ask(SHOWN)
    assert shown.startswith(" ".join(f"tok{n}" for n in range(20)) + ".the process")
    assert shown.count("tok7") == 1
