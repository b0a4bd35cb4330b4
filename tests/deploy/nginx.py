"""Debian's nginx with our site, in a folder of its own and on loopback; and a client that speaks TLS to it."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import ssl
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.parts.certificates import certificate
from tests.parts.client import TIMEOUT_S, Client, Sent
from tests.parts.processes import eventually
from tests.parts.programs import require_program
from tests.parts.server import ROOT

SITE = ROOT / "deploy" / "nginx.conf"
NAME = "gateway.example.com"
CLIENT_ADDRESS = "127.0.0.2"
"""Where the clients are, as nginx sees them: not the address that nginx itself has for the server."""

MAIN = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log notice;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Nginx:
    """One nginx in front of ``upstream`` (host:port). ``client`` talks TLS to it, from `CLIENT_ADDRESS`."""

    def __init__(self, folder: Path, upstream: str, changes: Mapping[str, str] | None = None) -> None:
        """``changes`` to the site, for tests of its limits: what stands there → what shall."""
        self._program = require_program("nginx")
        self._folder = folder
        self.port, self.plain_port = free_port(), free_port()
        cert, key = certificate(folder, NAME)
        placeholders = {
            "listen 443 ssl http2;": f"listen 127.0.0.1:{self.port} ssl http2;",
            "listen 80;": f"listen 127.0.0.1:{self.plain_port};",
            "listen [::]:443 ssl http2;": "",
            "listen [::]:80;": "",
            "server 127.0.0.1:8080;": f"server {upstream};",
            "/etc/ssl/gateway.example.com/fullchain.pem": str(cert),
            "/etc/ssl/gateway.example.com/privkey.pem": str(key),
        }
        site = SITE.read_text()
        for old, new in {**placeholders, **(changes or {})}.items():
            assert site.count(old) == 1, f"{old!r} is in the site {site.count(old)} times"
            site = site.replace(old, new)
        (folder / "site.conf").write_text(site)
        (folder / "nginx.conf").write_text(MAIN.format(folder=folder))
        self.context = ssl.create_default_context(cafile=str(cert))
        self.client = TlsClient(self)

    def command(self, *args: str) -> list[str]:
        return [
            self._program,
            "-p",
            str(self._folder),
            "-c",
            str(self._folder / "nginx.conf"),
            "-e",
            str(self._folder / "error.log"),
            *args,
        ]

    def test(self) -> str:
        """What `nginx -t` says of the configuration that it accepts."""
        done = subprocess.run(self.command("-t"), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stderr

    def start(self) -> None:
        with (self._folder / "output").open("wb") as output:
            self._process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        assert eventually(self._answers), self.log()

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(10)

    def log(self) -> str:
        return "".join(path.read_text() for path in (self._folder / "output", self._folder / "error.log") if path.exists())

    def _answers(self) -> bool:
        assert self._process.poll() is None, self.log()
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
        except OSError:
            return False
        return True


class TlsClient(Client):
    """Checks the certificate by its name, as a client in the world would."""

    def __init__(self, nginx: Nginx) -> None:
        super().__init__(f"https://{NAME}")
        self._nginx = nginx

    def send(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, timeout_s: float = TIMEOUT_S
    ) -> Sent:
        connection = http.client.HTTPConnection(NAME, timeout=timeout_s)
        plain = socket.create_connection(("127.0.0.1", self._nginx.port), timeout_s, source_address=(CLIENT_ADDRESS, 0))
        connection.sock = self._nginx.context.wrap_socket(plain, server_hostname=NAME)
        sent = {"Content-Type": "application/json"} if body is not None else {}
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        try:
            connection.request(method, path, data, sent | self.headers | dict(headers or {}))
        except BaseException:
            connection.close()
            raise
        return Sent(connection)
