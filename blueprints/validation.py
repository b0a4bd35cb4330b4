"""Parses and validates requests, and reports marshmallow's errors as one InvalidRequest. The `Blueprint` of every surface.

Plain flask-smorest responds 422, and "Invalid JSON body." to malformed JSON; we respond 400 with the position and the field.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any, NoReturn

import flask
import flask_smorest
import marshmallow as ma
import orjson
from webargs.core import missing
from webargs.flaskparser import FlaskParser

from blueprints.current_request import current_request
from blueprints.json_limits import check_json
from blueprints.misspelled import misspelled
from blueprints.request_fields import ERRORS_LIMIT
from services.errors import InvalidRequest
from services.event_loop import yield_to_others
from services.suggestion import suggestion

UNKNOWN_FIELD = ma.Schema().error_messages["unknown"].removesuffix(".")
MISSING_FIELD = "Missing data for required field"
SUGGESTIONS_LIMIT = 3
"""Maximum number of unknown fields with a suggestion: finding one takes 0.3 ms."""
NAME_CHARS = 64
"""Longer field names are truncated in errors, and get no suggestion."""


class Parser(FlaskParser):
    """webargs' parser with our errors. The body's JSON is in ``flask.g.sent`` until the view returns; its bytes are not kept: a stream may
    last for minutes."""

    DEFAULT_VALIDATION_STATUS = 400

    def load_json(self, req: flask.Request, schema: ma.Schema) -> Any:
        """The body as an object; `missing` if it is empty and no field is required."""
        if not req.content_length and "HTTP_TRANSFER_ENCODING" not in req.environ:
            return self._no_body(schema)
        body = req.get_data(cache=False)
        if not body.strip():
            return self._no_body(schema)
        for _ in check_json(body):
            yield_to_others()
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise invalid_json(error) from None
        if not isinstance(value, dict):
            raise InvalidRequest(f"the body must be a JSON object, not {_json_type(value)}", issue="not an object")
        if schema.unknown == ma.EXCLUDE:
            current_request().misspelled = misspelled(value, _names_of(schema))
        flask.g.sent = value
        return value

    def _no_body(self, schema: ma.Schema) -> Any:
        if any(field.required for field in schema.fields.values()):
            raise InvalidRequest("the body is empty; send a JSON object", issue="empty body")
        return missing

    def handle_error(
        self,
        error: ma.ValidationError,
        req: flask.Request,
        schema: ma.Schema,
        *,
        error_status_code: int | None,
        error_headers: Mapping[str, str] | None,
    ) -> NoReturn:
        raise invalid_request(error.messages, schema) from None


class Blueprint(flask_smorest.Blueprint):
    ARGUMENTS_PARSER = Parser()


def invalid_json(error: ValueError) -> InvalidRequest:
    """An error with the line and column of the syntax error, where known."""
    line, column = getattr(error, "lineno", None), getattr(error, "colno", None)
    place = f"line {line} column {column}: " if line else ""
    text = getattr(error, "msg", None) or "it is not UTF-8"
    return InvalidRequest(f"the body is not valid JSON: {place}{text}", issue="malformed JSON", line=line, column=column)


def invalid_request(messages: Any, schema: ma.Schema | None = None) -> InvalidRequest:
    """marshmallow's nested messages as one error: all in the message and ``errors``, the first in ``field`` and ``issue``."""
    if isinstance(messages, Mapping) and len(messages) == 1 and next(iter(messages)) in {"json", "query", "path", "headers"}:
        messages = next(iter(messages.values()))
    mistakes = [*islice(_flatten(messages, schema), ERRORS_LIMIT)]
    found = [
        (path, _explain(path.rpartition(".")[2], issue, siblings if number < SUGGESTIONS_LIMIT else ()))
        for number, (path, issue, siblings) in enumerate(mistakes)
    ] or [("", "not valid")]
    field, issue = found[0]
    errors: dict[str, list[str]] = {}
    for path, text in found:
        errors.setdefault(path, []).append(text)
    message = "; ".join(f"{path}: {text}" if path else text for path, text in found)
    return InvalidRequest(message, field=field or None, issue=issue, errors=errors)


def _flatten(messages: Any, shape: Any = None, path: str = "", siblings: Iterable[str] = ()) -> Iterator[tuple[str, str, Iterable[str]]]:
    """(path, issue, names of the sibling fields). ``shape``: the schema or field that ``messages`` belong to, where known."""
    if isinstance(messages, Mapping) and isinstance(shape, ma.fields.Dict) and (shape.key_field or shape.value_field):
        for key, sides in messages.items():  # marshmallow: {name: {"key": [issue], "value": [issue]}}
            for inner in sides.values():
                yield from _flatten(inner, path=f"{path}.{str(key)[:NAME_CHARS]}")
    elif isinstance(messages, Mapping):
        for key, inner in messages.items():
            if key == "_schema":
                yield from _flatten(inner, shape, path)
            elif isinstance(key, int):
                yield from _flatten(inner, getattr(shape, "inner", None), f"{path}[{key}]")
            else:
                fields = _fields_of(shape)
                name = str(key)[:NAME_CHARS]
                yield from _flatten(inner, fields.get(key), f"{path}.{name}" if path else name, fields)
    elif isinstance(messages, list | tuple):
        for inner in messages:
            yield from _flatten(inner, shape, path, siblings)
    else:
        yield path, str(messages).removesuffix("."), siblings


def _fields_of(shape: Any) -> Mapping[str, ma.fields.Field[Any]]:
    schema = shape.schema if isinstance(shape, ma.fields.Nested) else shape
    return {field.data_key or name: field for name, field in schema.fields.items()} if isinstance(schema, ma.Schema) else {}


@lru_cache
def _names_of(schema: ma.Schema) -> frozenset[str]:
    """There are as many as there are routes with a body."""
    return frozenset(_fields_of(schema))


def _explain(name: str, issue: str, siblings: Iterable[str]) -> str:
    if issue == MISSING_FIELD:
        return "is required"
    if issue != UNKNOWN_FIELD:
        return issue[:1].lower() + issue[1:]
    hint = suggestion(name, siblings) if len(name) < NAME_CHARS else ""
    return f"unknown field; {hint}" if hint else "unknown field"


def _json_type(value: Any) -> str:
    if value is None:
        return "null"
    return {list: "an array", str: "a string", bool: "a boolean"}.get(type(value), "a number")
