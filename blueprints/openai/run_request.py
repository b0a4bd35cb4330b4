"""The options of either route, normalized → a `RunRequest`. Pure."""

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
class RequestOptions:
    """``format_field`` and ``text_field``: the route's names of the fields with the schema and the text, for errors."""

    format_field: str
    text_field: str
    schema: dict[str, Any] | None = None
    effort: str | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    keeps_session: bool = False


def to_run_request(
    options: RequestOptions,
    conversation: Conversation,
    resolution: Resolution,
    spec: BackendSpec,
    context: RequestContext,
) -> RunRequest:
    """Raises OptionNotSupported."""
    check_support(spec, options.schema, conversation.images, format_field=options.format_field, text_field=options.text_field)
    cli_options = {
        "model": resolution.model,
        "system_prompt": conversation.system,
        "max_tokens": options.max_tokens,
        "json_schema": options.schema,
        **to_effort(options.effort, spec),
    }
    return RunRequest(
        prompt=conversation.prompt,
        backend=resolution.backend,
        backend_reason=resolution.reason,
        tier=resolution.tier,
        may_fall_back=not resolution.is_exact,
        options={name: value for name, value in cli_options.items() if value is not None},
        workdir=context.workdir,
        ephemeral=not options.keeps_session,
        resume=context.session,
        history=conversation.messages,
        stop=options.stop,
        request_id=context.request_id,
        owner=context.owner,
        caller=context.caller,
        depth=context.depth,
        is_background=context.is_background,
    )
