"""A fake model API on loopback: the vendors' HTTP dialects, answered from scripts (see `server.FakeModelApi`)."""

from .plan import Hold, McpCall, Reply, tokens
from .server import FakeModelApi, RequestRecord

__all__ = ["FakeModelApi", "Hold", "McpCall", "Reply", "RequestRecord", "tokens"]
