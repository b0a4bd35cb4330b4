"""`clinvk parallel`, `chain` and `compare`: one request for several runs, from a file or a list of backends."""

from __future__ import annotations

import argparse
import json
import os
from contextlib import closing
from typing import Any

import yaml

from app.cli.client.background import background_fields, submit
from app.cli.client.connect import FAILED, OK, Usage, connected
from app.cli.client.parts import show_progress, show_results, verdict
from app.cli.client.prompt import OPTIONS, read_text, workdir_for
from app.cli.client.remote import NotReachable, Remote
from app.cli.client.screen import complain, say_json
from app.config.yaml_errors import place_of, sentence_of

FILE_LIMIT_BYTES = 64 * 1024 * 1024


def run_parallel(args: argparse.Namespace) -> int:
    body = read_file(args.file, "tasks") | background_fields(args)
    if args.max_parallel is not None:
        body["max_parallel"] = args.max_parallel
    if args.fail_fast:
        body["fail_fast"] = True
    with connected(args, may_start=not args.background) as remote:
        give_workdirs(body["tasks"], remote, args.file)
        return execute(remote, "parallel", body, args, total=len(body["tasks"]))


def run_chain(args: argparse.Namespace) -> int:
    body = read_file(args.file, "steps") | background_fields(args)
    steps = body["steps"]
    with connected(args, may_start=not args.background) as remote:
        give_workdirs(steps[:1] if body.get("pass_working_dir") else steps, remote, args.file)
        return execute(remote, "chain", body, args, total=len(steps))


def run_compare(args: argparse.Namespace) -> int:
    names = [name.strip() for name in (args.backends or "").split(",") if name.strip()]
    if not names:
        raise Usage("which backends? For example: -b claude,codex or -b codex/gpt-5,codex/gpt-5-mini")
    targets = [{"backend": name} | ({"model": model} if model else {}) for name, _, model in (name.partition("/") for name in names)]
    body = {name: value for name in OPTIONS if (value := getattr(args, name, None)) is not None} | background_fields(args)
    body |= {"prompt": read_text(args.text), "targets": targets, "sequential": args.sequential}
    with connected(args, may_start=not args.background) as remote:
        if workdir := workdir_for(remote, args.workdir, is_default=True):
            body["workdir"] = workdir
        return execute(remote, "compare", body, args, total=len(targets))


def execute(remote: Remote, kind: str, body: dict[str, Any], args: argparse.Namespace, *, total: int) -> int:
    """Run ``body`` on the route of ``kind``, and show its progress and results as the options say. Returns the exit code."""
    path = f"/api/v1/{kind}"
    if args.dry_run:
        answer = remote.ask("POST", path, {**body, "dry_run": True})
        say_json(answer if args.json else [part["argv"] for part in answer["results"]])
        return OK
    if args.background:
        return submit(remote, path, body, args)
    with closing(remote.lines(path, body)) as events:
        end = show_progress(events, kind, total, as_lines=args.ndjson)
    if end is None:
        raise NotReachable("the stream ended before the result came")
    if end["type"] == "error":
        complain(end["content"]["message"])
        return FAILED
    if not args.ndjson:
        show_results(end["content"], kind, as_json=args.json)
    return verdict(end["content"])


def read_file(path: str, member: str) -> dict[str, Any]:
    """The body of a request, as YAML or JSON; a list alone is its ``member``. `-` is stdin."""
    try:
        with open(0 if path == "-" else path, "rb") as file:
            data = file.read(FILE_LIMIT_BYTES + 1)
    except OSError as error:
        raise Usage(f"{path}: {error.strerror}") from None
    if len(data) > FILE_LIMIT_BYTES:
        raise Usage(f"{path} has more than {FILE_LIMIT_BYTES} bytes")
    try:
        body = _parse(data, is_json=path.endswith(".json"))
    except json.JSONDecodeError as error:
        raise Usage(f"{path}:{error.lineno}:{error.colno}: is not valid JSON: {error.msg[:1].lower()}{error.msg[1:]}") from None
    except yaml.YAMLError as error:
        raise Usage(f"{path}{place_of(error)}: is not valid YAML: {sentence_of(error)}") from None
    except RecursionError:
        raise Usage(f"{path}: is nested too deep") from None
    except ValueError as error:
        raise Usage(f"{path}: {error}") from None
    body = {member: body} if isinstance(body, list) else body
    items = body.get(member) if isinstance(body, dict) else None
    if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
        raise Usage(f"{path}: expected an object with a list `{member}`, as the body of a request to /api/v1 has it")
    return dict(body)


def _parse(data: bytes, *, is_json: bool) -> Any:
    try:
        return json.loads(data)  # YAML would read JSON too, but not a tab or half of a surrogate pair
    except ValueError:
        if is_json:
            raise
        return yaml.safe_load(data)


def give_workdirs(items: list[dict[str, Any]], remote: Remote, file: str) -> None:
    """A relative workdir is relative to the file that names it; without one the agent works where the command was called."""
    folder = os.getcwd() if file == "-" else os.path.dirname(os.path.abspath(file))
    for item in items:
        named = item.get("workdir")
        if isinstance(named, str) and remote.is_local:
            item["workdir"] = os.path.join(folder, os.path.expanduser(named))
        elif named is None and remote.is_local:
            item["workdir"] = os.getcwd()
