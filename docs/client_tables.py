"""The page of clients, from `app.client_settings`."""

from __future__ import annotations

from collections.abc import Iterator

from app.client_settings import CLIENTS, Client, filled
from docs.markdown import code

SHOWN = {"url": "http://127.0.0.1:8080", "key": "unused", "model": "claude", "workdir": "/path/to/project"}


def client_blocks() -> str:
    return "\n".join(line for client in CLIENTS for line in _block(client))


def _block(client: Client) -> Iterator[str]:
    yield f"### {client.name}\n"
    yield f"In {client.place}:\n" if client.place != "nowhere" else "\n"
    reason = f"{client.tested_by.partition(',')[0]} runs it" if client.tested_by else "the program was not run here"
    yield f"<!-- not run: {reason} -->\n```{client.language}\n{filled(client.settings, **SHOWN)}\n```\n"
    if client.workdir:
        yield f"- Folder: {filled(client.workdir, **SHOWN)}."
    if client.limits:
        yield f"- {client.limits}"
    tests = ", ".join(code(name) for name in client.tested_by.split(", ")) if client.tested_by else ""
    not_run = f"Not run here: {client.not_run}." if client.not_run else "Not run here."
    yield f"- {f'Run by {tests}.' if tests else not_run}\n"
