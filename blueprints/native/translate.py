"""Native requests → `RunRequest`, results and events → native JSON. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count
from typing import Any

import orjson

from blueprints import sse
from blueprints.runs.plan import Origin
from blueprints.times import now
from services.access import policy
from services.access.rights import Rights
from services.clis.probe import Availability
from services.clis.spec import OPTION_NAMES, BackendSpec, Invocation
from services.errors import RUN_FAILURE_CODES
from services.events import Batch, Denial, Failed, Finished, Started, Text, Thinking, ToolCall, ToolProgress, ToolResult, UsageUpdate
from services.models import ModelResolver, Resolution, is_exact, tier_of
from services.requests import PassedOver, RunRequest, RunResult
from services.usage import Usage

OPTIONS = tuple(name for name in OPTION_NAMES if name not in ("allowed_tools", "json_schema", "effort", "thinking_tokens"))
"""The unified options of a native request, by the same names."""


def to_run_request(body: Mapping[str, Any], *, models: ModelResolver, default: Resolution, origin: Origin) -> RunRequest:
    """``body``: validated by `PromptSchema`. ``default``: the backend if the body names none."""
    named = body.get("backend")
    backend = named or default.backend
    options = {name: body[name] for name in OPTIONS if name in body}
    options["model"] = models.model_for(backend, body.get("model"))
    return RunRequest(
        prompt=body["prompt"],
        backend=backend,
        backend_reason="" if named else default.reason,
        options=options,
        workdir=body.get("workdir"),
        ephemeral=body.get("ephemeral", False),
        extra=tuple(body.get("extra", ())),
        timeout_s=body.get("timeout_secs"),
        request_id=origin.request_id,
        owner=origin.owner,
        caller=origin.caller,
        depth=origin.depth,
        is_background=origin.is_background,
        traceparent=origin.traceparent,
        tier=tier_of(body.get("model")),
        may_fall_back=not is_exact(named, body.get("model")),
    )


def meta(request_id: str, at: str = "") -> dict[str, str]:
    """``at``: empty for now."""
    return {"request_id": request_id, "timestamp": at or now()}


def to_usage(usage: Usage | None) -> dict[str, int] | None:
    if usage is None:
        return None
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cached_tokens": usage.cached_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
    }


def to_cost(of: RunResult | Finished | Failed) -> dict[str, Any]:
    """An estimate by the configuration's prices is marked."""
    return {"cost_usd": of.cost_usd} | ({"cost_estimated": True} if of.is_cost_estimated else {})


def to_fallback(passed_over: Iterable[PassedOver]) -> list[dict[str, str]]:
    return [{"backend": backend, "reason": reason} for backend, reason in passed_over]


def to_denied_tools(denials: Iterable[Denial]) -> list[dict[str, str]]:
    return [{"tool": denial.tool, "reason": denial.reason} for denial in denials]


def to_result(result: RunResult, run_id: str, origin: Origin) -> dict[str, Any]:
    """The response body of `/prompt`."""
    return {
        "run_id": run_id,
        "session_id": result.session_id,
        "backend": result.backend,
        "model": result.model,
        "exit_code": result.exit_code,
        "duration_ms": result.duration_ms,
        "output": result.output,
        "error": result.failure.message if result.failure else None,
        "token_usage": to_usage(result.usage),
        **to_cost(result),
        "ignored": list(result.ignored),
        "denied_tools": to_denied_tools(result.denied_tools),
        "fallback": to_fallback(result.passed_over),
        "meta": meta(origin.request_id, origin.submitted_at),
    }


def to_dry_run(invocation: Invocation, request_id: str) -> dict[str, Any]:
    """The response body of a dry run. It contains the prompt only if the CLI takes it as an argument."""
    return {
        "run_id": None,
        "session_id": None,
        "backend": invocation.spec.name,
        "model": invocation.model,
        "exit_code": None,
        "duration_ms": 0,
        "output": "",
        "error": None,
        "token_usage": None,
        "cost_usd": None,
        "ignored": list(invocation.ignored),
        "denied_tools": [],
        "fallback": [],
        "dry_run": True,
        "argv": invocation.shown_argv,
        "meta": meta(request_id),
    }


