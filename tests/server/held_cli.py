"""A CLI that reads its stdin when it is up, as Gemini CLI does, and tells in its words what it was given.

``patient`` waits for the end of its stdin after a first character, ``hasty`` does not, ``mortal`` ends when it has been asked,
``noting`` leaves a file in its folder when it has, and takes no notice of SIGTERM.
"""

import json
import os
import select
import signal
import sys
from pathlib import Path
from typing import Any


def say(**line: Any) -> None:
    print(json.dumps(line), flush=True)


def files_below(folder: str) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in Path(folder).rglob("*") if path.is_file()}


manner = sys.argv[1]
if manner == "hasty":
    asked = os.read(0, 100)
    while select.select([0], [], [], 0.2)[0] and (more := os.read(0, 100_000)):
        asked += more
    prompt = asked.decode()
else:
    if manner == "noting":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    prompt = sys.stdin.read()
    if manner == "noting":
        Path("began").touch()
if manner == "mortal":
    sys.exit(1)
(session,) = [arg.partition("=")[2] for arg in sys.argv if arg.startswith("--session-id=")] or [""]
say(type="init", session_id=session, model="m")
told = {"prompt": prompt, "home": files_below(os.environ["GEMINI_CLI_HOME"]), "tmp": os.environ["TMPDIR"], "argv": sys.argv[2:]}
say(type="message", role="assistant", content=json.dumps(told))
say(type="result", status="success", stats={})
