"""Routes, error codes and what the compatible surfaces ignore: from the OpenAPI document and the translators' own lists."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from tempfile import TemporaryDirectory
from typing import Any

from app.api.aliases import ALIASES
from app.api.errors import STATUS
from app.api.openapi import EVERY_ROUTE
from app.api.surfaces import SURFACES, surface_of
from app.config.schema import Settings
from app.factory import create_app
from blueprints.anthropic.errors import TYPES as ANTHROPIC_TYPES
from blueprints.anthropic.translate import SAMPLING
from blueprints.mcp.schemas import to_json_schema
from blueprints.mcp.tools import TOOLS
from blueprints.openai.chat import request as chat_request
from blueprints.openai.errors import to_error
from blueprints.openai.responses import request as response_request
from docs.markdown import code, codes, table
from services.access.key_ring import KeyRing

EVERYWHERE = {str(STATUS[name]) for name in (*EVERY_ROUTE, "authentication_error")}
"""Statuses that a table of routes does not repeat in every line."""


@cache
def document() -> dict[str, Any]:
    with TemporaryDirectory() as home:
        answer: dict[str, Any] = (
            create_app(Settings(home=home), keys=KeyRing()).test_client().get("/openapi.json", buffered=True).get_json()
        )
    return answer


def routes_below(prefix: str) -> str:
    """The routes of the surface with this prefix."""
    rows = []
    for path, operations in document()["paths"].items():
        if surface_of(path).prefix != prefix:
            continue
        for method, operation in operations.items():
            if isinstance(operation, dict) and "responses" in operation:
                said = str(operation.get("summary", ""))
                rows.append((code(f"{method.upper()} {path}"), said, " ".join(sorted(set(operation["responses"]) - EVERYWHERE))))
    everywhere = ", ".join(sorted(EVERYWHERE))
    return f"{table(('Route', 'What', 'Answers'), rows)}\nAny of them may also answer {everywhere}: see [troubleshooting](troubleshooting.md).\n"


def mcp_tools() -> str:
    """The tools of the MCP server, with the fields of each."""
    rows = []
    for tool in TOOLS.values():
        schema = to_json_schema(tool.schema)
        fields = [code(name if name in schema.get("required", ()) else f"{name}?") for name in schema["properties"]]
        rows.append((code(tool.name), tool.description, ", ".join(fields)))
    return table(("Tool", "Description for the model", "Fields"), rows)


def aliases() -> str:
    rows = [
        (code(f"{alias.path}…"), code(f"{alias.target}…"), "with `anthropic-version`" if alias.needs_version else "") for alias in ALIASES
    ]
    return table(("Path", "Stands for", ""), rows)


def error_codes() -> str:
    rows = []
    anthropic = next(surface for surface in SURFACES if surface.name == "anthropic")
    for name, status in STATUS.items():
        openai = to_error(name, "", {})["error"]
        own = (anthropic.statuses or {}).get(name, status)
        told = ANTHROPIC_TYPES.get(name, "invalid_request_error")
        rows.append(
            (
                code(name),
                str(status),
                f"{code(openai['type'])}, {code(openai['code'])}",
                code(told) + (f" ({own})" if own != status else ""),
            )
        )
    return table(("Code", "HTTP", "OpenAI: type, code", "Anthropic: type"), rows)


def _listed(names: Iterable[str]) -> str:
    return codes(sorted(names)) + "\n"


def chat_ignored() -> str:
    return _listed(chat_request.IGNORED)


def response_ignored() -> str:
    return _listed(response_request.IGNORED)


def response_refused() -> str:
    return table(("Field", "Instead"), [(code(name), reason) for name, reason in response_request.REFUSED.items()])


def anthropic_ignored() -> str:
    return _listed(SAMPLING)
