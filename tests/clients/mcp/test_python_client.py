"""The official Python client in both eras of the protocol: with a handshake (`legacy`), and stateless."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

from tests.conftest import ServerFactory
from tests.parts.clis import FakeCli, do
from tests.parts.house import House
from tests.parts.processes import alive, eventually

GONE_S = 3.0
ERAS = {"legacy": "2025-11-25", "auto": "2026-07-28"}
TOOLS = ["prompt", "compare", "parallel", "list_backends", "submit", "wait", "cancel"]

era = pytest.mark.parametrize("mode", ERAS)


def with_client(url: str, mode: str, use: Callable[[Client], Awaitable[Any]], key: str = "any") -> Any:
    """The result of ``use`` with a connected client."""

    async def connected() -> Any:
        async with (
            httpx2.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=60) as http,
            Client(streamable_http_client(f"{url}/mcp", http_client=http), mode=mode) as client,
        ):
            return await use(client)

    return asyncio.run(connected())


def told(result: Any) -> dict[str, Any]:
    found: dict[str, Any] = result.structured_content
    return found


@era
def test_it_agrees_on_a_revision_and_lists_the_tools(house: House, mode: str) -> None:
    async def use(client: Client) -> tuple[str, list[str], str | None]:
        return client.protocol_version, [tool.name for tool in (await client.list_tools()).tools], client.instructions

    version, names, instructions = with_client(house.url, mode, use)
    assert (version, names) == (ERAS[mode], TOOLS)
    assert instructions


@era
def test_a_prompt_has_progress_and_a_conversation_goes_on(house: House, mode: str) -> None:
    notes: list[tuple[float, str | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        notes.append((progress, message))

    async def use(client: Client) -> tuple[Any, Any]:
        arguments = {"backend": "demo", "prompt": "Say hello [[demo tokens=20 delay_ms=100]]"}
        first = await client.call_tool("prompt", arguments, progress_callback=note)
        return first, await client.call_tool("prompt", {"prompt": "And?", "session_id": told(first)["session_id"]})

    first, second = with_client(house.url, mode, use)
    assert not first.is_error
    assert told(second)["session_id"] == told(first)["session_id"]
    assert [number for number, _ in notes] == list(range(1, len(notes) + 1))
    assert len(notes) >= 2
    assert notes[-1][1] in told(first)["output"]


@era
def test_several_are_asked_at_once(house: House, mode: str) -> None:
    async def use(client: Client) -> tuple[Any, Any]:
        compared = await client.call_tool("compare", {"backends": ["demo", "echo"], "prompt": "hi"})
        return compared, await client.call_tool(
            "parallel", {"tasks": [{"backend": "echo", "prompt": "a"}, {"backend": "echo", "prompt": "b"}]}
        )

    compared, parallel = with_client(house.url, mode, use)
    assert [one["backend"] for one in told(compared)["results"]] == ["demo", "echo"]
    assert [one["output"] for one in told(parallel)["results"]] == ["a", "b"]


@era
def test_work_in_the_background(house: House, mode: str) -> None:
    async def use(client: Client) -> tuple[Any, Any, Any]:
        submitted = told(await client.call_tool("submit", {"backend": "echo", "prompt": "hi"}))
        waited = await client.call_tool("wait", {"run_id": submitted["run_id"]})
        endless = told(await client.call_tool("submit", {"backend": "claude", "prompt": do(["hang"])}))
        await client.call_tool("cancel", {"run_id": endless["run_id"]})
        return submitted, waited, await client.call_tool("wait", {"run_id": endless["run_id"]})

    submitted, waited, cancelled = with_client(house.url, mode, use)
    assert set(submitted) == {"run_id", "status"}
    assert (told(waited)["output"], waited.is_error) == ("hi", False)
    assert cancelled.is_error


@era
def test_a_call_that_is_abandoned_is_stopped(house: House, mode: str) -> None:
    house.cli.forget()

    async def use(client: Client) -> list[int]:
        call = asyncio.create_task(client.call_tool("prompt", {"backend": "claude", "prompt": do(["say", "on"], ["spawn"], ["hang"])}))
        tree = await asyncio.to_thread(lambda: [house.cli.pid(), *house.cli.children()])
        call.cancel()
        assert await asyncio.to_thread(eventually, lambda: not any(map(alive, tree)), GONE_S)
        assert not (await client.call_tool("list_backends", {})).is_error  # the connection is of use yet
        return tree

    assert len(with_client(house.url, mode, use)) == 2


@era
def test_what_a_model_can_mend_is_a_result_and_the_rest_an_error(house: House, mode: str) -> None:
    async def use(client: Client) -> tuple[Any, int]:
        bad = await client.call_tool("prompt", {"backend": "nosuch", "prompt": "hi"})
        with pytest.raises(MCPError) as caught:
            await client.call_tool("no_such_tool", {})
        return bad, caught.value.error.code

    bad, code = with_client(house.url, mode, use)
    assert bad.is_error
    assert "unknown backend 'nosuch'; configured: " in bad.content[0].text
    assert code == -32602


@era
def test_another_keys_session_is_unknown_and_a_wrong_key_gets_nothing(server: ServerFactory, fake_cli: FakeCli, mode: str) -> None:
    keys = {"ada": "key-of-ada-0123456789", "bob": "key-of-bob-0123456789"}
    settings = {"api_keys": [f"{name}={key}" for name, key in keys.items()]}
    one = server({"default_backend": "claude", "backends": {"claude": fake_cli.backend()}, "server": settings})

    def ask(key: str, **arguments: str) -> Any:
        return with_client(one.url, mode, lambda client: client.call_tool("prompt", {"prompt": "hi", **arguments}), key)

    session = told(ask(keys["ada"]))["session_id"]
    foreign = ask(keys["bob"], session_id=session)
    assert foreign.is_error
    assert "no session" in foreign.content[0].text
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - a group of several errors, in which is which depends on the era
        ask("wrong-key-0123456789")
    assert "API key" in "".join(map(str, _leaves(caught.value))) or "401" in "".join(map(str, _leaves(caught.value)))


def _leaves(error: BaseException) -> list[BaseException]:
    return [leaf for one in error.exceptions for leaf in _leaves(one)] if isinstance(error, BaseExceptionGroup) else [error]
