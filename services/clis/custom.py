"""A CLI that is not built in, from the mapping that declares it in the configuration: ``backends.<name>.custom``.

    custom:
      args: ["run", "--json"]              # first in every command line
      prompt: stdin                        # or arg
      prompt_args: ["--prompt={}"]         # last in the command line; {} stands for the prompt where it is an argument
      options:                             # our options → its flags and variables
        model: ["--model={}"]
        system_prompt: {env: {MYCLI_SYSTEM: "{file}"}}
        approval_mode: {values: {auto: ["--yes"], none: ["--yes", "--force"]}}
      resume: ["--resume={}"]              # {} stands for its session id
      ephemeral: ["--no-save"]
      output: jsonl                        # or text (the default), or json
      rules:                               # jsonl: what a line means, and where its fields are
        - {event: text, when: {type: delta}, fields: {text: content}}
        - {event: usage, when: {type: step}, fields: {output_tokens: usage.out}, add: true}    # of one step each
        - {event: done, when: {type: end, is_error: false}}                 # the value false
        - {event: error, when: {problem: {exists: true}}, fields: {message: problem.text}}      # any value
      fields: {text: response}             # json: where the fields of the one document are

Every mistake is an InvalidRequest whose message begins with the key.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from services.clis.option import Option
from services.clis.spec import OPTION_NAMES, BackendSpec
from services.decoding.decoder import Decoder
from services.decoding.json_document import DOCUMENT_FIELDS, DocumentDecoder
from services.decoding.rules import EVENT_FIELDS, Exists, Rule, RulesDecoder
from services.decoding.text import PlainDecoder
from services.errors import InvalidRequest

KEYS = (
    "args", "prompt", "prompt_args", "options", "resume", "ephemeral", "ephemeral_env", "output", "fields", "rules", "streams_tokens",
    "vendor_env", "fixed_env", "version_args", "install_hint", "login_hint", "credentials", "interrupt_signal", "command",
)  # fmt: skip

FREE_TEXT = ("system_prompt", "allowed_tools")
"""Options whose value a caller words freely: as an argument of its own it could be taken for a flag."""

SIGNALS = {"SIGTERM": int(signal.SIGTERM), "SIGINT": int(signal.SIGINT)}


def declare(name: str, mapping: Mapping[str, Any]) -> BackendSpec:
    """The spec that ``mapping`` declares. Raises InvalidRequest naming the key that is wrong."""
    read = _Reader(mapping)
    read.only(KEYS)
    resume = read.strings("resume")
    if resume and not any("{}" in part for part in resume):
        raise _wrong("resume", "expected '{}' in it, where the session id goes", resume)
    ephemeral, ephemeral_env = read.strings("ephemeral"), read.string_map("ephemeral_env")
    prompt_via = read.one_of("prompt", ("stdin", "arg"), "stdin")
    return BackendSpec(
        name=name,
        command=read.strings("command") or (name,),
        args=read.strings("args"),
        options={option: _option(option, rule) for option, rule in read.map("options").items()},
        decoder=_decoder(read),
        reports_cost=_reports_cost(mapping),
        prompt_via="arg" if prompt_via == "arg" else "stdin",
        prompt_args=_prompt_args(read, prompt_via),
        resume_args=resume,
        can_resume=bool(resume),
        ephemeral_args=ephemeral,
        ephemeral_env=ephemeral_env,
        can_be_ephemeral=bool(ephemeral or ephemeral_env) or not resume,
        streams_tokens=read.flag("streams_tokens", default=read.one_of("output", OUTPUTS, "text") != "json"),
        vendor_env=read.strings("vendor_env"),
        fixed_env=read.string_map("fixed_env"),
        version_args=read.strings("version_args", default=("--version",)),
        install_hint=read.string("install_hint"),
        login_hint=read.string("login_hint"),
        credentials=read.strings("credentials"),
        interrupt_signal=SIGNALS[read.one_of("interrupt_signal", tuple(SIGNALS), "SIGTERM")],
    )


def _prompt_args(read: _Reader, prompt_via: str) -> tuple[str, ...]:
    args = read.strings("prompt_args", default=("--", "{}") if prompt_via == "arg" else ())
    places = [i for i, part in enumerate(args) if "{}" in part]
    if prompt_via == "stdin" and places:
        raise _wrong("prompt_args", "'{}' stands for the prompt, which travels through stdin; say `prompt: arg` or leave it out", args)
    if prompt_via == "arg" and len(places) != 1:
        raise _wrong("prompt_args", "expected one '{}', where the prompt goes", args)
    if prompt_via == "arg" and args[places[0]].startswith("{}") and "--" not in args[: places[0]]:
        raise _wrong(
            "prompt_args", "a prompt that begins with a dash would be read as a flag; write '--prompt={}', or put '--' before", args
        )
    return args


def _option(name: str, rule: Any) -> Option:
    key = f"options.{name}"
    if name not in OPTION_NAMES:
        raise _wrong(key, f"no such option; there are {', '.join(OPTION_NAMES)}")
    return _rule(key, rule, may_be_bare=name not in FREE_TEXT)


def _rule(key: str, rule: Any, *, may_be_bare: bool) -> Option:
    if isinstance(rule, list):
        rule = {"argv": rule}
    if not isinstance(rule, Mapping):
        raise _wrong(key, "expected a list of arguments, or a mapping of argv, env, values", rule)
    read = _Reader(rule, key)
    read.only(("argv", "env", "values"))
    values = read.map("values")
    if values and len(rule) > 1:
        raise _wrong(key, "expected either values, or argv and env")
    argv = read.strings("argv")
    if "{}" in argv and not may_be_bare:
        raise _wrong(f"{key}.argv", "a value that begins with a dash would be read as a flag; write '--flag={}' or '{file}'", argv)
    if values:
        return Option(values={str(value): _rule(f"{key}.values.{value}", part, may_be_bare=True) for value, part in values.items()})
    return Option(argv=argv, env=read.string_map("env"))


def _reports_cost(mapping: Mapping[str, Any]) -> bool:
    rules = mapping.get("rules") or []
    return "cost_usd" in (mapping.get("fields") or {}) or any("cost_usd" in (rule.get("fields") or {}) for rule in rules)


def _decoder(read: _Reader) -> Callable[[], Decoder]:
    output = read.one_of("output", OUTPUTS, "text")
    for key, wanted in (("fields", "json"), ("rules", "jsonl")):
        if key in read.mapping and output != wanted:
            raise _wrong(key, f"is for `output: {wanted}`, and this is `output: {output}`")
    return OUTPUTS[output](read)


def _document(read: _Reader) -> Callable[[], Decoder]:
    fields = read.string_map("fields")
    if "text" not in fields:
        raise _wrong("fields", "expected `text`, the path of the answer in the document", fields)
    _Reader(fields, "fields").only(DOCUMENT_FIELDS)
    return partial(DocumentDecoder, fields)


def _lines(read: _Reader) -> Callable[[], Decoder]:
    rules = read.mapping.get("rules")
    if not isinstance(rules, list) or not rules:
        raise _wrong("rules", "expected a list of rules", rules)
    declared = tuple(_line_rule(f"rules[{i}]", rule) for i, rule in enumerate(rules))
    if not any(rule.event in ("text", "message") or (rule.event == "done" and "text" in rule.fields) for rule in declared):
        raise _wrong("rules", "expected one that gives the answer: `event: text`, or `event: message`")
    adding = {rule.adds for rule in declared if rule.event == "usage"}
    if len(adding) > 1:
        at = next(i for i, rule in enumerate(declared) if rule.adds)
        raise _wrong(f"rules[{at}].add", "either every `usage` rule adds or none: one that replaces would undo what others have added")
    return partial(RulesDecoder, declared)


def _line_rule(key: str, rule: Any) -> Rule:
    if not isinstance(rule, Mapping):
        raise _wrong(key, "expected a mapping of event, when, fields, add", rule)
    read = _Reader(rule, key)
    read.only(("event", "when", "fields", "add"))
    event = read.one_of("event", tuple(EVENT_FIELDS), "")
    fields = read.string_map("fields")
    _Reader(fields, f"{key}.fields").only(EVENT_FIELDS[event])
    needed = {"text": "text", "message": "text", "thinking": "text", "tool_call": "name", "error": "message"}.get(event)
    if needed and needed not in fields:
        raise _wrong(f"{key}.fields", f"expected `{needed}`, its path in the line", fields)
    adds = read.flag("add", default=False)
    if adds and event != "usage":
        raise _wrong(f"{key}.add", "is for `event: usage`", event)
    when = {path: _condition(f"{key}.when.{path}", path, value, fields) for path, value in read.map("when").items()}
    return Rule(event, when, fields, adds)


def _condition(key: str, path: str, value: Any, fields: Mapping[str, str]) -> Any:
    """What a rule asks of a path. Plain ``true`` asks for the value true, which is no text, no number, and holds no fields."""
    if isinstance(value, Mapping):
        read = _Reader(value, key)
        read.only(("exists",))
        return Exists(read.flag("exists", default=True))
    if not isinstance(value, str | int | float | bool | None):
        raise _wrong(key, "expected a value to compare with, or {exists: true}", value)
    if value is True:
        for name, paths in fields.items():
            for read_at in map(str.strip, paths.split("+")):
                if read_at.startswith(f"{path}.") or (read_at == path and name != "is_error"):
                    issue = f"is ambiguous: `fields.{name}` reads {read_at}, so the value there is not `true`; write {{exists: true}}"
                    raise _wrong(key, issue, value)
    return value


OUTPUTS: dict[str, Callable[[_Reader], Callable[[], Decoder]]] = {"text": lambda _: PlainDecoder, "json": _document, "jsonl": _lines}


class _Reader:
    """The values of one mapping, checked. ``prefix`` is where it stands."""

    def __init__(self, mapping: Mapping[str, Any], prefix: str = "") -> None:
        self.mapping = mapping
        self._prefix = f"{prefix}." if prefix else ""

    def only(self, known: tuple[str, ...]) -> None:
        for key in self.mapping:
            if key not in known:
                raise _wrong(f"{self._prefix}{key}", f"no such key; there are {', '.join(known)}")

    def string(self, key: str) -> str:
        value = self.mapping.get(key, "")
        if not isinstance(value, str):
            raise self._expected("a string", key)
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        value = self.mapping.get(key, default)
        if not isinstance(value, bool):
            raise self._expected("true or false", key)
        return value

    def strings(self, key: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        value = self.mapping.get(key, default)
        if not isinstance(value, list | tuple) or not all(isinstance(part, str) and part and "\0" not in part for part in value):
            raise self._expected("a list of strings", key)
        return tuple(value)

    def map(self, key: str) -> Mapping[str, Any]:
        value = self.mapping.get(key, {})
        if not isinstance(value, Mapping):
            raise self._expected("a mapping", key)
        return value

    def string_map(self, key: str) -> dict[str, str]:
        value = self.map(key)
        if not all(isinstance(name, str) and isinstance(part, str) and name for name, part in value.items()):
            raise self._expected("a mapping of names to strings", key)
        return dict(value)

    def one_of(self, key: str, choices: Mapping[str, Any] | tuple[str, ...], default: str) -> str:
        value = self.mapping.get(key, default)
        if not isinstance(value, str) or value not in choices:
            raise self._expected(" | ".join(choices), key)
        return value

    def _expected(self, what: str, key: str) -> InvalidRequest:
        return _wrong(f"{self._prefix}{key}", f"expected {what}", self.mapping.get(key))


def _wrong(key: str, issue: str, got: Any = ...) -> InvalidRequest:
    came = "" if got is ... else f", got {repr(list(got) if isinstance(got, tuple) else got)[:200]}"
    return InvalidRequest(f"{key}: {issue}{came}", field=key, issue=issue)
