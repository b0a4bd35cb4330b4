"""The tools, as data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from flask import Response
from marshmallow import Schema, ValidationError

from blueprints.mcp import calls
from blueprints.mcp.calls import Arguments, Call
from blueprints.mcp.schemas import (
    CompareArguments,
    NoArguments,
    ParallelArguments,
    PromptArguments,
    RunArguments,
    WaitArguments,
    to_json_schema,
)
from blueprints.validation import invalid_request

INSTRUCTIONS = (
    "Other coding agents on this machine, each with its own models and tools. `prompt` asks one and keeps a session that you can continue; "
    "`compare` asks several the same; `parallel` gives each a task of its own. For work of more than a few minutes use `submit`, then "
    "`wait` until it has ended. `list_backends` names the agents."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """``is_read_only``: it changes nothing; clients may then call it unasked. ``runs_cli``: it counts for the rate limit."""

    name: str
    title: str
    description: str
    schema: Schema
    call: Callable[[Arguments, Call], Response]
    runs_cli: bool = False
    is_read_only: bool = False

    def listed(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "inputSchema": to_json_schema(self.schema),
            "annotations": {"title": self.title, "readOnlyHint": self.is_read_only, "openWorldHint": self.runs_cli},
        }

    def checked(self, arguments: Any) -> Arguments:
        """Raises InvalidRequest that names every field that is wrong."""
        try:
            loaded: dict[str, Any] = self.schema.load(arguments)
        except ValidationError as error:
            raise invalid_request(error.messages, self.schema) from None
        return loaded


TOOLS = {
    tool.name: tool
    for tool in (
        Tool(
            name="prompt",
            title="Ask a coding agent",
            description="Give one prompt to another coding agent and wait for its answer. With session_id it continues an earlier "
            "conversation, which it remembers.",
            schema=PromptArguments(),
            call=calls.prompt,
            runs_cli=True,
        ),
        Tool(
            name="compare",
            title="Ask several agents the same",
            description="Give one prompt to several coding agents at once, for a second opinion.",
            schema=CompareArguments(),
            call=calls.compare,
            runs_cli=True,
        ),
        Tool(
            name="parallel",
            title="Several tasks at once",
            description="Run several prompts at once, each on the agent that it names.",
            schema=ParallelArguments(),
            call=calls.parallel,
            runs_cli=True,
        ),
        Tool(
            name="list_backends",
            title="Which agents there are",
            description="List the coding agents of this server, with their models and whether they are available.",
            schema=NoArguments(),
            call=calls.list_backends,
            is_read_only=True,
        ),
        Tool(
            name="submit",
            title="Start work in the background",
            description="Like prompt, but returns a run_id at once; the agent goes on without you. Get its answer with wait.",
            schema=PromptArguments(),
            call=calls.submit_run,
            runs_cli=True,
        ),
        Tool(
            name="wait",
            title="Wait for a background run",
            description="Wait until a run has ended and return its answer, or its status if the time is over first; then call it again.",
            schema=WaitArguments(),
            call=calls.wait,
            is_read_only=True,
        ),
        Tool(
            name="cancel",
            title="Cancel a run",
            description="Stop a run that was started with submit.",
            schema=RunArguments(),
            call=calls.cancel,
        ),
    )
}


@lru_cache(1)
def listed_tools() -> list[dict[str, Any]]:
    return [tool.listed() for tool in TOOLS.values()]
