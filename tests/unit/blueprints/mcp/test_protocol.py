from __future__ import annotations

from typing import Any

import pytest
from mcp.shared.inbound import InboundLadderRejection, classify_inbound_request, encode_header_value

from blueprints.mcp import protocol
from blueprints.mcp.protocol import REVISIONS, RpcError, error_answer, id_of, to_request

STATELESS = REVISIONS[0]
META = {protocol.VERSION_KEY: STATELESS, protocol.CAPABILITIES_KEY: {}}
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "prompt", "_meta": META}}
HEAD = {"mcp-protocol-version": STATELESS, "mcp-method": "tools/call", "mcp-name": "prompt"}


def header(values: dict[str, str]) -> Any:
    return lambda name: values.get(name.lower())


def code_of(sent: Any, values: dict[str, str] | None = None) -> int | None:
    try:
        to_request(sent, header(values or {}), streams=False)
    except RpcError as error:
        return error.code
    return None


def without(name: str) -> dict[str, str]:
    return {key: value for key, value in HEAD.items() if key != name}


def with_meta(**meta: Any) -> dict[str, Any]:
    return {**CALL, "params": {"name": "prompt", "_meta": meta}}


STATELESS_CASES = {
    "as it should be": (CALL, HEAD),
    "no version in the header": (CALL, without("mcp-protocol-version")),
    "an older version in the body": (with_meta(**META | {protocol.VERSION_KEY: "2025-11-25"}), HEAD),
    "no method in the header": (CALL, without("mcp-method")),
    "another method in the header": (CALL, HEAD | {"mcp-method": "tools/list"}),
    "no name in the header": (CALL, without("mcp-name")),
    "another name in the header": (CALL, HEAD | {"mcp-name": "wait"}),
    "a name that is encoded": (CALL, HEAD | {"mcp-name": "=?base64?cHJvbXB0?="}),
    "a name that is encoded wrongly": (CALL, HEAD | {"mcp-name": "=?base64?!?="}),
    "a header twice": (CALL, HEAD | {"mcp-method": "tools/call, tools/call"}),
    "no envelope": ({**CALL, "params": {"name": "prompt"}}, HEAD),
    "no capabilities": (with_meta(**{protocol.VERSION_KEY: STATELESS}), HEAD),
    "a version that is a number": (with_meta(**META | {protocol.VERSION_KEY: 3}), HEAD),
}


@pytest.mark.parametrize("case", STATELESS_CASES)
def test_a_stateless_request_is_checked_as_the_official_server_does(case: str) -> None:
    sent, head = STATELESS_CASES[case]
    verdict = classify_inbound_request(sent, headers=head)
    assert code_of(sent, head) == (verdict.code if isinstance(verdict, InboundLadderRejection) else None)


@pytest.mark.parametrize("name", ["plain", "größe", " edge", "=?base64?cHJvbXB0?="])
def test_names_are_decoded_as_the_official_client_encodes_them(name: str) -> None:
    sent = {**CALL, "params": {"name": name, "_meta": META}}
    assert code_of(sent, HEAD | {"mcp-name": encode_header_value(name)}) is None


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ([], protocol.INVALID_REQUEST),
        ("ping", protocol.INVALID_REQUEST),
        ({"id": 1, "method": "ping"}, protocol.INVALID_REQUEST),
        ({"jsonrpc": "1.0", "id": 1, "method": "ping"}, protocol.INVALID_REQUEST),
        ({"jsonrpc": "2.0", "id": 1}, protocol.INVALID_REQUEST),
        ({"jsonrpc": "2.0", "id": 1, "method": 5}, protocol.INVALID_REQUEST),
        ({"jsonrpc": "2.0", "id": None, "method": "ping"}, protocol.INVALID_REQUEST),
        ({"jsonrpc": "2.0", "id": True, "method": "ping"}, protocol.INVALID_REQUEST),
        ({"jsonrpc": "2.0", "id": 1.5, "method": "ping"}, protocol.INVALID_REQUEST),
        ({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": []}, protocol.INVALID_PARAMS),
    ],
)
def test_what_is_no_request_is_refused(sent: Any, code: int) -> None:
    assert code_of(sent) == code


@pytest.mark.parametrize("revision", REVISIONS[1:])
def test_an_older_revision_is_named_by_its_header_or_not_at_all(revision: str) -> None:
    sent = {"jsonrpc": "2.0", "id": "a", "method": "tools/list"}
    for head in ({"mcp-protocol-version": revision}, {}):
        found = to_request(sent, header(head), streams=True)
        assert found is not None
        assert (found.id, found.is_stateless, found.params) == ("a", False, {})


def test_an_unknown_revision_is_answered_with_those_that_are_known() -> None:
    with pytest.raises(RpcError) as caught:
        to_request(CALL, header({"mcp-protocol-version": "2031-01-01"}), streams=False)
    assert caught.value.code == protocol.UNSUPPORTED_VERSION
    assert error_answer(1, caught.value)["error"]["data"] == {"supported": list(REVISIONS), "requested": "2031-01-01"}


@pytest.mark.parametrize(
    "sent",
    [
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 1, "result": {}},
        {"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "no"}},
    ],
)
def test_notifications_and_responses_get_no_answer(sent: Any) -> None:
    assert to_request(sent, header({}), streams=False) is None


def test_a_stateless_client_sends_no_responses() -> None:
    assert code_of({"jsonrpc": "2.0", "id": 1, "result": {}}, HEAD) == protocol.INVALID_REQUEST


@pytest.mark.parametrize(
    ("sent", "id"), [({"id": 3}, 3), ({"id": "x"}, "x"), ({"id": 1.5}, None), ({"id": True}, None), ([], None), ({}, None)]
)
def test_an_answer_has_the_id_of_whatever_was_sent_if_it_is_one(sent: Any, id: Any) -> None:
    assert id_of(sent) == id


@pytest.mark.parametrize(
    ("code", "stateless", "older"),
    [
        (protocol.PARSE_ERROR, 400, 400),
        (protocol.INVALID_REQUEST, 400, 400),
        (protocol.UNSUPPORTED_VERSION, 400, 400),
        (protocol.HEADER_MISMATCH, 400, 400),
        (protocol.INVALID_PARAMS, 400, 200),
        (protocol.METHOD_NOT_FOUND, 404, 200),
    ],
)
def test_the_status_of_an_error(code: int, stateless: int, older: int) -> None:
    error = RpcError(code, "no")
    assert (error.status(is_stateless=True), error.status(is_stateless=False)) == (stateless, older)
