"""A newcomer's first minutes with the real Claude Code: a question, a task that is refused, the same task with the right to edit.

With RECORD_TERMINAL=1 what the terminal showed becomes the README's picture, docs/images/terminal.svg.
"""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

from tests.conftest import ServerFactory
from tests.parts.clis import NO_WAY_OUT, cli_path, real_cli_in, require
from tests.parts.command import Command
from tests.parts.model_api import FakeModelApi, Reply
from tests.parts.server import ROOT

PICTURE = ROOT / "docs" / "images" / "terminal.svg"
COLUMNS = 110
FONT_FACE = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
"""Rich's fonts would come from the internet; without them the viewer's own is used."""


def test_first_minutes(server: ServerFactory, model_api: FakeModelApi, tmp_path: Path) -> None:
    require("claude")
    cli = real_cli_in(tmp_path / "claude", "claude", model_api.url)
    one = server({"backends": {"claude": {"model": cli.model}}}, {**cli.env, **NO_WAY_OUT, "PATH": cli_path()})
    project = tmp_path / "project"
    project.mkdir()
    greeting = project / "greeting.py"
    clinvk = Command(project, f"first-{tmp_path.name}", {"CLINVK_SERVER_URL": one.url, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)})
    write = Reply(write=(str(greeting), 'print("Hello!")\n'))
    model_api.script("What can", Reply(text="I can **read** this folder, and, if you let me, change it:\n\n- fix bugs\n- write tests\n"))
    model_api.script("Write greeting.py", write, Reply(text="I was not allowed to write `greeting.py`."))

    shown = []

    def prompt(*args: str) -> str:
        code, screen = clinvk.on_a_terminal("prompt", *args)
        assert code == 0, screen
        shown.append((args, screen))
        return screen

    assert "\x1b[1mread\x1b[0m" in prompt("What can you do?")
    screen = prompt("Write greeting.py")
    assert "Write: " in screen
    assert "refused: Write: " in screen
    assert "(try --approval-mode auto)" in screen
    assert not greeting.exists()

    model_api.script("Write greeting.py, now", write, Reply(text="Done: `greeting.py` says hello."))
    screen = prompt("-c", "Write greeting.py, now", "--approval-mode", "auto")
    assert "refused: " not in screen
    assert greeting.read_text() == 'print("Hello!")\n'
    if os.environ.get("RECORD_TERMINAL") == "1":
        PICTURE.write_text(picture(one.log().partition("{")[0], shown, {str(project): "~/project", one.url: "http://127.0.0.1:8080"}))


def picture(banner: str, commands: list[tuple[tuple[str, ...], str]], names: dict[str, str]) -> str:
    """An SVG of the terminal. ``names``: what is of this test run alone, and what stands for it."""
    from rich.console import Console
    from rich.text import Text

    console = Console(record=True, width=COLUMNS, force_terminal=True, file=io.StringIO())

    def show(text: str) -> None:
        for name, shown in names.items():
            text = text.replace(name, shown)
        lines = (line.rsplit("\r\x1b[K", 1)[-1].rsplit("\x1b[K", 1)[-1] for line in text.replace("\r\n", "\n").split("\n"))
        console.print(Text.from_ansi("\n".join(lines).strip("\n")))
        console.print()

    show("$ clinvk serve\n" + "\n".join(line for line in banner.splitlines() if not line.strip().startswith("config")))
    for args, screen in commands:
        show("$ clinvk prompt " + " ".join(f'"{arg}"' if " " in arg else arg for arg in args) + "\n" + screen)
    return FONT_FACE.sub("", console.export_svg(title="clinvk"))
