"""A request and a table become an invocation: `BackendSpec` applied. Decides everything; starts nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

from services import depth
from services.clis.config_overlay import HOME, PrivateHome, merged, settings_with
from services.clis.environment import cli_environment
from services.clis.safety import check_extra, check_json, check_strings, safe_name, utf8
from services.clis.spec import OPTION_NAMES, BackendSpec, Invocation
from services.errors import InvalidRequest, OptionNotSupported
from services.event_loop import yield_to_others
from services.history import SYSTEM, Message, Part, Text, goes_on_after_calls, strings
from services.processes.confinement import Confinement
from services.requests import RunRequest
from services.transcript import render

REFUSED_IF_UNSUPPORTED = {"json_schema"}
"""Options whose silent loss would make the answer wrong: a backend without them refuses (400)."""

THINKING = "thinking"
"""What is ignored where a CLI must go on without it; no option of a request, for it need not have asked."""

PLACEHOLDER = re.compile(r"\{\}|\{json\}|\{file\}|\{run_dir\}")


def invoke(
    spec: BackendSpec, request: RunRequest, *, cwd: str, environ: Mapping[str, str], run_dir: str, confinement: Confinement | None = None
) -> Invocation:
    """Apply the table: everything a driver needs for ``request``. Raises InvalidRequest for what must not be ignored.

    ``environ`` is what the CLI's environment is picked from; ``run_dir`` is where private files will live. ``confinement``: None
    for the backend's own.
    """
    asked = {**spec.defaults, **{name: value for name, value in request.options.items() if value is not None}}
    history = request.messages
    if (later := _system_texts(history)) and spec.takes_history and not spec.takes_system_in_place:
        history = _without_system(spec, history)
        asked["system_prompt"] = "\n\n".join(filter(None, (asked.get("system_prompt"), *later)))
    build = _Build(spec, run_dir, cli_environment(spec, environ), is_resumed=bool(request.resume))
    for name in sorted(asked, key=_place):
        build.apply(name, asked[name])
    if request.resume and not spec.can_resume:
        raise OptionNotSupported(spec.name, "resume", "this CLI cannot continue a session")
    if not spec.takes_images and any(image for message in request.history for image in message.images):
        raise OptionNotSupported(spec.name, "images", "send text only, or choose a backend that takes images")
    if request.ephemeral:
        build.env |= {key: build.fill(value, "") for key, value in spec.ephemeral_env.items()}
        build.argv += spec.ephemeral_args
    resume_argv: list[str] = []
    if request.resume:
        session_id = safe_name(request.resume, "session_id")
        resume_argv = [part.replace("{}", session_id) for part in spec.resume_args]
    build.argv += resume_argv
    build.argv += check_extra(spec, request.extra)
    for part in (*request.extra, *spec.extra_args):
        build.set_resumed(part.partition("=")[0])
    messages = build.escaped_messages(history) if spec.takes_history else ()
    if goes_on_after_calls(messages) and not spec.thinks_after_calls and asked.get("thinking_tokens") != 0:
        build.ignored.append(THINKING)
    prompt = "" if messages else build.escaped(_as_one(request))
    build.env |= {"TMPDIR": run_dir, **spec.env, depth.VARIABLE: str(request.depth + 1)}
    confinement = spec.confinement if confinement is None else confinement
    confined = confinement and confinement.resolved(build.env)  # by the real home, before a private one takes its place
    home = spec.session_files.root(build.env) if spec.session_files else ""
    if spec.private_home:
        build.make_home(spec.private_home, is_ephemeral=request.ephemeral)
    stdin = utf8(prompt, "prompt") if spec.prompt_via == "stdin" else b""
    prompt_args = [part.replace("{}", prompt) if spec.prompt_via == "arg" else part for part in spec.prompt_args]
    if confined:
        replace(confined, run_dir=run_dir).put(build.env)
    argv = (*_command(spec, build.env), *spec.args, *build.argv, *spec.extra_args, *prompt_args)
    check_strings(spec, (*argv, *(f"{name}={value}" for name, value in build.env.items())))
    check_json(build.fields)
    for path, content in build.files.items():
        utf8(content, os.path.basename(path).partition(".")[0])
    return Invocation(
        spec=spec,
        request=request,
        argv=argv,
        env=build.env,
        cwd=cwd,
        stdin=stdin,
        messages=messages,
        files=build.files,
        links=build.links,
        folders=tuple(build.folders),
        prompt_files=frozenset(build.prompt_files),
        home=home,
        fields=build.fields,
        confinement=confinement,
        resume_argv=frozenset(resume_argv),
        model=asked.get("model"),
        ignored=tuple(build.ignored),
        run_dir=run_dir,
    )


def _system_texts(messages: Iterable[Message]) -> list[str]:
    """Of the messages that stand among others; those before all others are an option. A CLI that cannot have them there is asked only where
    the request was made for another one, and gets them at the end of its system prompt."""
    return [message.text for message in messages if message.role in SYSTEM]


def _without_system(spec: BackendSpec, messages: Iterable[Message]) -> tuple[Message, ...]:
    others = tuple(message for message in messages if message.role not in SYSTEM)
    if not others or others[-1].role != "user":
        issue = f"for {spec.name} the last message must be the user's"
        raise InvalidRequest(f"messages: {issue}", field="messages", issue=issue)
    return others


def _as_one(request: RunRequest) -> str:
    """The prompt of a CLI without history."""
    if not request.history:
        return request.prompt
    transcript = render(request.history)
    yield_to_others()  # a conversation may have 10 MB
    return transcript


def _command(spec: BackendSpec, env: Mapping[str, str]) -> tuple[str, ...]:
    found = spec.resolve and shutil.which(spec.command[0], path=env.get("PATH"))
    if not spec.resolve or not found:
        return spec.command
    program = spec.resolve(found)
    return spec.command if program == found else (program, *spec.command[1:])


def _place(option: str) -> int:
    names = list(OPTION_NAMES)
    return names.index(option) if option in names else len(names)


class _Build:
    """The parts of an invocation while the options are applied to it."""

    def __init__(self, spec: BackendSpec, run_dir: str, env: dict[str, str], *, is_resumed: bool) -> None:
        self.spec = spec
        self.is_resumed = is_resumed
        self.run_dir = run_dir
        self.env = env
        self.argv: list[str] = []
        self.files: dict[str, str] = {}
        self.links: dict[str, str] = {}
        self.folders: list[str] = []
        self.prompt_files: list[str] = []
        self.fields: dict[str, Any] = {}
        self.ignored: list[str] = []
        self.set_fields(deepcopy(dict(spec.fixed_fields)))

    def apply(self, name: str, value: Any) -> None:
        """Add what option ``name`` means here; ``default`` and False mean that nothing was asked for."""
        if value is False or value == "default" or (isinstance(value, list | tuple) and not value):
            return
        rule = self.spec.options.get(name)
        if rule and rule.values is not None:
            rule = rule.values.get(str(value))
        if rule is None:
            if name in REFUSED_IF_UNSUPPORTED:
                raise OptionNotSupported(self.spec.name, name, "choose a backend that has it (GET /api/v1/backends)")
            self.ignored.append(name)
            return
        if name == "model":
            safe_name(value, "model")
        self.argv += [self.fill(part, value, name) for part in rule.argv]
        self.env |= {key: self.fill(part, value, name) for key, part in rule.env.items()}
        self.set_fields({path: self._fill_any(template, value, name) for path, template in rule.fields.items()})
        self.set_resumed(name)

    def set_resumed(self, name: str) -> None:
        """Set what option or flag ``name`` needs besides where a session is resumed."""
        if self.is_resumed:
            self.set_fields(self.spec.resumed_fields.get(name, {}))

    def escaped_messages(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        """``messages`` as they may reach the CLI: the user's texts as `escaped` prompts. Raises InvalidRequest for half a character."""
        for text in strings(messages):
            utf8(text, "messages")
            yield_to_others()
        if self.spec.escaping:
            self.env |= self.spec.escaping.env
        return tuple(
            replace(message, parts=tuple(map(self._escaped_part, message.parts))) if message.role == "user" else message
            for message in messages
        )

    def _escaped_part(self, part: Part) -> Part:
        yield_to_others()
        return Text(self.escaped(part.text)) if isinstance(part, Text) else part

    def escaped(self, prompt: str) -> str:
        """``prompt`` as it may reach the CLI; sets the rest of what the escaping needs."""
        escaping = self.spec.escaping
        if escaping is None:
            return prompt
        self.env |= escaping.env
        prompt, files = escaping.escape(prompt, os.path.basename(self.run_dir))
        for path, content in files.items():
            self.prompt_files.append(os.path.join(self.run_dir, path))
            self.files[self.prompt_files[-1]] = content
        return prompt

    def set_fields(self, fields: Mapping[str, Any]) -> None:
        for path, value in fields.items():
            *parents, last = path.split(".")
            group = self.fields
            for parent in parents:
                group = group.setdefault(parent, {})
            group[last] = merged(group[last], value) if last in group else value

    def make_home(self, home: PrivateHome, *, is_ephemeral: bool) -> None:
        real = home.real(self.env)
        mine = os.path.join(self.run_dir, HOME, home.folder)
        self.folders += home.shared_folders(real, is_ephemeral=is_ephemeral)
        self.links |= {os.path.join(mine, name): os.path.join(real, name) for name in home.linked(real, is_ephemeral=is_ephemeral)}
        self.files[os.path.join(mine, home.settings)] = settings_with(os.path.join(real, home.settings), self.fields)
        self.env[home.variable] = os.path.join(self.run_dir, HOME)

    def fill(self, template: str, value: Any, name: str = "value") -> str:
        """``template`` with its placeholders replaced once; the value's own braces stay as they are."""

        def put(match: re.Match[str]) -> str:
            match match.group():
                case "{}":
                    return _text(value)
                case "{json}":
                    return _json(value)
                case "{run_dir}":
                    return self.run_dir
            path = os.path.join(self.run_dir, f"{name}.{'json' if isinstance(value, dict) else 'txt'}")
            self.files[path] = _text(value)
            return path

        return PLACEHOLDER.sub(put, template)

    def _fill_any(self, template: Any, value: Any, name: str) -> Any:
        match template:
            case "{}":
                return value
            case str():
                return self.fill(template, value, name)
            case dict():
                return {key: self._fill_any(part, value, name) for key, part in template.items()}
            case list() | tuple():
                return [self._fill_any(part, value, name) for part in template]
        return template


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return _json(value)


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        raise InvalidRequest("the request holds a value that is nested too deep", issue="nested too deep") from None
