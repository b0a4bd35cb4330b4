"""`clinvk usage`: what runs have used, as a table or as JSON."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from app.cli.client.connect import OK, Command, connected
from app.cli.client.lists import say_table
from app.cli.client.screen import duration, note, say_json

PATH = "/api/v1/usage"
SUMMED = ("RUNS", "FAILED", "INPUT", "CACHED", "OUTPUT", "COST", "TIME")
FILTERS = {"group_by": "group_by", "from": "since", "to": "until", "key": "key", "backend": "backend", "model": "model"}
"""Parameter of the query → option."""


def add_usage_command(commands: Any, add: Callable[[Any, str, Command, str], argparse.ArgumentParser]) -> None:
    usage = add(commands, "usage", run_usage, "runs, tokens and cost: your own, or with an admin's key everybody's")
    usage.add_argument("--by", dest="group_by", metavar="GROUPS", help="some of day,key,backend,model (default: day)")
    usage.add_argument("--since", metavar="TIME", help="a date, or RFC 3339 with a zone (default: the day 29 days before --until)")
    usage.add_argument("--until", metavar="TIME", help="the end, excluded (default: now)")
    usage.add_argument("--key", metavar="NAME", help="of this key alone")
    usage.add_argument("-b", "--backend", metavar="NAME", help="of this backend alone")
    usage.add_argument("-m", "--model", metavar="NAME", help="of this model alone")
    usage.add_argument("--json", action="store_true", help="the server's response, for programs")


def run_usage(args: argparse.Namespace) -> int:
    with connected(args) as remote:
        answer = remote.ask("GET", PATH, query={name: getattr(args, option) for name, option in FILTERS.items()})
    if args.json:
        say_json(answer)
        return OK
    groups, rows = answer["group_by"], answer["usage"]
    cells = [[row[group] or "(not known)" for group in groups] + _summed(row) for row in rows]
    total = ["total", *([""] * (len(groups) - 1)), *_summed(answer["total"])]
    say_table([*(group.upper() for group in groups), *SUMMED], [*cells, total])
    if any(row.get("cost_estimated") for row in rows):
        note("~ in part an estimate by `prices` of the server's configuration")
    return OK


def _summed(sums: dict[str, Any]) -> list[str]:
    counts = [f"{sums[name]:,}" for name in ("runs", "failures", "input_tokens", "cached_tokens", "output_tokens")]
    cost = f"{'~' if sums.get('cost_estimated') else ''}${sums['cost_usd']:,.4f}"
    return [*counts, cost, duration(sums["seconds"])]
