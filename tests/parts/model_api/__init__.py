"""A model API for the tests, on loopback: the vendors' HTTP dialects, answered from a script (see `server.FakeModelApi`)."""

from .plan import Hold, Reply, tokens
from .server import FakeModelApi, RequestRecord

__all__ = ["FakeModelApi", "Hold", "Reply", "RequestRecord", "tokens"]
