"""How one unified option reaches a CLI, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """How one option reaches the CLI. Any part may be empty; a value with no rule here is reported as ignored."""

    argv: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Dotted path → value template: in the requests of a JSON-RPC driver, or in the settings of a `PrivateHome`."""
    values: Mapping[str, Option] | None = None
    """A table from our value to its own rule, instead of one template. A value that is missing is not honoured."""
