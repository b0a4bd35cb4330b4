"""Whoever asks, and however: a process that was there before serves only a run that it would have been started for."""

from __future__ import annotations

import random
from itertools import product
from pathlib import Path
from typing import Any

from tests.conftest import ServerFactory
from tests.parts.clis import FakeCli
from tests.server.test_warm_fake_cli import ask, start

KINDS: dict[str, dict[Any, str]] = {
    "model": {"opus": "--model=opus", "haiku": "--model=haiku"},
    "approval_mode": {"auto": "--permission-mode=acceptEdits", "always": "--permission-mode=default"},
    "max_tokens": {None: "", 7: ""},
    "system_prompt": {None: "", "be brief": "", "be long": ""},
    "workdir": {"alice": "", "bob": ""},
}
"""The values that a request has, and the flag that each comes to."""


def test_runs_of_different_kinds_never_share_what_one_of_them_was_started_with(
    server: ServerFactory, fake_cli: FakeCli, tmp_path: Path
) -> None:
    one = start(server, fake_cli, warm={"max": 12})
    for name in KINDS["workdir"]:
        (tmp_path / name).mkdir()
    kinds = random.Random(1).sample(list(product(*KINDS.values())), 10)
    seen: set[int] = set()
    for values in kinds * 4:
        asked = {key: value for key, value in zip(KINDS, values, strict=True) if value is not None}
        ask(one, **(asked | {"workdir": str(tmp_path / asked["workdir"])}))
        (report,) = [report for report in fake_cli.reports() if report["pid"] not in seen]
        seen.add(report["pid"])
        flags = {flag for key, value in asked.items() if (flag := KINDS[key][value])}
        assert flags == {arg for arg in report["argv"] if arg.startswith(("--model=", "--permission-mode="))}
        assert report["cwd"] == str(tmp_path / asked["workdir"])
        assert ("CLAUDE_CODE_MAX_OUTPUT_TOKENS" in report["env"]) == ("max_tokens" in asked)
        told = fake_cli.initialized().get(report["pid"], {}).get("systemPrompt")
        assert told == ([asked["system_prompt"]] if "system_prompt" in asked else None)
    assert one.log().count("a run is warm") > 5
