"""`clinvk parallel`, `chain` and `compare`: several runs, their progress while they go, their results at the end."""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from contextlib import closing
from typing import Any

import yaml

from app.cli.client.connect import FAILED, OK, Usage, connected
from app.cli.client.prompt import OPTIONS, read_text, workdir_for
from app.cli.client.remote import NotReachable, Remote
from app.cli.client.screen import Progress, costs, note, printable, say_json, say_line
from app.config.yaml_errors import place_of, sentence_of

FILE_LIMIT_BYTES = 64 * 1024 * 1024


def run_parallel(args: argparse.Namespace) -> int:
    body = read_file(args.file, "tasks")
    if args.max_parallel is not None:
        body["max_parallel"] = args.max_parallel
    if args.fail_fast:
        body["fail_fast"] = True
    with connected(args) as remote:
        give_workdirs(body["tasks"], remote, args.file)
        answer = carry_out(remote, "/api/v1/parallel", body, args, member="task")
    return report(answer, args, member="task")


def run_chain(args: argparse.Namespace) -> int:
    body = read_file(args.file, "steps")
    steps = body["steps"]
    with connected(args) as remote:
        give_workdirs(steps[:1] if body.get("pass_working_dir") else steps, remote, args.file)
        answer = carry_out(remote, "/api/v1/chain", body, args, member="step")
    if args.json or args.ndjson or args.dry_run:
        return report(answer, args, member="step")
    for part in answer["results"]:
        note(heading(part, "step"))
    last = [part["output"] for part in answer["results"] if part["output"]]
    if last:
        say_line(last[-1])
    return verdict(answer)


def run_compare(args: argparse.Namespace) -> int:
    names = [name.strip() for name in (args.backends or "").split(",") if name.strip()]
    if not names:
        raise Usage("which backends? For example: -b claude,codex or -b codex/gpt-5,codex/gpt-5-mini")
    targets = [{"backend": name} | ({"model": model} if model else {}) for name, _, model in (name.partition("/") for name in names)]
    body = {name: value for name in OPTIONS if (value := getattr(args, name, None)) is not None}
    body |= {"prompt": read_text(args.text), "targets": targets, "sequential": args.sequential}
    with connected(args) as remote:
        if workdir := workdir_for(remote, args.workdir, is_default=True):
            body["workdir"] = workdir
        answer = carry_out(remote, "/api/v1/compare", body, args, member="task")
    return report(answer, args, member="task")


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


def carry_out(remote: Remote, path: str, body: dict[str, Any], args: argparse.Namespace, *, member: str) -> dict[str, Any]:
    """The answer, with the progress of its runs until then."""
    if args.dry_run:
        answer: dict[str, Any] = remote.ask("POST", path, {**body, "dry_run": True})
        return answer
    total = len(body.get("tasks") or body.get("steps") or body.get("targets") or ())
    progress = Progress()
    states: dict[int, str] = {}
    try:
        with closing(remote.lines(path, body)) as events:
            for event in events:
                if args.ndjson:
                    say_json(event, is_line=True)
                if event["type"] == "result":
                    content: dict[str, Any] = event["content"]
                    return content
                states[event[member]] = event["type"] if event["type"] in ("done", "error") else "running"
                progress.show(progress_line(Counter(states.values()), total))
    finally:
        progress.close()
    raise NotReachable("the stream ended before the result came")


def progress_line(counts: Counter[str], total: int) -> str:
    """``counts``: runs that have begun, by state."""
    shown = {"running": counts["running"], "waiting": total - counts.total(), "failed": counts["error"]}
    return ", ".join([f"{counts['done']} of {total} done", *(f"{count} {state}" for state, count in shown.items() if count)])


def report(answer: dict[str, Any], args: argparse.Namespace, *, member: str) -> int:
    """Every result under a heading of its own."""
    if args.ndjson and not args.dry_run:
        return verdict(answer)
    if args.json or args.dry_run:
        say_json(answer if args.json else [part["argv"] for part in answer["results"]])
        return OK if args.dry_run else verdict(answer)
    for part in answer["results"]:
        say_line(heading(part, member))
        say_line(part["output"] or "(no output)")
        say_line("")
    return verdict(answer)


def heading(part: dict[str, Any], member: str) -> str:
    name = f" {part['name']}" if part.get("name") else ""
    model = f" {part['model']}" if part.get("model") else ""
    why = f": {part['error']}" if part.get("error") else ""
    cost = f" ({costs(part)})" if costs(part) else ""
    return printable(f"== {member} {part[member]}{name} -- {part['backend']}{model} -- {part['status']}{cost}{why}")


def verdict(answer: dict[str, Any]) -> int:
    return OK if all(part["status"] == "completed" for part in answer["results"]) else FAILED
