"""What a request of either route asks for, under one set of names → a `RunRequest`. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from blueprints.compat.context import RequestContext
from blueprints.compat.conversation import Conversation
from blueprints.openai.options import check_support, to_effort
from services.clis.spec import BackendSpec
from services.models import Resolution
from services.requests import RunRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """``format_field`` and ``text_field`` are what the caller calls the schema and the words."""

    format_field: str
    text_field: str
    schema: dict[str, Any] | None = None
    effort: str | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    keeps_session: bool = False


def to_run_request(
    asked: Asked,
    conversation: Conversation,
    resolution: Resolution,
    spec: BackendSpec,
    context: RequestContext,
) -> RunRequest:
    """Raises OptionNotSupported."""
    check_support(spec, asked.schema, conversation.images, format_field=asked.format_field, text_field=asked.text_field)
    options = {
        "model": resolution.model,
        "system_prompt": conversation.system,
        "max_tokens": asked.max_tokens,
        "json_schema": asked.schema,
        **to_effort(asked.effort, spec),
    }
    return RunRequest(
        prompt=conversation.prompt,
        backend=resolution.backend,
        backend_reason=resolution.reason,
        options={name: value for name, value in options.items() if value is not None},
        workdir=context.workdir,
        ephemeral=not asked.keeps_session,
        resume=context.session,
        images=conversation.images,
        stop=asked.stop,
        request_id=context.request_id,
        caller=context.caller,
    )
