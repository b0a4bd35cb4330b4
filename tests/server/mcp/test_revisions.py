"""Every revision of the protocol, message by message; each is checked against the protocol's own schema (`tests.parts.rpc`)."""

from __future__ import annotations

import json

import pytest

from blueprints.json_limits import DEPTH_LIMIT
from blueprints.mcp.protocol import BATCH_LIMIT
from tests.parts.house import House
from tests.parts.rpc import HANDSHAKE, NO_HEADER, STATELESS, STREAM, Speaker, error_code, told

TOOLS = ["prompt", "compare", "parallel", "list_backends", "submit", "wait", "cancel"]
INITIALIZE = {"capabilities": {}, "clientInfo": {"name": "tests", "version": "1"}}
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
NOTE = {"jsonrpc": "2.0", "method": "notifications/initialized"}


@pytest.mark.parametrize("wanted", [*HANDSHAKE, STATELESS, "1999-01-01"])
def test_a_handshake_agrees_on_what_both_speak(house: House, wanted: str) -> None:
    result = Speaker(house.server.client, NO_HEADER).ask("initialize", {**INITIALIZE, "protocolVersion": wanted})
    assert result["protocolVersion"] == (wanted if wanted in HANDSHAKE else HANDSHAKE[0])
    assert result["serverInfo"]["name"] == "clinvk"
    assert "tools" in result["capabilities"]


def test_every_handshake_gives_another_session(client: Speaker) -> None:
    initialize = client.message("initialize", {**INITIALIZE, "protocolVersion": HANDSHAKE[0]})
    first, second = (client.post(initialize).headers["Mcp-Session-Id"] for _ in range(2))
    assert first != second
    assert client.post(client.message("ping"), Mcp_Session_Id="made-up").status == 200  # no state is behind it


def test_a_stateless_client_discovers_the_server(house: House) -> None:
    result = Speaker(house.server.client, STATELESS).ask("server/discover")
    assert result["supportedVersions"] == [STATELESS, *HANDSHAKE]
    assert result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "clinvk"
    assert result["instructions"]


def test_the_tools_are_those_of_the_contract(speaker: Speaker) -> None:
    tools = {tool["name"]: tool["inputSchema"] for tool in speaker.ask("tools/list")["tools"]}
    assert list(tools) == TOOLS
    prompt = {"prompt", "backend", "model", "workdir", "session_id", "approval_mode", "timeout_secs"}
    fields = {name: set(schema["properties"]) for name, schema in tools.items()}
    assert fields["prompt"] == fields["submit"] == prompt
    assert set(tools["parallel"]["properties"]["tasks"]["items"]["properties"]) == prompt - {"session_id"}
    assert (fields["compare"], fields["wait"]) == ({"prompt", "backends", "workdir"}, {"run_id", "timeout_secs"})
    assert (fields["cancel"], fields["list_backends"]) == ({"run_id"}, set())
    assert tools["prompt"]["properties"]["approval_mode"]["enum"] == ["default", "auto", "none"]
    assert all(schema["additionalProperties"] is False for schema in tools.values())


def test_a_tool_is_called(speaker: Speaker) -> None:
    result = speaker.call("prompt", {"backend": "demo", "prompt": "Say hello"}, id="a text")
    assert result["isError"] is False
    assert set(told(result)) == {"output", "session_id", "backend", "error", "run_id"}
    assert told(result)["output"] == result["content"][0]["text"]


def test_a_tool_is_called_with_progress(speaker: Speaker) -> None:
    with speaker.open("prompt", {"backend": "demo", "prompt": "Say hello [[demo tokens=20 delay_ms=100]]"}, token="tok") as stream:
        assert stream.headers["Content-Type"] == "text/event-stream"
        *notes, answer = speaker.messages(stream)
    assert told(speaker.result("tools/call", answer))["output"].startswith("word1 word2")
    numbers = [note["params"]["progress"] for note in notes]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 2
    assert {note["params"]["progressToken"] for note in notes} == {"tok"}


def test_no_progress_is_sent_without_a_token(speaker: Speaker) -> None:
    with speaker.open("prompt", {"backend": "demo", "prompt": "Say hello [[demo tokens=5 delay_ms=100]]"}, token=None) as stream:
        (answer,) = speaker.messages(stream)
    assert told(speaker.result("tools/call", answer))["output"].startswith("word1 word2")


def test_whoever_takes_no_stream_gets_none(speaker: Speaker) -> None:
    message = speaker.message("tools/call", {"name": "list_backends"})
    assert speaker.post(message, STREAM).headers["Content-Type"] == "application/json"
    answer = speaker.post(speaker.message("tools/call", {"name": "prompt", "arguments": {"prompt": "hi"}}))
    assert answer.headers["Content-Type"] == "application/json"


def test_a_request_that_is_sent_again_is_answered_again(speaker: Speaker) -> None:
    """No session is behind it, so the same id is no error; and an idempotency key is none of this protocol."""
    message = speaker.message("tools/call", {"name": "prompt", "arguments": {"backend": "demo", "prompt": "hi"}})
    first, second = (told(speaker.post(message, Idempotency_Key="k").json["result"]) for _ in range(2))
    assert first["output"] == second["output"]
    assert first["run_id"] != second["run_id"]


