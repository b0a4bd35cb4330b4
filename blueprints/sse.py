"""Server-sent events as bytes. Pure."""

KEEP_ALIVE = b": keep-alive\n\n"
"""A comment: every SSE reader skips it."""

NUMBERED = b"event: %s\nid: %d\ndata: %s\n\n"
"""`frame` with all its parts, for whoever writes many."""


def frame(data: bytes, *, event: bytes = b"", id: int | None = None) -> bytes:
    """One event. ``data`` is one line: JSON as our encoder writes it holds no raw newline."""
    head = b"event: %s\n" % event if event else b""
    if id is not None:
        head += b"id: %d\n" % id
    return b"%sdata: %s\n\n" % (head, data)
