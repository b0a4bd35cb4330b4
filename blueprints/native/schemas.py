"""Schemas of the native API. Unknown fields are rejected by name."""

from __future__ import annotations

from typing import Any, get_args

from marshmallow import ValidationError, fields, validate

from blueprints.request_fields import Array, Flag, Metadata, Number
from blueprints.strict_schema import Strict as Strict
from blueprints.webhook_field import WebhookSchema
from services.requests import ApprovalMode, OutputFormat, SandboxMode
from services.sessions.conversations import METADATA_KEYS_LIMIT, METADATA_NAME_CHARS, METADATA_VALUE_CHARS

NAME_LIMIT = 128
NO_CONTROL_CHARACTERS = r"^[^\x00-\x1f\x7f]*$"
"""PostgreSQL has no text with a NUL."""
TAG_LIMIT = 50
TAGS_LIMIT = 32
OWN_DATA = {
    "description": f"Your own data, stored with the session: at most {METADATA_KEYS_LIMIT} keys of {METADATA_NAME_CHARS} characters, with "
    f"values of {METADATA_VALUE_CHARS:,}"
}


class Pattern(validate.Regexp):
    """``regex`` must mean the same in Python and in ECMA-262, which OpenAPI uses: anchored by ``^`` and ``$``, no ``\\Z``."""

    def __call__(self, value: Any) -> Any:
        if not self.regex.fullmatch(value):  # Python's `$` also matches before a trailing line feed
            raise ValidationError(self._format_error(value))
        return value


def one_of(literal: object) -> validate.OneOf:
    return validate.OneOf(get_args(literal))


def output_format_field(**more: Any) -> fields.String:
    meaning = (
        "`stream-json` streams events as NDJSON, as `Accept: application/x-ndjson` does; `Accept: text/event-stream` streams them as SSE"
    )
    return fields.String(validate=one_of(OutputFormat), metadata={"description": meaning}, **more)


class BackgroundSchema(Strict):
    """Fields of a request that may run in the background."""

    background = Flag(
        metadata={"description": "Answer 202 at once, and execute the run whether or not the client stays; so does `Prefer: respond-async`"}
    )
    priority = fields.Integer(
        strict=True, validate=validate.Range(0, 9), metadata={"description": "In the background: 0 is first, 9 is last; default 5"}
    )
    on_worker_lost = fields.String(
        validate=validate.OneOf(["fail", "retry"]),
        metadata={
            "description": "In the background: `retry` starts the run once more if the server's process dies meanwhile; default `fail`"
        },
    )
    webhook = fields.Nested(WebhookSchema())


class RunOptionsSchema(Strict):
    """Options common to all requests that run a prompt."""

    backend = fields.String(metadata={"description": "Backend to run; default: the configured one", "example": "demo"})
    model = fields.String(
        validate=validate.Length(1, NAME_LIMIT), metadata={"description": "Model name of the CLI, or one of the backend's aliases"}
    )
    workdir = fields.String(validate=validate.Length(1, 4096), metadata={"description": "Absolute path of the working directory"})
    approval_mode = fields.String(validate=one_of(ApprovalMode), metadata={"description": "What the agent may do without approval"})
    sandbox_mode = fields.String(validate=one_of(SandboxMode), metadata={"description": "What the agent may write to"})
    max_tokens = fields.Integer(
        strict=True, validate=validate.Range(1), metadata={"description": "Upper bound of the output's tokens, for CLIs that support it"}
    )
    max_turns = fields.Integer(strict=True, validate=validate.Range(1), metadata={"description": "Upper bound of the agent's turns"})
    system_prompt = fields.String(metadata={"description": "Replaces the CLI's own system prompt"})
    verbose = Flag(metadata={"description": "Enable the CLI's diagnostics"})
    extra = Array(
        fields.String(),
        most=32,
        metadata={"description": "Additional CLI flags from the backend's allow-list"},
    )
    timeout_secs = Number(
        validate=validate.Range(0, min_inclusive=False), metadata={"description": "Shortens the server's time limit; never lengthens it"}
    )


