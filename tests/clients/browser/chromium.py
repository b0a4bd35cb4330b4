"""Chromium (Debian's, or Google's own) without a window, driven over the DevTools protocol through two pipes: no driver program,
no port, no library.

The protocol: https://chromedevtools.github.io/devtools-protocol/ (JSON messages, each ended by a NUL byte; commands in at
descriptor 3, answers and events out at 4, where the browser was started with --remote-debugging-pipe).
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from tests.parts.programs import require_program

ANSWER_S = 60.0
READ_BYTES = 1 << 16

# Nothing but loopback: every other address goes to a proxy that is not there (loopback is never asked of a proxy), no name is known.
ISOLATED = ("--proxy-server=127.0.0.1:9", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
QUIET = (
    "--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--no-default-browser-check", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-extensions", "--window-size=1280,1600",
)  # fmt: skip


def _pipe() -> tuple[int, int]:
    """The two ends, beyond the numbers that the browser's own get."""
    return tuple(_moved(end) for end in os.pipe())  # type: ignore[return-value]


def _moved(descriptor: int) -> int:
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return moved


class Chromium:
    """One browser with one page. Leaving the ``with`` block ends it."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("google-chrome") or require_program("chromium")
        self.errors: list[str] = []
        """What the console calls an error, and exceptions that nobody caught."""
        self.requested: list[str] = []
        """The address of every request of the page."""
        self._last_id = 0
        self._buffer = b""
        self._session: str | None = None
        self._folder = folder / "chromium"
        commands, self._commands = _pipe()
        self._answers, answers = _pipe()
        sandbox = ("--no-sandbox",) if os.getuid() == 0 else ()  # it refuses to be root's in its own sandbox
        options = (*QUIET, *sandbox, *ISOLATED, f"--user-data-dir={self._folder}", "--remote-debugging-pipe", "about:blank")
        with (folder / "chromium.log").open("wb") as log:
            self._process = subprocess.Popen(
                ["bash", "-c", f'exec "$@" 3<&{commands} 4>&{answers}', "bash", program, *options],
                pass_fds=(commands, answers), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8"},
            )  # fmt: skip
        os.close(commands)
        os.close(answers)
        try:
            self._attach()
        except BaseException:
            self.__exit__()
            raise

    def _attach(self) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)
        os.close(self._commands)
        os.close(self._answers)
        shutil.rmtree(self._folder, ignore_errors=True)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command and its answer; what the page tells meanwhile is kept. Raises AssertionError with the browser's words."""
        self._last_id += 1
        command = {"id": self._last_id, "method": method, "params": parameters}
        command |= {"sessionId": self._session} if self._session else {}
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        deadline = time.monotonic() + ANSWER_S
        while True:
            message = self._message(deadline)
            if message.get("id") == self._last_id:
                assert "error" not in message, f"{method}: {message['error']}"
                result: dict[str, Any] = message["result"]
                return result
            self._hear(message.get("method", ""), message.get("params", {}))

    def _message(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"Chromium said nothing within {ANSWER_S} s"
            data = os.read(self._answers, READ_BYTES)
            assert data, "Chromium has ended"
            self._buffer += data
        head, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(head)
        return message

    def _hear(self, event: str, told: Mapping[str, Any]) -> None:
        match event:
            case "Runtime.exceptionThrown":
                self.errors.append(json.dumps(told["exceptionDetails"])[:1000])
            case "Runtime.consoleAPICalled" if told["type"] in ("error", "assert"):
                self.errors.append(json.dumps(told["args"])[:1000])
            case "Log.entryAdded" if told["entry"]["level"] == "error":
                self.errors.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")
            case "Network.requestWillBeSent":
                self.requested.append(told["request"]["url"])

    def open(self, url: str) -> str:
        """Go there; why that was not possible, or nothing."""
        text: str = self.call("Page.navigate", url=url).get("errorText", "")
        return text

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, expression: str, within_s: float = 30.0) -> Any:
        """The value of the expression, once it is true."""
        deadline = time.monotonic() + within_s
        while not (value := self.ask(expression)):
            assert time.monotonic() < deadline, f"not so within {within_s} s: {expression}\nerrors: {self.errors}"
            time.sleep(0.05)
        return value

    def click(self, selector: str) -> None:
        """Press and release the mouse in the middle of the element, once it is there and nothing lies over it."""
        name = json.dumps(selector)
        self.wait_for(f"!!document.querySelector({name})")
        place = self.wait_for(
            f"""(() => {{
                const element = document.querySelector({name});
                element.scrollIntoView({{block: "center", behavior: "instant"}});
                const box = element.getBoundingClientRect(), x = box.x + box.width / 2, y = box.y + box.height / 2;
                const hit = document.elementFromPoint(x, y);
                return hit && (element.contains(hit) || hit.contains(element)) && !element.disabled ? {{x, y}} : null;
            }})()"""
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)

    def type_into(self, selector: str, text: str) -> None:
        """Replace what the field holds, as the keyboard would."""
        self.click(selector)
        self.ask(f"document.querySelector({json.dumps(selector)}).select()")
        self.call("Input.insertText", text=text)

    def text(self, selector: str) -> str:
        return str(self.ask(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
