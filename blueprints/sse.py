"""Server-sent events as bytes. Pure."""

KEEP_ALIVE = b": keep-alive\n\n"
"""A comment, which SSE clients skip."""

NUMBERED = b"event: %s\nid: %d\ndata: %s\n\n"
"""The format of `frame` with all fields, for hot paths."""


def frame(data: bytes, *, event: bytes = b"", id: int | None = None) -> bytes:
    """One event. ``data`` must be one line, which JSON from our encoder is."""
    head = b"event: %s\n" % event if event else b""
    if id is not None:
        head += b"id: %d\n" % id
    return b"%sdata: %s\n\n" % (head, data)