class PromptSchema(RunOptionsSchema, BackgroundSchema):
    prompt = fields.String(required=True, metadata={"description": "The prompt", "example": "Say hello"})
    ephemeral = Flag(load_default=False, metadata={"description": "Store no session"})
    output_format = output_format_field(load_default="default")
    dry_run = Flag(load_default=False, metadata={"description": "Start nothing; return the command line that would run"})
    metadata = Metadata(metadata=OWN_DATA)
    tags = Array(fields.String(validate=validate.Length(1, TAG_LIMIT)), most=TAGS_LIMIT)
    title = fields.String(validate=validate.Length(max=200))


class MetaSchema(Strict):
    request_id = fields.String(required=True)
    timestamp = fields.String(required=True, metadata={"description": "RFC 3339, UTC"})


class TokenUsageSchema(Strict):
    input_tokens = fields.Integer(metadata={"description": "All input tokens, cached ones included"})
    output_tokens = fields.Integer()
    cached_tokens = fields.Integer(metadata={"description": "Input tokens read from the vendor's prompt cache"})
    reasoning_tokens = fields.Integer()


class DeniedToolSchema(Strict):
    tool = fields.String(required=True)
    reason = fields.String(required=True, metadata={"description": "The CLI's message"})


class PromptResultSchema(Strict):
    """The result of a run. A failed run of the CLI is a result too: see `exit_code` and `error`."""

    run_id = fields.String(allow_none=True, metadata={"description": "Null with `dry_run`"})
    session_id = fields.String(allow_none=True)
    backend = fields.String(required=True)
    model = fields.String(allow_none=True)
    exit_code = fields.Integer(allow_none=True)
    duration_ms = fields.Integer()
    output = fields.String()
    error = fields.String(allow_none=True)
    token_usage = fields.Nested(TokenUsageSchema, allow_none=True)
    cost_usd = fields.Float(allow_none=True)
    ignored = fields.List(fields.String(), metadata={"description": "Options that this backend does not support"})
    denied_tools = fields.List(fields.Nested(DeniedToolSchema), metadata={"description": "Tool calls that the CLI refused"})
    dry_run = fields.Boolean()
    argv = fields.List(fields.String(), metadata={"description": "With `dry_run`: the command line that would run"})
    meta = fields.Nested(MetaSchema, required=True)


class IsolationSchema(Strict):
    sandbox = fields.String(metadata={"description": "`none`, or `bubblewrap`: read-only except the workdir and the CLI's own folder"})
    limits = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(),
        metadata={"description": "Resource limits of a run: CPU time, memory, processes and files"},
    )


class WarmSchema(Strict):
    max = fields.Integer(metadata={"description": "Maximum idle processes per worker"})
    ready = fields.Integer(metadata={"description": "Processes now idle or busy in the responding worker"})


class BackendSchema(Strict):
    name = fields.String(required=True)
    available = fields.Boolean(required=True)
    reason = fields.String(allow_none=True, metadata={"description": "Why it is unavailable"})
    version = fields.String(allow_none=True)
    version_warnings = fields.List(
        fields.String(),
        metadata={"description": "Problems of this version: older than the oldest supported, a known bug, newer than tested"},
    )
    is_default = fields.Boolean()
    is_demo = fields.Boolean(metadata={"description": "Ships with this server and calls no model"})
    default_model = fields.String(allow_none=True)
    models = fields.List(fields.String())
    aliases = fields.Dict(keys=fields.String(), values=fields.String())
    options = fields.Dict(
        keys=fields.String(),
        values=fields.Raw(),
        metadata={"description": "Support of each unified option: true, false, or the supported values"},
    )
    allowed_extra = fields.List(fields.String())
    streams_tokens = fields.Boolean()
    takes_images = fields.Boolean()
    can_resume = fields.Boolean()
    isolation = fields.Nested(IsolationSchema(), metadata={"description": "Isolation of this backend's runs"})
    warm = fields.Nested(
        WarmSchema(),
        allow_none=True,
        metadata={"description": "Prewarmed processes; null: every run starts its own"},
    )


class BackendListSchema(Strict):
    backends = fields.List(fields.Nested(BackendSchema), required=True)
    meta = fields.Nested(MetaSchema, required=True)
