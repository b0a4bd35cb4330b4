"""Schemas of `/parallel`, `/chain` and `/compare`."""

from __future__ import annotations

from typing import Any, get_args

from marshmallow import ValidationError, fields, validate, validates_schema

from blueprints.native.schemas import (
    NAME_LIMIT,
    PASSED_OVER,
    BackgroundSchema,
    CostEstimated,
    DeniedToolSchema,
    MetaSchema,
    PassedOverSchema,
    Pattern,
    RunOptionsSchema,
    Strict,
    TokenUsageSchema,
    output_format_field,
)
from blueprints.request_fields import Array, Flag
from services.compose.plan import RUNS_LIMIT, Status

LABEL_LIMIT = 64
LABEL = Pattern(r"^[^{}\x00-\x1f]{1,64}$", error=f"must have 1 to {LABEL_LIMIT} characters, none of them a brace")
DRY_RUN = {"description": "Start nothing; return the command lines that would run"}


class TaskSchema(RunOptionsSchema):
    """One of several runs, which store no session."""

    prompt = fields.String(required=True, metadata={"description": "The prompt", "example": "Say hello"})
    name = fields.String(validate=LABEL, metadata={"description": "Your name for the task, repeated in the results"})
    ephemeral = Flag(validate=validate.Equal(True, error="these runs store no session"), metadata={"description": "Always true"})
    output_format = output_format_field()


class ParallelSchema(BackgroundSchema):
    tasks = Array(fields.Nested(TaskSchema()), required=True, least=1, most=RUNS_LIMIT)
    max_parallel = fields.Integer(
        strict=True,
        validate=validate.Range(1),
        metadata={"description": "Maximum concurrent runs; default: `parallel.max_workers`"},
    )
    fail_fast = Flag(metadata={"description": "Stop the other runs on the first failure; default: `parallel.fail_fast`"})
    output_format = output_format_field()
    dry_run = Flag(load_default=False, metadata=DRY_RUN)


class StepSchema(TaskSchema):
    prompt = fields.String(
        required=True,
        metadata={
            "description": "May contain `{{previous}}` and `{{steps.NAME.output}}`; a backslash escapes the braces",
            "example": "Review this: {{previous}}",
        },
    )
    name = fields.String(validate=LABEL, metadata={"description": "Name by which later steps refer to its output"})


class ChainSchema(BackgroundSchema):
    steps = Array(fields.Nested(StepSchema()), required=True, least=1, most=RUNS_LIMIT)
    stop_on_failure = Flag(load_default=True, metadata={"description": "Start no further steps after a failed one"})
    pass_working_dir = Flag(load_default=False, metadata={"description": "A step without `workdir` uses that of the previous step"})
    output_format = output_format_field()
    dry_run = Flag(load_default=False, metadata=DRY_RUN)


class TargetSchema(Strict):
    backend = fields.String(metadata={"description": "Backend to run; default: the configured one", "example": "demo"})
    model = fields.String(validate=validate.Length(1, NAME_LIMIT))


class CompareSchema(RunOptionsSchema, BackgroundSchema):
    class Meta(Strict.Meta):
        exclude = ("backend", "model")

    prompt = fields.String(required=True, metadata={"description": "The prompt for all runs", "example": "Say hello"})
    backends = Array(
        fields.String(), least=1, most=RUNS_LIMIT, metadata={"description": "Each with its default model", "example": ["demo"]}
    )
    targets = Array(
        fields.Nested(TargetSchema()),
        least=1,
        most=RUNS_LIMIT,
        metadata={"description": "Instead of `backends`: pairs of backend and model; several models of one backend are possible"},
    )
    sequential = Flag(load_default=False, metadata={"description": "One after the other instead of all at once"})
    output_format = output_format_field()
    dry_run = Flag(load_default=False, metadata=DRY_RUN)

    @validates_schema
    def either_or(self, data: dict[str, Any], **_: Any) -> None:
        if ("backends" in data) == ("targets" in data):
            raise ValidationError("send exactly one of `backends` and `targets`", "backends")


class PartResultSchema(Strict):
    """The result of one run."""

    name = fields.String(allow_none=True)
    status = fields.String(
        validate=validate.OneOf(get_args(Status)),
        allow_none=True,
        metadata={"description": "`cancelled`: stopped after its start; `skipped`: never started"},
    )
    backend = fields.String(required=True)
    model = fields.String(allow_none=True)
    exit_code = fields.Integer(allow_none=True)
    duration_ms = fields.Integer()
    output = fields.String()
    error = fields.String(allow_none=True)
    error_code = fields.String(allow_none=True, metadata={"description": "Machine-readable error code"})
    token_usage = fields.Nested(TokenUsageSchema, allow_none=True)
    cost_usd = fields.Float(allow_none=True)
    cost_estimated = CostEstimated()
    ignored = fields.List(fields.String(), metadata={"description": "Options that this backend does not support"})
    denied_tools = fields.List(fields.Nested(DeniedToolSchema), metadata={"description": "Tool calls that the CLI refused"})
    fallback = fields.List(fields.Nested(PassedOverSchema), metadata={"description": PASSED_OVER})
    argv = fields.List(fields.String(), metadata={"description": "With `dry_run`: the command line that would run"})


class TaskResultSchema(PartResultSchema):
    task = fields.Integer(required=True, metadata={"description": "Index in `tasks`, from 0"})


class StepResultSchema(PartResultSchema):
    step = fields.Integer(required=True, metadata={"description": "Index in `steps`, from 0"})


class TargetResultSchema(PartResultSchema):
    task = fields.Integer(required=True, metadata={"description": "Index in `backends` or `targets`, from 0"})


class CountsSchema(Strict):
    run_id = fields.String(allow_none=True, metadata={"description": "Null with `dry_run`"})
    completed = fields.Integer()
    failed = fields.Integer()
    cancelled = fields.Integer(metadata={"description": "Runs stopped because another one failed"})
    skipped = fields.Integer(metadata={"description": "Runs never started because another one failed"})
    total_duration_ms = fields.Integer()
    dry_run = fields.Boolean()
    meta = fields.Nested(MetaSchema, required=True)


class ParallelResultSchema(CountsSchema):
    total_tasks = fields.Integer(required=True)
    results = fields.List(fields.Nested(TaskResultSchema), required=True, metadata={"description": "In the order of `tasks`"})


class ChainResultSchema(CountsSchema):
    class Meta(Strict.Meta):
        exclude = ("completed",)

    total_steps = fields.Integer(required=True)
    completed_steps = fields.Integer()
    failed_step = fields.Integer(allow_none=True, metadata={"description": "Index of the first failed step, from 0; null if none failed"})
    results = fields.List(fields.Nested(StepResultSchema), required=True)


class CompareResultSchema(CountsSchema):
    prompt = fields.String(required=True)
    backends = fields.List(fields.String(), required=True, metadata={"description": "The backend of each result, in the same order"})
    results = fields.List(fields.Nested(TargetResultSchema), required=True)
