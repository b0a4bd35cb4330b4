"""The page of clients, from `app.clients`."""

from __future__ import annotations

from collections.abc import Iterator

from app.clients.connecting import Values, shown
from app.clients.connections import (
    CLIENTS,
    DEPTH_HEADER,
    DEPTH_VARIABLE,
    ENTRY,
    KEY_VARIABLE,
    ROLES,
    TOOL_TIMEOUT_S,
    Connection,
    Place,
    filled,
)
from app.clients.programs import PROGRAMS, Program
from docs.markdown import code, codes, table

SHOWN = {"url": "http://127.0.0.1:8080", "key": "unused", "model": "claude", "workdir": "/path/to/project"}
NOT_RUN = "the program was not run here"
LANGUAGES = {"json": "json", "toml": "toml", "yaml": "yaml"}


def connect_table() -> str:
    """What `clinvk connect` can write."""
    rows = []
    for name, client in CLIENTS.items():
        files = [_files(client.connections[purpose].place) if purpose in client.connections else "no" for purpose in ROLES]
        has_depth = DEPTH_HEADER in str([connection.entries for connection in client.connections.values()])
        references = {connection.reference for connection in client.connections.values() if connection.reference} or {""}
        rows.append([code(name), *files, code(min(references)) if min(references) else "`--with-key`", "yes" if has_depth else "no"])
    return table(["Client", "Model provider", "MCP server", "Key", code(DEPTH_HEADER)], rows)


def connect_facts() -> str:
    return "\n".join(
        [
            f"- **The key** is in the environment variable `{KEY_VARIABLE}` of the client, which the file refers to.",
            f"- **The name** of the entries is `{ENTRY}`, both of the model provider and of the MCP server (Zed's and Cline's provider have their own).",
            f"- **Long runs**: where a client has a limit for tools, it is raised to {TOOL_TIMEOUT_S // 60} minutes.",
            f"- **Depth**: the header `{DEPTH_HEADER}` passes on `{DEPTH_VARIABLE}`, which the server sets for its agents, so that agents that"
            " ask each other do not go on for ever.",
        ]
    )


def client_blocks() -> str:
    return "\n".join(line for program in PROGRAMS for line in _block(program))


def _block(program: Program) -> Iterator[str]:
    yield f"### {program.name}\n"
    tests = dict.fromkeys(program.tested_by.split(", ") if program.tested_by else ())
    if program.connect:
        client = CLIENTS[program.connect]
        for purpose, role in ROLES.items():
            if connection := client.connections.get(purpose):
                yield from _connection(role, connection)
                tests |= dict.fromkeys([connection.tested_by] if connection.tested_by else ())
            else:
                yield f"{role}: {filled(client.otherwise[purpose], **SHOWN).rstrip('.')}.\n"
    if program.settings:
        yield f"In {program.place}:\n"
        yield _code_block(filled(program.settings, **SHOWN), program.language, next(iter(tests), ""))
    if program.workdir:
        yield f"- Folder: {filled(program.workdir, **SHOWN)}."
    if program.limits:
        yield f"- {program.limits}"
    not_run = f"Not run here: {program.not_run}." if program.not_run else "Not run here."
    yield f"- {f'Run by {codes(tests)}.' if tests else not_run}\n"


def _connection(role: str, connection: Connection) -> Iterator[str]:
    yield f"{role}, in {_files(connection.place)}:\n"
    text = shown([connection], Values(SHOWN["url"], SHOWN["model"], "" if connection.reference else "YOUR_KEY"))
    yield _code_block(text.rstrip("\n"), LANGUAGES[connection.place.kind], connection.tested_by)
    if connection.then:
        yield f"{filled(connection.then, **SHOWN)}\n"


def _files(place: Place) -> str:
    usual = next(path for path in reversed(place.user) if path.startswith("~/") and not path.endswith(".jsonc"))
    return code(usual) + (f" ({code(place.project)})" if place.project else "")


def _code_block(text: str, language: str, test: str) -> str:
    return f"<!-- not run: {f'{test} runs it' if test else NOT_RUN} -->\n```{language}\n{text}\n```\n"
