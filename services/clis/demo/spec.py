"""The demo backend: ships with the product, so that the first run, the examples and the tests need no account."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from services.clis.option import Option
from services.clis.spec import BackendSpec
from services.decoding.rules import Rule, RulesDecoder

RULES = (
    Rule("text", {"type": "text"}, {"text": "text"}),
    Rule("started", {"type": "started"}, {"session_id": "session", "model": "model"}),
    Rule("done", {"type": "done"}, {"stop_reason": "reason", "input_tokens": "input", "output_tokens": "output"}),
    Rule("error", {"type": "error"}, {"message": "message"}),
)
"""How `demo_cli` speaks."""

SPEC = BackendSpec(
    name="demo",
    # -I -S: nothing of the user's Python is read, and it starts nearly as fast as Python itself.
    command=(sys.executable, "-I", "-S", str(Path(__file__).with_name("cli.py"))),
    options={
        "model": Option(argv=("--model={}",)),
        "system_prompt": Option(argv=("--system-prompt-file={file}",)),
        "max_tokens": Option(argv=("--max-tokens={}",)),
    },
    decoder=partial(RulesDecoder, RULES),
    streams_tokens=True,
    resume_args=("--session={}",),
    can_resume=True,
    can_be_ephemeral=True,
    aliases={"fast": "demo-1", "balanced": "demo-1", "best": "demo-1"},
    models=("demo-1",),
    claims=("demo-*",),
    version_args=(),
    is_demo=True,
)
