"""Whose trace a request belongs to: W3C's ``traceparent``, read with suspicion. Spans of our own are `app.observability.tracing`' business.

A header that is not exactly as https://www.w3.org/TR/trace-context/#traceparent-header says is as good as none: it is neither
logged nor handed to a CLI. What is handed on is written anew from its parts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

TRACEPARENT = re.compile(r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<parent>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})")
VERSION = "00"
"""The only version so far. Of a later one the specification has the first four parts read; no client sends one."""

EXPORTERS = ("otlp", "console", "none")
"""What OTEL_TRACES_EXPORTER may say."""
PROTOCOL = "http/protobuf"
"""What OTEL_EXPORTER_OTLP_PROTOCOL may say: gRPC's own threads and gevent do not go together."""

VARIABLE = "TRACEPARENT"
"""The environment variable that passes the trace to a process: https://opentelemetry.io/docs/specs/otel/context/env-carriers/."""


@dataclass(frozen=True, slots=True)
class Trace:
    """``parent`` is the span that the next one stands below; 32 and 16 hexadecimal digits."""

    id: str
    parent: str
    is_sampled: bool

    def __str__(self) -> str:
        return f"{VERSION}-{self.id}-{self.parent}-{self.is_sampled:02x}"


def to_trace(header: str | None) -> Trace | None:
    """None for no header, and for one that is not well-formed."""
    match = header and TRACEPARENT.fullmatch(header)
    if not match or match["version"] != VERSION or not int(match["trace"], 16) or not int(match["parent"], 16):
        return None
    return Trace(match["trace"], match["parent"], bool(int(match["flags"], 16) & 1))


def wrong_variables(environ: Mapping[str, str]) -> Iterator[str]:
    """What the standard variables ask for that this server cannot do."""
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip()
    if exporter and exporter not in EXPORTERS:
        yield f"OTEL_TRACES_EXPORTER: expected one of {', '.join(EXPORTERS)}, got {exporter!r}"
    for name in ("OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"):
        if environ.get(name, "").strip() not in ("", PROTOCOL):
            yield f"{name}: expected {PROTOCOL}, got {environ[name]!r}"
