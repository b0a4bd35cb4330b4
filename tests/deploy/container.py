"""A started container as far as the kernel is concerned: namespaces of its own, a read-only root, a user without rights."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from tests.deploy.dockerfile import Built, Stage, as_root
from tests.parts.processes import eventually
from tests.parts.programs import require_program

START_S = 60.0

ASK = """
import json, sys, urllib.error, urllib.request
method, path, headers, body = json.loads(sys.argv[1])
request = urllib.request.Request("http://127.0.0.1:8080" + path, body and json.dumps(body).encode(), headers, method=method)
try:
    answer = urllib.request.urlopen(request, timeout=30)
except urllib.error.HTTPError as error:
    answer = error
print(json.dumps([answer.status, json.loads(answer.read())]))
"""


class Container:
    """``docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges IMAGE …``. ``pid`` is its first process."""

    def __init__(self, stage: Stage, built: Built, folder: Path, *command: str, env: Mapping[str, str] | None = None) -> None:
        self._stage, self._built = stage, built
        self._log = folder / "container.log"
        user = stage.words("USER").replace(":", " ").split()
        self._rights = [
            "setpriv", f"--reuid={user[0]}", f"--regid={user[1]}", "--clear-groups", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all",
        ]  # fmt: skip
        options = [
            "--remount-ro", "/", "--perms", "1777", "--tmpfs", "/tmp", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts",
        ]  # fmt: skip
        for kept in (*stage.argv("VOLUME"), "/workspace"):
            options = ["--bind", f"{built.root}{kept}", kept, *options]
        given = [word for name, value in (env or {}).items() for word in ("--setenv", name, value)]
        tell, told = os.pipe()
        argv = [*stage.argv("ENTRYPOINT"), *(command or stage.argv("CMD"))]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*built.bwrap(*options, *given, "--as-pid-1", "--die-with-parent", "--info-fd", str(told)), "--", *self._rights, *argv],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(told,),
            )  # fmt: skip
        os.close(told)
        with os.fdopen(tell) as pipe:
            said = pipe.read()
        if not said:
            self._process.wait(10)
            raise AssertionError(self.log())
        self.pid: int = json.loads(said)["child-pid"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self._process.wait(10)

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def run(self, argv: list[str]) -> subprocess.CompletedProcess[str]:
        """``docker exec``: a further process in the container, with its user and environment."""
        inside = ["--target", str(self.pid), "--all", "--root"]
        env = [f"{name}={value}" for name, value in self._built.env.items()]
        command = [
            *as_root(),
            require_program("nsenter", "util-linux"),
            *inside,
            "--",
            *self._rights,
            "env",
            "-i",
            f"--chdir={self._built.workdir}",
            *env,
            *argv,
        ]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)

    def health(self) -> int:
        """The exit code of the image's HEALTHCHECK."""
        return self.run(json.loads(self._stage.words("HEALTHCHECK").partition(" CMD ")[2])).returncode

    def ask(self, method: str, path: str, body: Any = None, key: str = "") -> tuple[int, Any]:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        done = self.run(["python3", "-c", ASK, json.dumps([method, path, headers, body])])
        assert done.returncode == 0, done.stderr + self.log()
        status, answer = json.loads(done.stdout)
        return status, answer

    def wait_until_healthy(self) -> None:
        def is_up() -> bool:
            assert self._process.poll() is None, self.log()
            return "listens on" in self.log() and self.health() == 0

        assert eventually(is_up, START_S), self.log()

    def stop(self) -> int:
        """``docker stop``: the image's signal to the first process; the exit code."""
        os.kill(self.pid, getattr(signal, self._stage.words("STOPSIGNAL")))
        return self._process.wait(60)
