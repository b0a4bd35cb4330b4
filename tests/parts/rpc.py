"""A client that sends MCP messages as they are, and checks every message that it gets against the schema of its revision."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from mcp_types import methods
from mcp_types.jsonrpc import JSONRPCError, JSONRPCNotification, JSONRPCResponse, jsonrpc_message_adapter

from .client import Answer, Client, Stream

STATELESS = "2026-07-28"
HANDSHAKE = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
NO_HEADER = ""
"""As Gemini CLI does: to be understood as 2025-03-26."""
JSON_ALONE, STREAM = "application/json", "application/json, text/event-stream"
META = "io.modelcontextprotocol/"


@dataclass(frozen=True)
class Speaker:
    client: Client
    revision: str = HANDSHAKE[0]
    headers: dict[str, str] = field(default_factory=dict)
    """Sent with every message."""

    @property
    def schema(self) -> str:
        return self.revision or "2025-03-26"

    @property
    def is_stateless(self) -> bool:
        return self.revision == STATELESS

    def message(self, method: str, params: dict[str, Any] | None = None, id: Any = 1) -> dict[str, Any]:
        if self.is_stateless:
            own = {f"{META}protocolVersion": self.revision, f"{META}clientCapabilities": {}}
            params = {**(params or {}), "_meta": own | (params or {}).get("_meta", {})}
        sent = {"jsonrpc": "2.0", "id": id, "method": method, **({} if params is None else {"params": params})}
        return {name: value for name, value in sent.items() if name != "id" or value is not None}

    def head(self, message: Any, accept: str = JSON_ALONE) -> dict[str, str]:
        """The headers of a message."""
        sent = {"Accept": accept, **self.headers}
        if self.revision:
            sent["MCP-Protocol-Version"] = self.revision
        if self.is_stateless and isinstance(message, dict):
            sent["Mcp-Method"] = message["method"]
            if message["method"] == "tools/call":
                sent["Mcp-Name"] = message["params"]["name"]
        return sent

    def post(self, message: Any, accept: str = JSON_ALONE, **headers: str) -> Answer:
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post("/mcp", message, headers=self.head(message, accept) | more)

    def ask(self, method: str, params: dict[str, Any] | None = None, *, id: Any = 1) -> dict[str, Any]:
        """The result of a request."""
        answer = self.post(self.message(method, params, id))
        assert answer.status == 200, answer.body
        return self.result(method, answer.json, id)

    def fail(self, method: str, params: dict[str, Any] | None = None) -> tuple[int, int]:
        """The HTTP status and the code of a request's error."""
        answer = self.post(self.message(method, params))
        return answer.status, error_code(answer)

    def call(self, name: str, arguments: dict[str, Any] | None = None, *, id: Any = 1) -> dict[str, Any]:
        """The result of a tool."""
        return self.ask("tools/call", {"name": name, "arguments": arguments or {}}, id=id)

    def open(self, name: str, arguments: dict[str, Any], *, token: int | str | None = 7, id: Any = 1) -> Stream:
        """The stream of a tool's call."""
        meta = {} if token is None else {"_meta": {"progressToken": token}}
        message = self.message("tools/call", {"name": name, "arguments": arguments, **meta}, id)
        return self.client.open("POST", "/mcp", message, self.head(message, STREAM))

    def note(self, method: str, params: dict[str, Any]) -> int:
        """The status of the answer to a notification."""
        return self.post(self.message(method, params, None)).status

    def messages(self, stream: Stream) -> Iterator[dict[str, Any]]:
        """The messages of a stream: notifications, and at last the answer."""
        for event in stream.events():
            message = jsonrpc_message_adapter.validate_json(event.data, by_name=False)
            if isinstance(message, JSONRPCNotification):
                methods.parse_server_notification(message.method, self.schema, message.params)
            yield event.json

    def result(self, method: str, answer: dict[str, Any], id: Any = 1) -> dict[str, Any]:
        """The result in an answer, which must be whole."""
        message = jsonrpc_message_adapter.validate_python(answer, by_name=False)
        assert isinstance(message, JSONRPCResponse), answer
        assert message.id == id
        methods.validate_server_result(method, self.schema, message.result)
        return message.result


def error_code(answer: Answer) -> int:
    message = jsonrpc_message_adapter.validate_json(answer.body, by_name=False)
    assert isinstance(message, JSONRPCError), answer.body
    return message.error.code


def told(result: dict[str, Any]) -> dict[str, Any]:
    """What a tool told, whether it failed or not."""
    found: dict[str, Any] = result["structuredContent"]
    return found


def failure(result: dict[str, Any]) -> str:
    """The text of a tool's failure."""
    assert result["isError"] is True, result
    return str(result["content"][0]["text"])
