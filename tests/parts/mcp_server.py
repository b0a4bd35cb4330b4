"""An MCP server that has nothing to offer: it notes the key and the depth that a client asks with."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from services.depth import HEADER as DEPTH_HEADER


class McpServer(ThreadingHTTPServer):
    def __init__(self) -> None:
        self.asked: list[tuple[str | None, str | None]] = []
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: McpServer

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/mcp":
            self.server.asked.append((self.headers["Authorization"], self.headers[DEPTH_HEADER]))
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def mcp() -> Iterator[McpServer]:
    with McpServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
