"""`clinvk connect` on the command line: what it says, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.cli.command import run

SERVER = "--server=http://127.0.0.1:8080"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("CLAUDE_CONFIG_DIR", "CODEX_HOME", "CLINVK_SERVER_URL", "CLINVK_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(home: Path) -> list[str]:
    return sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())


def test_without_write_the_configuration_is_printed_and_nothing_else(home, capsys) -> None:
    assert run(["connect", "claude", "--as=mcp", SERVER]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["mcpServers"]["clinvk"]["url"] == "http://127.0.0.1:8080/mcp"
    assert f"In {home}/.claude.json:" in err
    assert files(home) == []


def test_the_server_is_that_of_the_configuration_unless_it_is_named(home, capsys, monkeypatch) -> None:
    monkeypatch.setenv("CLINVK_SERVER__PORT", "9123")
    assert run(["connect", "gemini"]) == 0
    assert "http://127.0.0.1:9123/mcp" in capsys.readouterr().out
    monkeypatch.setenv("CLINVK_SERVER_URL", "https://gateway.example/")
    assert run(["connect", "gemini"]) == 0
    assert '"https://gateway.example/mcp"' in capsys.readouterr().out


def test_both_are_written_and_removed(home, capsys) -> None:
    assert run(["connect", "claude", "--write", SERVER, "--model=codex"]) == 0
    assert files(home) == [".claude.json", ".claude/settings.json"]
    assert json.loads((home / ".claude/settings.json").read_text())["env"]["ANTHROPIC_MODEL"] == "codex"
    assert run(["connect", "claude", "--write", SERVER, "--model=codex"]) == 0
    assert f"{home}/.claude.json has it already" in capsys.readouterr().err
    assert run(["connect", "claude", "--remove"]) == 0
    assert files(home) == []
    assert run(["connect", "claude", "--remove"]) == 0
    assert f"{home}/.claude.json has nothing of this server" in capsys.readouterr().err


def test_a_project_has_files_of_its_own(home) -> None:
    assert run(["connect", "cursor", "--project", "--write", SERVER]) == 0
    assert files(home) == [".cursor/mcp.json"]


def test_where_one_file_cannot_be_edited_the_other_is_not_written_either(home, capsys) -> None:
    (home / ".claude.json").write_text('{"mcpServers": {"clinvk": {"command": "mine"}}}')
    assert run(["connect", "claude", "--write", SERVER]) == 2
    assert (
        ".claude.json is left as it is: it has mcpServers.clinvk already, for something else; rename or remove" in capsys.readouterr().err
    )
    assert files(home) == [".claude.json"]


def test_the_key_is_written_from_the_variable_and_never_shown_where_it_is_not_asked_for(home, capsys, monkeypatch) -> None:
    monkeypatch.setenv("CLINVK_API_KEY", "ck-0123456789")
    assert run(["connect", "cline", SERVER]) == 0
    assert "ck-0123456789" not in "".join(capsys.readouterr())
    assert run(["connect", "cline", "--with-key", "--write", SERVER]) == 0
    assert "ck-0123456789" not in "".join(capsys.readouterr())
    path = home / ".cline/data/settings/cline_mcp_settings.json"
    assert json.loads(path.read_text())["mcpServers"]["clinvk"]["headers"]["Authorization"] == "Bearer ck-0123456789"
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("cline --write", "Cline cannot take the key from a variable: add --with-key"),
        ("cline --write --with-key", "--with-key writes the key that is in CLINVK_API_KEY: set it"),
        ("claude --project --with-key", "--with-key is not for --project"),
        ("cline --project", "Cline has no file for this in a project: leave out --project"),
        ("gemini --as=model --write", "Gemini CLI has no file for this: Gemini CLI speaks Google's own API"),
        ("claude --model -x", "expected one argument"),
        ("claude --model=$(x)", "--model: '$(x)' is not the name of a model"),
        ("claude --write --remove", "not allowed with argument"),
        ("cluade", "did you mean 'claude'?"),
    ],
)
def test_a_wrong_command_says_what_to_change_and_writes_nothing(home, capsys, line: str, expected: str) -> None:
    try:
        code = run(["connect", *line.split(), SERVER])
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert expected in capsys.readouterr().err
    assert files(home) == []


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8080",
        "ftp://a",
        "http://",
        "http://a:x",
        "http://u:p@a",
        "http://a?b",
        "http://a/$(x)",
        "http://a/`x`",
        "http://a b",
        'http://a"',
    ],
)
def test_an_address_that_is_none_is_refused(home, capsys, url: str) -> None:
    assert run(["connect", "claude", "--write", f"--server={url}"]) == 2
    assert "the address of a server is needed, such as http://127.0.0.1:8080" in capsys.readouterr().err
    assert files(home) == []


def test_a_server_without_a_port_of_its_own_must_be_named(home, capsys, monkeypatch) -> None:
    monkeypatch.setenv("CLINVK_SERVER__PORT", "0")
    assert run(["connect", "claude"]) == 2
    assert "name one with --server" in capsys.readouterr().err


def test_a_file_that_may_not_be_written_is_told(home, capsys) -> None:
    (home / ".claude.json").mkdir()
    assert run(["connect", "claude", "--as=mcp", "--write", SERVER]) == 1
    assert f"{home}/.claude.json: Is a directory" in capsys.readouterr().err


def test_what_remains_to_be_done_names_the_model_that_was_asked_for(home, capsys) -> None:
    assert run(["connect", "codex", "--as=model", "--write", SERVER, "--model=demo"]) == 0
    assert "codex -c model_provider=clinvk -m demo;" in capsys.readouterr().err