def to_backend(spec: BackendSpec, availability: Availability, rights: Rights, *, is_default: bool, ready: int) -> dict[str, Any]:
    """One entry of `/backends`: what a key with ``rights`` may use. ``ready``: the number of its prewarmed processes."""
    confinement = policy.confinement_of(rights, spec)

    def may_use(model: str | None) -> bool:
        return policy.may_use_model(rights, spec, model)

    return {
        "name": spec.name,
        "available": availability.available,
        "reason": availability.reason,
        "version": availability.version,
        "version_warnings": list(availability.version_warnings),
        "is_default": is_default,
        "is_demo": spec.is_demo,
        "default_model": spec.defaults.get("model") if may_use(None) else None,
        "models": [model for model in spec.models if may_use(model)],
        "aliases": {alias: model for alias, model in spec.aliases.items() if may_use(model if model != spec.name else None)},
        "options": {name: _honoured(spec, name, rights) for name in OPTION_NAMES},
        "allowed_extra": sorted(policy.extra_of(rights, spec)),
        "streams_tokens": spec.streams_tokens,
        "takes_images": spec.takes_images,
        "can_resume": spec.can_resume,
        "isolation": {"sandbox": confinement.sandbox or "none", "limits": confinement.limits.given()},
        "warm": {"max": spec.warm.max, "ready": ready} if spec.warm and spec.may_be_warm and not confinement else None,
    }


def _honoured(spec: BackendSpec, name: str, rights: Rights) -> bool | list[str]:
    """False, True, or the supported values that the key may ask for."""
    rule = spec.options.get(name)
    if rule and (modes := policy.modes_of(rights, spec, name)) is not None:
        return sorted(modes)
    if rule is None or rule.values is None:
        return rule is not None
    return sorted(rule.values)


class EventEncoder:
    """Events → bytes, one JSON object each, as NDJSON lines or SSE frames. Caches the fields common to a stream's events."""

    def __init__(
        self,
        stream_facts: Mapping[str, Any],
        *,
        as_sse: bool,
        mark: Mapping[str, Any] | None = None,
        sequence: Iterator[int] | None = None,
    ) -> None:
        """``mark``: fields added to every event. ``sequence``: source of event numbers. Both serve streams with several runs."""
        self._facts = dict(stream_facts)
        self._as_sse = as_sse
        self._mark = dict(mark or {})
        self._sequence = sequence or count(1)
        self._common = b""
        self._share(None)

    def __call__(self, batch: Batch) -> bytes:
        if not batch:
            return sse.KEEP_ALIVE if self._as_sse else b""
        facts, numbers, timestamp, frames = self._facts, self._sequence, now().encode(), []
        for event in batch:  # hot path: executed for every token
            if type(event) is Started:
                self._share(event.session_id)
            kind, content, more = CONTENT[type(event)](event, facts)
            number = next(numbers)
            line = LINE % (kind, self._common, timestamp, number, more, orjson.dumps(content))
            frames.append(sse.NUMBERED % (kind, number, line) if self._as_sse else line + b"\n")
        return b"".join(frames)

    def _share(self, session_id: str | None) -> None:
        common = {**self._mark, "backend": self._facts["backend"], "session_id": session_id}
        self._common = orjson.dumps(common)[1:-1]


LINE = b'{"type":"%s",%s,"timestamp":"%s","sequence":%d%s,"content":%s}'
IS_PARTIAL = {True: b',"is_partial":true', False: b',"is_partial":false'}


def _init(event: Started, facts: Mapping[str, Any]) -> dict[str, Any]:
    """``fallback`` is there only if another backend was asked first."""
    content = {"run_id": facts["run_id"], "model": event.model or facts["model"]}
    return {**content, "fallback": fallback} if (fallback := facts.get("fallback")) else content


def _done(event: Finished, facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "exit_code": event.exit_code,
        "stop_reason": event.stop_reason,
        "duration_ms": facts["elapsed_ms"](),
        "token_usage": to_usage(event.usage),
        **to_cost(event),
        "ignored": facts["ignored"],
        "denied_tools": to_denied_tools(event.denied_tools),
    }


def _error(event: Failed, facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "code": RUN_FAILURE_CODES[event.kind],
        "message": event.message,
        "exit_code": event.exit_code,
        "duration_ms": facts["elapsed_ms"](),
        "token_usage": to_usage(event.usage),
        **to_cost(event),
        "denied_tools": to_denied_tools(event.denied_tools),
    }


CONTENT: dict[type, Callable[[Any, Mapping[str, Any]], tuple[bytes, Any, bytes]]] = {
    Started: lambda event, facts: (b"init", _init(event, facts), b""),
    Text: lambda event, _: (b"message", event.text, IS_PARTIAL[event.is_partial]),
    Thinking: lambda event, _: (b"thinking", event.text, b""),
    ToolCall: lambda event, _: (b"tool_use", {"id": event.id, "name": event.name, "input": event.input}, b""),
    ToolProgress: lambda event, _: (b"tool_progress", {"id": event.id, "tool": event.name, "elapsed_secs": event.elapsed_s}, b""),
    ToolResult: lambda event, _: (b"tool_result", {"id": event.id, "output": event.output, "is_error": event.is_error}, b""),
    UsageUpdate: lambda event, _: (b"token_usage", to_usage(event.usage), b""),
    Finished: lambda event, facts: (b"done", _done(event, facts), b""),
    Failed: lambda event, facts: (b"error", _error(event, facts), b""),
}
"""Our event → its native type, its content, and its additional JSON members."""
