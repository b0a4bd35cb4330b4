"""Limits the number and nesting of a JSON text's values before it is parsed, because parsing blocks the event loop. Pure.

10 MB of `[]` keep orjson busy for 5 s. Counting takes less, and can be done in slices.
"""

from __future__ import annotations

from collections.abc import Iterator

from services.errors import InvalidRequest

VALUES_LIMIT = 100_000
"""Counts strings, numbers, literals, arrays and objects, but not member names."""
DEPTH_LIMIT = 100
SLICE_BYTES = 1 << 16

WHITESPACE = b" \t\r\n"
ALL_BUT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
DEPTH_OF = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def check_json(text: bytes) -> Iterator[None]:
    """Check ``text`` one slice per iteration. Raises InvalidRequest past a limit.

    Stops at the first place where the text is not JSON; the parser reports that.
    """
    values, depth, before = 1, 0, b""
    in_string = False
    for part in _slices(text):
        # Without escapes, every quotation mark in a slice begins or ends a string.
        parts = part.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        structure = before + b'"' * in_string + b'"'.join(parts[in_string::2]).translate(None, WHITESPACE)
        in_string ^= len(parts) % 2 == 0
        brackets = structure[len(before) :].translate(None, ALL_BUT_BRACKETS)
        # A value follows every comma and every opening bracket, except that of an empty array or object.
        values += structure.count(b",") - before.count(b",") + brackets.count(b"[") + brackets.count(b"{")
        values -= structure.count(b"[]") + structure.count(b"{}")
        before = structure[-1:]
        # An opening bracket at the end of the slice may have no value: the array or object may be empty.
        if values - (before in (b"[", b"{")) > VALUES_LIMIT:
            raise _past(f"more than {VALUES_LIMIT:,} JSON values", "too many values")
        for bracket in brackets:
            depth += DEPTH_OF[bracket]
            if depth > DEPTH_LIMIT:
                raise _past(f"values nested more than {DEPTH_LIMIT} deep", "nested too deep")
            if depth <= 0:
                return  # end of the text, or not JSON
        yield


def _slices(text: bytes) -> Iterator[bytes]:
    """No slice ends inside an escape."""
    start = 0
    while start < len(text):
        part = text[start : start + SLICE_BYTES]
        if (len(part) - len(part.rstrip(b"\\"))) % 2:
            part = text[start : start + SLICE_BYTES + 1]
        yield part
        start += len(part)


def _past(what: str, issue: str) -> InvalidRequest:
    return InvalidRequest(f"the body has {what}", issue=issue)
