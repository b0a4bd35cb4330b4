"""The worst bodies for the event loop of a server: by route, 10 MB of what makes parsing, checking and rendering slow.

Some are refused and some are legal; `bench.loop` measures them, and the tests hold them to a bound.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

SIZE = (10 << 20) - 2_000
"""Below the default of ``server.max_request_body_bytes``, with room for the rest of the body."""
VALUES = 99_000
"""Below the limit of JSON values, with room for the rest of the body."""
ANSWER = '#do [["say","ok"],["result"]]\n'
"""What the scripted CLI is to do, after the rest of a prompt."""


class Body(NamedTuple):
    route: str
    name: str
    make: Callable[[], bytes]
    statuses: tuple[int, ...]
    """What may come of it."""


class Route(NamedTuple):
    """``fields``: a small body that is legal. ``words``: the field that holds the caller's text."""

    path: str
    fields: dict[str, Any]
    words: str


CHAT = {"model": "claude", "messages": [{"role": "user", "content": ANSWER}]}
ROUTES = (
    Route("/api/v1/prompt", {"prompt": ANSWER, "ephemeral": True}, "prompt"),
    Route("/api/v1/parallel", {"tasks": [{"prompt": ANSWER}]}, "tasks.prompt"),
    Route("/api/v1/chain", {"steps": [{"prompt": ANSWER}]}, "steps.prompt"),
    Route("/api/v1/compare", {"prompt": ANSWER, "backends": ["claude"]}, "prompt"),
    Route("/api/v1/sessions", {"title": "x"}, "system_prompt"),
    Route("/api/v1/sessions/{session}/resume", {"prompt": ANSWER}, "prompt"),
    Route("/api/v1/sessions/{session}/fork", {"title": "x"}, "title"),
    Route("/openai/v1/chat/completions", CHAT, "messages.content"),
    Route("/openai/v1/responses", {"model": "claude", "input": ANSWER}, "input"),
    Route("/anthropic/v1/messages", CHAT | {"max_tokens": 9}, "messages.content"),
    Route("/anthropic/v1/messages/count_tokens", CHAT, "messages.content"),
)
LISTS = {
    "/api/v1/prompt": ("tags", "extra"),
    "/api/v1/parallel": ("tasks",),
    "/api/v1/chain": ("steps",),
    "/api/v1/compare": ("targets", "backends", "extra"),
    "/api/v1/sessions": ("tags",),
    "/api/v1/sessions/{session}/resume": ("tags",),
    "/api/v1/sessions/{session}/fork": ("tags",),
    "/openai/v1/chat/completions": ("messages", "tools", "stop", "modalities"),
    "/openai/v1/responses": ("input", "tools"),
    "/anthropic/v1/messages": ("messages", "tools", "stop_sequences", "mcp_servers", "system"),
    "/anthropic/v1/messages/count_tokens": ("messages", "tools", "system"),
}
"""The fields of each route that hold arrays."""
MESSAGES = {
    "/openai/v1/chat/completions": "messages",
    "/openai/v1/responses": "input",
    "/anthropic/v1/messages": "messages",
    "/anthropic/v1/messages/count_tokens": "messages",
}
METADATA = ("/api/v1/prompt", "/api/v1/sessions", "/api/v1/sessions/{session}/resume", "/api/v1/sessions/{session}/fork")

ELEMENTS: dict[str, Any] = {
    "numbers": 1,
    "empty arrays": [],
    "empty objects": {},
    "unknown fields": {"x": 1, "y": 2},
    "wrong fields": {"role": 1, "content": 2, "prompt": 3, "backend": 4, "name": 5},
}
"""Wrong for most arrays."""


def bodies() -> Iterator[Body]:
    for route in ROUTES:
        yield from _of_every_route(route)
        yield from _of_lists(route.path)
        yield from _of_messages(route)
        if route.path in METADATA or route.path == "/openai/v1/responses":
            fields = {f"key {index}": "x" * 20 for index in range(VALUES)}
            yield Body(route.path, "99,000 keys of metadata", partial(_json, {**route.fields, "metadata": fields}), (400,))
    yield from _of_several_runs()