@pytest.mark.parametrize("name", ["notifications/initialized", "notifications/cancelled", "notifications/unheard-of"])
def test_notifications_are_taken_note_of(speaker: Speaker, name: str) -> None:
    assert speaker.note(name, {"requestId": "no such request"}) == 202


def test_errors_have_the_protocols_codes(speaker: Speaker) -> None:
    known = 400 if speaker.is_stateless else 200
    assert speaker.fail("tools/call", {"name": "no_such_tool"}) == (known, -32602)
    assert speaker.fail("tools/call", {"name": "prompt", "arguments": []}) == (known, -32602)
    assert speaker.fail("tools/list", {"cursor": "2"}) == (known, -32602)
    assert speaker.fail("resources/list") == (404 if speaker.is_stateless else 200, -32601)
    assert speaker.fail("ping" if speaker.is_stateless else "server/discover") == (404 if speaker.is_stateless else 200, -32601)


@pytest.mark.parametrize("body", [b"", b"{", b'{"jsonrpc": "2.0"', b"\xff"])
def test_what_is_not_json_is_said_to_be_none(speaker: Speaker, body: bytes) -> None:
    answer = speaker.client.post("/mcp", body)
    assert (answer.status, error_code(answer)) == (400, -32700)


@pytest.mark.parametrize("body", [b"[]", b"5", b'"ping"', b'{"id": 1, "method": "ping"}', b"[" * (DEPTH_LIMIT + 1)])
def test_what_is_no_message_is_said_to_be_none(house: House, body: bytes) -> None:
    answer = Speaker(house.server.client, NO_HEADER).post(body)
    assert (answer.status, error_code(answer)) == (400, -32600)


def test_an_oversized_message_is_refused(house: House) -> None:
    answer = house.server.client.post("/mcp", b'"' + b"x" * (11 << 20) + b'"')
    assert (answer.status, error_code(answer)) == (413, -32600)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_there_is_no_stream_of_the_server_s_own_and_no_session_to_end(house: House, method: str) -> None:
    answer = house.server.client.ask(method, "/mcp")
    assert (answer.status, answer.headers["Allow"]) == (405, "OPTIONS, POST")


@pytest.mark.parametrize("revision", [NO_HEADER, "2025-03-26"])
def test_a_batch_is_answered_in_the_revision_that_has_them(house: House, revision: str) -> None:
    speaker = Speaker(house.server.client, revision)
    call = speaker.message("tools/call", {"name": "prompt", "arguments": {"backend": "demo", "prompt": "hi"}}, "c")
    found = speaker.post([PING, NOTE, call, {"jsonrpc": "2.0", "id": 3, "method": "no/such"}, 5], STREAM).json
    assert speaker.result("ping", found[0]) == {}
    assert "hi" in told(speaker.result("tools/call", found[1], "c"))["output"]
    assert [one["error"]["code"] for one in found[2:]] == [-32601, -32600]
    assert [one["id"] for one in found[2:]] == [3, None]


def test_a_batch_of_notifications_needs_no_answer(house: House) -> None:
    answer = Speaker(house.server.client, NO_HEADER).post([NOTE, NOTE])
    assert (answer.status, answer.body) == (202, b"")


def test_a_batch_has_a_limit(house: House) -> None:
    speaker = Speaker(house.server.client, NO_HEADER)
    assert len(speaker.post([PING] * BATCH_LIMIT).json) == BATCH_LIMIT
    answer = speaker.post([PING] * (BATCH_LIMIT + 1))
    assert (answer.status, error_code(answer)) == (400, -32600)


@pytest.mark.parametrize("revision", [STATELESS, "2025-11-25", "2025-06-18", "2024-11-05"])
def test_other_revisions_have_no_batches(house: House, revision: str) -> None:
    answer = house.server.client.post("/mcp", [PING], headers={"MCP-Protocol-Version": revision})
    assert (answer.status, error_code(answer)) == (400, -32600)


def test_a_stream_that_is_silent_has_comments(house: House) -> None:
    """The house's keep-alive interval is short."""
    speaker = Speaker(house.server.client)
    with speaker.open("prompt", {"backend": "demo", "prompt": "x [[demo tokens=2 delay_ms=500]]"}, token=None) as stream:
        text = stream.response.read().decode()
    assert text.startswith(": keep-alive\n\n")
    assert json.loads(text.rpartition("data: ")[2])["result"]["isError"] is False


def test_a_stateless_request_whose_headers_differ_is_refused(house: House) -> None:
    speaker = Speaker(house.server.client, STATELESS)
    answer = speaker.post(speaker.message("tools/list"), Mcp_Method="tools/call")
    assert (answer.status, error_code(answer), answer.json["id"]) == (400, -32020, 1)


def test_an_unknown_revision_is_told_the_known_ones(house: House) -> None:
    answer = house.server.client.post("/mcp", PING, headers={"MCP-Protocol-Version": "2099-01-01"})
    assert (answer.status, error_code(answer)) == (400, -32022)
    assert answer.json["error"]["data"]["supported"] == [STATELESS, *HANDSHAKE]
