from __future__ import annotations

from dataclasses import replace

import pytest

from services.clis.custom import declare
from services.clis.shown_command import redacted_argv
from tests.unit.services.clis.invoked import invoked


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        (["--api-key=abc"], ["--api-key=[redacted]"]),
        (["--api-key", "abc", "x"], ["--api-key", "[redacted]", "x"]),
        (["--token", "--json"], ["--token", "--json"]),
        (["-c", 'model_providers.x.api_key="abc"'], ["-c", "model_providers.x.api_key=[redacted]"]),
        (["env", "MYCLI_TOKEN=abc", "mycli"], ["env", "MYCLI_TOKEN=[redacted]", "mycli"]),
        (["--header=X-Api-Key: abc def"], ["--header=X-Api-Key: [redacted]"]),
        (["-H", "Authorization: Bearer abc"], ["-H", "Authorization: [redacted]"]),
        (["--base-url=https://me:pw@host/v1"], ["--base-url=https://[redacted]@host/v1"]),
        (["--note", "sk-ant-0123456789"], ["--note", "[redacted]"]),
        (["--note=held-in-env-1"], ["--note=[redacted]"]),
        (["--max-tokens=100"], ["--max-tokens=100"]),
        (["--model=claude", "--monkey=1", "say the token: x"], ["--model=claude", "--monkey=1", "say the token: x"]),
    ],
)
def test_credentials_are_not_shown(argv: list[str], shown: list[str]) -> None:
    assert redacted_argv(argv, {"MYCLI_API_KEY": "held-in-env-1", "LANG": "claude"}) == shown


def test_an_invocation_shows_its_command_line_without_credentials() -> None:
    spec = replace(declare("mycli", {"args": ["run"]}), extra_args=("--api-key=abc", "--fast"), env={"MYCLI_TOKEN": "t0p"})
    invocation = invoked(spec)
    assert invocation.shown_argv == ["mycli", "run", "--api-key=[redacted]", "--fast"]
    assert "--api-key=abc" in invocation.argv
