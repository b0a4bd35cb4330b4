"""What is written into a client's file, and that taking it out gives back, byte for byte, what was there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from app.clients import files
from app.clients.connecting import Values, removed, written
from app.clients.connections import CLIENTS, KEY_VARIABLE, Connection
from app.clients.edit import FORMATS, MISSING, at
from app.clients.unreadable import Unreadable
from services.depth import HEADER as DEPTH_HEADER

HERE = Path(__file__).parent
VALUES = Values("http://127.0.0.1:8080", "claude")
KEY = "ck-0123456789"
COMMENT = re.compile(r"(?://|#)[^\n\r]*")

REAL = {kind: [path.read_text() for path in sorted((HERE / "real").glob(f"*.{kind}"))] for kind in ("json", "toml")}
"""As the programs of these versions write them, with the ids of the machine and the user replaced."""

TEXTS = {
    "json": [
        "",
        "\n",
        "// nothing yet",
        "{}",
        "{}\n",
        "{ }\n",
        "{\n}\n",
        '{"theme":"dark"}',
        '{"theme": "dark", "list": [1, [2.5, -3e2], {"a": null}]}\n',
        '{\n  "theme": "dark"\n}\n',
        '{\n\t"theme": "dark",\n\t"deep": {\n\t\t"x": "// no comment, { nor brace"\n\t}\n}\n',
        '{\r\n    "theme": "dark",\r\n    "mcpServers": {}\r\n}\r\n',
        '{ // why\n  "theme": "dark", // trailing\n  /* block\n  */\n}\n// end',
        '{\n  "theme": "dark",\n}\n',
        "".join(f'{{\n  "{table}": {inside}\n}}\n' for table, inside in [("mcpServers", "{}")]),
        '{\n  "mcpServers": { },\n  "servers": {\n  },\n  "mcp": {},\n  "env": {},\n  "provider": {},\n  "context_servers": {}\n}\n',
        '{\n  "mcpServers": {\n    // the first\n    "a": {"command": "a"}, // of two\n    "b": {"command": "b"}\n  }\n}',
        '{"env": {"HTTP_PROXY": "x"}, "language_models": {"openai_compatible": {"other": {"api_url": "y"}}, "ollama": {}}}',
        '\ufeff{\n  "theme": "\\u00e9\\"é漢🙂"\n}\n',
        *REAL["json"],
    ],
    "toml": [
        "",
        "\n\n",
        "# nothing yet",
        'model = "gpt-5"\n',
        'model = "gpt-5"',
        'model = "gpt-5"\r\n\r\n[tools]\r\nweb = true\r\n',
        '# why\nmodel = "gpt-5" # because\n\n[mcp_servers]\n\n[mcp_servers.a] # the first\ncommand = "a"\n\n# the end\n',
        'notify = [\n  ["a"],\n  ["b"]\n]\ntext = """\n[mcp_servers.clinvk]\n"""\n\n\n',
        "[[rules]]\n\ta = 1\n[[rules]]\n\ta = 2\n\n[model_providers.'other.one']\nname=\"x\"",
        *REAL["toml"],
    ],
    "yaml": [
        "",
        "\n",
        "# nothing yet",
        "name: Local Config\nversion: 1.0.0\nschema: v1\nmodels: []\n",
        "name: Local Config\nmodels: [ ] # none\nmcpServers:\nrules:\n  - be kind",
        "name: x\r\nmodels:\r\n  # the first\r\n  - name: a\r\n    provider: ollama # local\r\n\r\nrules: []\r\n",
        "models:\n- name: a\n  text: |\n    - name: clinvk\n    more\n- name: b\nmcpServers:\n    -   name: c\n        url: http://c\n# the end\n",
        "mcpServers:\n  - name: a\n    args: [x, y]",
        "dark-mode: true",
    ],
}
CASES = [
    pytest.param(connection, text, id=f"{name}-{purpose}-{number}")
    for name, client in CLIENTS.items()
    for purpose, connection in client.connections.items()
    for number, text in enumerate(TEXTS[connection.place.kind])
]
MCP = [pytest.param(name, client.connections["mcp"], id=name) for name, client in CLIENTS.items() if "mcp" in client.connections]
CLAUDE, CODEX = CLIENTS["claude"].connections, CLIENTS["codex"].connections


def write(path: Path, *connections: Connection, values: Values = VALUES) -> None:
    written(files.read(path, path.parent), connections, values).apply()


def remove(path: Path, *connections: Connection) -> None:
    change = removed(files.read(path, path.parent), connections)
    assert change, "there is something to remove"
    change.apply()


def parsed(connection: Connection, path: Path) -> dict[str, object]:
    return FORMATS[connection.place.kind].parse(path.read_bytes().decode().removeprefix("\ufeff"))


@pytest.mark.parametrize(("connection", "text"), CASES)
def test_what_was_there_stays_and_comes_back(tmp_path: Path, connection: Connection, text: str) -> None:
    path = tmp_path / "settings"
    path.write_bytes(text.encode())
    path.chmod(0o640)
    kind = FORMATS[connection.place.kind]
    before = kind.parse(text.removeprefix("\ufeff"))

    write(path, connection)
    after = parsed(connection, path)
    entries = VALUES.entries(connection)
    assert {entry: at(after, entry) for entry in entries} == entries
    for name, value in before.items():
        if not any(entry[0] == name for entry in entries):
            assert after[name] == value
    lines = path.read_bytes().decode()
    assert all(comment in lines for comment in COMMENT.findall(text))
    assert ("\r\n" in text) is ("\r\n" in lines)
    assert len(re.findall(r"(?<!\r)\n", lines)) == 0 or "\r\n" not in text, "the ends of lines are not mixed"

    once = path.read_bytes()
    assert written(files.read(path, tmp_path), [connection], VALUES).is_none, "a second time there is nothing to change"
    assert path.read_bytes() == once

    remove(path, connection)
    assert path.read_bytes() == text.encode()
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path], "the backup is gone"


@pytest.mark.parametrize("name", CLIENTS)
def test_a_file_that_was_not_there_is_made_and_deleted(tmp_path: Path, name: str) -> None:
    for number, connection in enumerate(CLIENTS[name].connections.values()):
        path = tmp_path / "not" / "there" / str(number)
        write(path, connection)
        assert {entry: at(parsed(connection, path), entry) for entry in VALUES.entries(connection)} == VALUES.entries(connection)
        for member, value in connection.place.preamble.items():
            assert parsed(connection, path)[member] == value or not value
        remove(path, connection)
        assert not list(path.parent.iterdir())


@pytest.mark.parametrize("name", ["codex", "opencode", "continue", "zed"])
@pytest.mark.parametrize("is_model_first", [True, False])
def test_both_of_one_file_come_and_go_in_any_order(tmp_path: Path, name: str, is_model_first: bool) -> None:
    connections = CLIENTS[name].connections
    first, second = (connections["model"], connections["mcp"])[:: 1 if is_model_first else -1]
    for text in TEXTS[first.place.kind]:
        path = tmp_path / "settings"
        path.write_bytes(text.encode())
        write(path, first)
        write(path, second)
        remove(path, first)
        assert at(parsed(second, path), second.mark) is not MISSING
        remove(path, second)
        assert path.read_bytes() == text.encode()


def test_what_the_client_has_changed_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / ".claude.json"
    path.write_text('{\n  "a": 1,\n  "mcpServers": {}\n}')
    write(path, CLAUDE["mcp"])
    path.write_text(json.dumps({"numStartups": 7, **json.loads(path.read_text())}))
    remove(path, CLAUDE["mcp"])
    assert parsed(CLAUDE["mcp"], path) == {"numStartups": 7, "a": 1, "mcpServers": {}}


def test_tables_that_codex_has_added_below_ours_go_too(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('model = "gpt-5"\n')
    write(path, CODEX["mcp"])
    with path.open("a") as file:
        file.write('\n[mcp_servers.clinvk.tools.prompt]\napproval_mode = "approve"\n\n[projects."/x"]\ntrust_level = "trusted"\n')
    remove(path, CODEX["mcp"])
    assert path.read_text() == 'model = "gpt-5"\n\n[projects."/x"]\ntrust_level = "trusted"\n'


@pytest.mark.parametrize(("name", "connection"), MCP)
def test_another_server_takes_the_place_of_the_first(tmp_path: Path, name: str, connection: Connection) -> None:
    path = tmp_path / "settings"
    text = TEXTS[connection.place.kind][-1]
    path.write_text(text)
    write(path, connection)
    write(path, connection, values=Values("https://gateway.example:8443/below", "codex", KEY))
    assert at(parsed(connection, path), connection.mark) == "https://gateway.example:8443/below/mcp"
    remove(path, connection)
    assert path.read_text() == text


@pytest.mark.parametrize("name", CLIENTS)
def test_the_key_itself_is_written_only_where_asked_and_then_for_the_owner_alone(tmp_path: Path, name: str) -> None:
    for connection in CLIENTS[name].connections.values():
        path = tmp_path / "settings"
        text = TEXTS[connection.place.kind][-1]
        path.write_text(text)
        path.chmod(0o644)
        write(path, connection)
        assert KEY not in path.read_text()
        assert path.stat().st_mode & 0o777 == 0o644
        write(path, connection, values=Values(VALUES.url, VALUES.model, KEY))
        assert (KEY in path.read_text()) is (name != "zed" or "context_servers" in path.read_text())
        assert path.stat().st_mode & 0o777 == 0o600
        write(path, connection)
        assert KEY not in path.read_text()
        remove(path, connection)
        assert (path.read_text(), path.stat().st_mode & 0o777) == (text, 0o644)


@pytest.mark.parametrize(
    ("connection", "text", "why"),
    [
        (CLAUDE["mcp"], '{"mcpServers": {"clinvk": {"command": "mine"}}}', "it has mcpServers.clinvk already, for something else; rename"),
        (CLAUDE["model"], '{"env": {"ANTHROPIC_BASE_URL": "http://0.0.0.0:4000/anthropic"}}', "it has env.ANTHROPIC_BASE_URL already"),
        (CLAUDE["model"], '{"apiKeyHelper": "my-helper"}', "it has apiKeyHelper already"),
        (CLAUDE["mcp"], '{"mcpServers": []}', "mcpServers, line 1, is not an object"),
        (CLAUDE["mcp"], '{"mcpServers": {}, "mcpServers": {}}', "has the same key twice"),
        (CLAUDE["mcp"], '{\n  "a": 1\n  "b": 2\n}', 'line 3 is not JSON: unexpected "b"'),
        (CLAUDE["mcp"], '{"a": tru}', "line 1 is not JSON: unexpected tru"),
        (CLAUDE["mcp"], '{"a": "open}', "line 1 is not JSON"),
        (CLAUDE["mcp"], "[" * 300, "more than 200 levels"),
        (CLAUDE["mcp"], "[1]", "the file is not a JSON object"),
        (CODEX["mcp"], "model = \n", "not TOML"),
        (CODEX["mcp"], 'mcp_servers = {a = {command = "a"}}\n', "mcp_servers.clinvk is written in a way that cannot be edited"),
        (CODEX["mcp"], '[mcp_servers.clinvk]\ncommand = "mine"\n', "it has mcp_servers.clinvk already"),
        (CLIENTS["continue"].connections["mcp"], "mcpServers: {a: b}\n", "mcpServers, line 1, is not a list"),
        (
            CLIENTS["continue"].connections["mcp"],
            "mcpServers: [{name: a}]\n",
            "mcpServers, line 1, is not a list with an item on each line",
        ),
        (CLIENTS["continue"].connections["mcp"], "{name: a}\n", "the file is in braces"),
        (CLIENTS["continue"].connections["mcp"], "a: [\n", "not YAML"),
        (CLIENTS["aider"].connections["model"], "model: gpt-5\n", "it has model already"),
    ],
)
def test_a_file_that_cannot_be_edited_safely_is_left_alone(tmp_path: Path, connection: Connection, text: str, why: str) -> None:
    path = tmp_path / "settings"
    path.write_text(text)
    with pytest.raises(Unreadable) as error:
        write(path, connection)
    assert why in str(error.value)
    assert [path.read_text(), *tmp_path.iterdir()] == [text, path]


def test_an_entry_of_that_name_that_is_not_ours_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "settings"
    path.write_text('{"mcpServers": {"clinvk": {"command": "mine"}}}')
    assert removed(files.read(path, tmp_path), [CLAUDE["mcp"]]) is None


@pytest.mark.parametrize(("name", "connection"), MCP)
def test_tools_get_the_key_from_a_variable_and_tell_how_deep_they_are(name: str, connection: Connection) -> None:
    text = str(VALUES.entries(connection))
    assert (KEY_VARIABLE in text) is bool(connection.reference)
    assert (DEPTH_HEADER in text) is (name in ("claude", "codex", "gemini", "opencode"))
    assert DEPTH_HEADER in text or "the depth header is left out" in connection.then
    assert not KEY_VARIABLE.startswith("CLINVK_")


def test_every_purpose_has_a_connection_or_a_reason() -> None:
    for client in CLIENTS.values():
        assert client.connections.keys() | client.otherwise.keys() == {"model", "mcp"}
        assert not client.connections.keys() & client.otherwise.keys()