def _of_every_route(route: Route) -> Iterator[Body]:
    path, head = route.path, _json(route.fields)[:-1]
    tolerant = not path.startswith("/api")
    yield Body(path, "10 MB of unknown fields", lambda: _filled(head, lambda i: b',"unknown %d":1' % i, b"}"), (400,))
    yield Body(path, "99,000 unknown fields", lambda: head + b"".join(b',"unknown %d":1' % i for i in range(VALUES)) + b"}",
               (200, 201) if tolerant else (400,))  # fmt: skip
    yield Body(path, "one unknown field of 10 MB", lambda: head + b',"%s":1}' % (b"x" * SIZE), (200,) if tolerant else (400,))
    yield Body(path, "10 MB of empty arrays", lambda: head + b',"x":[' + b",".join([b"[]"] * (SIZE // 3)) + b"]}", (400,))
    yield Body(path, "10 MB of nesting", lambda: head + b',"x":' + b"[" * SIZE, (400,))
    nested = b"[" * 90 + b"]" * 90
    yield Body(path, "99,000 values, nested 90 deep", lambda: head + b',"x":[' + b",".join([nested] * (VALUES // 90)) + b"]}",
               (200,) if tolerant else (400,))  # fmt: skip
    yield Body(path, "10 MB of quotation marks", lambda: head + b',"x":[' + b",".join([b'""'] * (SIZE // 3)) + b"]}", (400,))
    yield Body(path, "10 MB of digits", lambda: head + b',"x":' + b"1" * SIZE + b"}", (400,))
    yield Body(path, "10 MB that are not UTF-8", lambda: head + b',"x":"' + b"\xff" * SIZE + b'"}', (400,))
    for name, part in (("one string of 10 MB", "x"), ("one string of 10 MB of é", "é"), ("one string of 10 MB of line breaks", "\n")):
        size = SIZE // len(json.dumps(part, ensure_ascii=False).encode()[1:-1])
        yield Body(path, name, partial(_said, route, part * size), (200, 201, 400, 404))


def _of_lists(path: str) -> Iterator[Body]:
    fields = next(route.fields for route in ROUTES if route.path == path)
    for field in LISTS[path]:
        rest = {key: value for key, value in fields.items() if key != field and not (field == "targets" and key == "backends")}
        head = _json(rest)[:-1] + b"," * bool(rest) + b'"%s":[' % field.encode()
        for name, element in ELEMENTS.items():
            part, values = _json(element), 1 + (len(element) if isinstance(element, dict) else 0)
            yield Body(
                path, f"{field}: 10 MB of {name}", lambda head=head, part=part: _filled(head + part, lambda _: b"," + part, b"]}"), (400,)
            )
            yield Body(path, f"{field}: 99,000 values of {name}",
                       lambda head=head, part=part, n=VALUES // values: head + b",".join([part] * n) + b"]}", (200, 400))  # fmt: skip


def _of_messages(route: Route) -> Iterator[Body]:
    field = MESSAGES.get(route.path)
    if field is None:
        return
    kind = "input_text" if field == "input" else "text"
    roles = ("user", "assistant")

    def body(messages: list[Any]) -> bytes:
        return _json({**route.fields, field: messages})

    def texts(count: int, size: int) -> bytes:
        last = {"role": "user", "content": ANSWER}
        return body([*({"role": roles[i % 2], "content": "x" * size} for i in range(count - 1)), last])

    yield Body(route.path, "10,000 messages of 1 KB", lambda: texts(10_000, 960), (200,))
    yield Body(route.path, "99,000 messages", lambda: texts(33_000, 1), (400,))
    parts = [{"type": kind, "text": "x" * 280}] * 33_000
    yield Body(route.path, "one message of 33,000 parts", lambda: body([{"role": "user", "content": [*parts, {"type": kind, "text": ANSWER}]}]),
               (200,))  # fmt: skip
    yield Body(route.path, "25 tool results of 400 KB", lambda: body(list(_tool_results(route.path))), (200,))


def _tool_results(path: str) -> Iterator[dict[str, Any]]:
    text = "a line of a file\n" * (400_000 // 17)
    yield {"role": "user", "content": ANSWER}
    for index in range(24):
        id = f"call_{index}"
        if path.endswith("/responses"):
            yield {"type": "function_call", "call_id": id, "name": "read", "arguments": "{}"}
            yield {"type": "function_call_output", "call_id": id, "output": text}
        elif path.startswith("/openai"):
            call = {"id": id, "type": "function", "function": {"name": "read", "arguments": "{}"}}
            yield {"role": "assistant", "content": None, "tool_calls": [call]}
            yield {"role": "tool", "tool_call_id": id, "content": text}
        else:
            yield {"role": "assistant", "content": [{"type": "tool_use", "id": id, "name": "read", "input": {}}]}
            yield {"role": "user", "content": [{"type": "tool_result", "tool_use_id": id, "content": text}]}
    yield {"role": "user", "content": ANSWER}


def _of_several_runs() -> Iterator[Body]:
    dry = {"dry_run": True}
    for path, field in (("/api/v1/parallel", "tasks"), ("/api/v1/chain", "steps")):
        yield Body(path, f"1,000 {field} of 10 KB (dry run)", partial(_json, {field: [{"prompt": "x" * 10_000}] * 1_000, **dry}), (200,))
        options = {"prompt": "x", "model": "sonnet", "approval_mode": "auto", "sandbox_mode": "workspace", "system_prompt": "y" * 9_000}
        yield Body(path, f"1,000 {field} with options (dry run)", partial(_json, {field: [options] * 1_000, **dry}), (200,))
        wrong = [{"prompt": "x", "extra": [1] * 80}] * 1_000
        yield Body(path, f"1,000 {field} with 80 wrong flags", partial(_json, {field: wrong}), (400,))
    filled = {"steps": [{"prompt": "x", "name": "a"}, {"prompt": "{{previous}}" * (SIZE // 12)}], **dry}
    yield Body("/api/v1/chain", "10 MB of placeholders (dry run)", partial(_json, filled), (200, 400))
    braces = {"steps": [{"prompt": "x"}, {"prompt": "{{steps." * (SIZE // 8)}], **dry}
    yield Body("/api/v1/chain", "10 MB of open braces (dry run)", partial(_json, braces), (200, 400))
    targets = {"prompt": "x" * (SIZE - 40_000), "targets": [{"backend": "claude"}] * 1_000, **dry}
    yield Body("/api/v1/compare", "1,000 targets, a prompt of 10 MB (dry run)", partial(_json, targets), (200,))


def _said(route: Route, text: str) -> bytes:
    """The body with ``text`` as the caller's text, before the script for the CLI."""
    text = text[: -len(ANSWER)] + ANSWER
    outer, _, inner = route.words.partition(".")
    if not inner:
        return _json({**route.fields, outer: text})
    return _json({**route.fields, outer: [{**route.fields[outer][0], inner: text}]})


def _filled(head: bytes, part: Callable[[int], bytes], tail: bytes) -> bytes:
    parts, size, index = [head], len(head), 0
    while size < SIZE:
        parts.append(part(index))
        size += len(parts[-1])
        index += 1
    return b"".join([*parts[:-1], tail])


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()
