"""The input of a stored request → items with ids, as ``GET /responses/{id}/input_items`` lists them. Pure.

Source: openai 3.57, `types/responses/response_item.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from blueprints.openai.responses.ids import MESSAGE
from services.errors import InvalidRequest

Item = dict[str, Any]

PREFIXES: Mapping[str, str] = {
    "message": MESSAGE,
    "reasoning": "rs_",
    "function_call": "fc_",
    "function_call_output": "fco_",
    "custom_tool_call": "ctc_",
    "custom_tool_call_output": "ctco_",
}
"""Of the ids that the server makes, by type; default: the type."""

TEXTS: Mapping[str, str] = {"text": "input_text", "input_text": "input_text", "output_text": "input_text"}
"""The types of a text, as the parts of a message to the model have it."""


def to_items(given: str | Sequence[Mapping[str, Any]], run_id: str) -> list[Item]:
    """In order. References to earlier items are left out: they are no items of this response."""
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    numbered = [(index, item) for index, item in enumerate(given) if item.get("type") != "item_reference"]
    return [_to_item(item, f"{run_id.partition('_')[2]}{index:04x}") for index, item in numbered]


def to_page(items: Sequence[Item], *, limit: int, order: str, after: str | None) -> dict[str, Any]:
    """A page of the list. Raises InvalidRequest if no item has the id ``after``."""
    ordered = list(items) if order == "asc" else list(reversed(items))
    if after is not None:
        place = next((place for place, item in enumerate(ordered) if item["id"] == after), None)
        if place is None:
            raise InvalidRequest(f"after: this response has no input item {after[:200]!r}", field="after", issue="unknown item")
        ordered = ordered[place + 1 :]
    page = ordered[:limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(ordered) > limit,
    }


def _to_item(given: Mapping[str, Any], unique: str) -> Item:
    """``unique``: the part of its id that no other item has."""
    kind = given.get("type") or "message"
    item = {name: value for name, value in given.items() if value is not None}
    item |= {"type": kind, "id": given.get("id") or PREFIXES.get(kind, f"{kind}_") + unique}
    if kind == "reasoning":
        return {"summary": [], **item}
    item.setdefault("status", "completed")
    if kind == "message":
        item["role"] = given.get("role") or "user"
        item["content"] = _to_parts(given.get("content") or [], item["role"])
    return item


def _to_parts(content: str | Sequence[Mapping[str, Any]], role: str) -> list[Item]:
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    return [_to_answer_part(part) if role == "assistant" else _to_part(part) for part in content]


def _to_part(part: Mapping[str, Any]) -> Item:
    if part.get("type") in TEXTS:
        return {"type": TEXTS[part["type"]], "text": part.get("text")}
    if part.get("type") in ("image_url", "input_image"):
        url = part.get("image_url")
        return {"detail": "auto", **part, "type": "input_image", "image_url": url.get("url") if isinstance(url, dict) else url}
    return dict(part)


def _to_answer_part(part: Mapping[str, Any]) -> Item:
    if part.get("type") in TEXTS:
        return {"annotations": [], "logprobs": [], **part, "type": "output_text"}
    return dict(part)
