"""`clinvk runs follow` and `clinvk runs wait`: a run is shown, or waited for. Leaving either leaves the run alone."""

from __future__ import annotations

import argparse
import math
import time
from typing import Any

import gevent

from app.cli.client.connect import INTERRUPTED, TIMED_OUT, connected
from app.cli.client.events import show_events
from app.cli.client.outcome import report_outcome, show_output
from app.cli.client.parts import MEMBERS, show_progress
from app.cli.client.reconnect import while_away
from app.cli.client.remote import NotReachable, Refused
from app.cli.client.run_events import TEXT_OF, RunEvents, show_text
from app.cli.client.run_ids import ask_run, run_path
from app.cli.client.screen import Progress, complain, interject, note, say_json
from services.runs.record import ENDED

WAIT_S = 30.0
"""How long one request waits for the end."""
QUESTION_POLL_S = 5.0
"""How often a run is looked at that waits for somebody's answer."""

STATES = {"queued": "waiting in the queue", "waiting": "the agent waits for an answer"}
"""What is shown on a terminal meanwhile, by status."""


def run_follow(args: argparse.Namespace) -> int:
    with connected(args, may_start=False) as remote:
        path = run_path(remote, args.id)
        run = ask_run(remote, "GET", path)
        events = RunEvents(remote, path, args.after, args.reconnect_secs)
        try:
            show(run, events, as_lines=args.json)
            run = while_away(lambda: ask_run(remote, "GET", path), args.reconnect_secs)
        except Refused as refused:
            if refused.status != 410 or args.json:
                raise
            note("its events are kept no longer; this is its result")
            show_output(run)
        except NotReachable as error:
            raise NotReachable(f"{error}; the run may go on: clinvk runs follow {run['id']} --after {events.last}") from None
        except KeyboardInterrupt:
            interject(f"the run goes on; see it with: clinvk runs follow {run['id']} --after {events.last}")
            note(f"stop it with: clinvk runs cancel {run['id']}")
            return INTERRUPTED
    return report_outcome(run)


def show(run: dict[str, Any], events: RunEvents, *, as_lines: bool) -> None:
    """Show the events to the last one."""
    kind, state = run["kind"], state_of(run)
    if kind in TEXT_OF:
        show_text(events, kind, as_lines=as_lines, state=state)
    elif kind not in MEMBERS:
        show_events(events, as_lines=as_lines, state=state)
    elif (end := show_progress(events, kind, None, as_lines=as_lines)) and end["type"] == "result" and not as_lines:
        show_output({"kind": kind, "result": end["content"]})


def run_wait(args: argparse.Namespace) -> int:
    limit_s = math.inf if args.timeout is None else args.timeout
    deadline = time.monotonic() + limit_s
    with connected(args, may_start=False) as remote:
        path = run_path(remote, args.id)
        run = ask_run(remote, "GET", path)
        progress = Progress()
        try:
            while run["status"] not in ENDED and (left_s := deadline - time.monotonic()) > 0:
                progress.show(state_of(run))
                if run["status"] == "waiting":
                    gevent.sleep(min(left_s, QUESTION_POLL_S))
                wait_s = min(left_s, WAIT_S)
                run = while_away(lambda: ask_run(remote, "GET", path, wait=wait_s), round(min(left_s, args.reconnect_secs), 1))  # noqa: B023
        except KeyboardInterrupt:
            interject(f"the run goes on; stop it with: clinvk runs cancel {run['id']}")
            return INTERRUPTED
        finally:
            progress.close()
    if args.json:
        say_json(run)
    if run["status"] not in ENDED:
        complain(f"run {run['id']} is {run['status']} after {limit_s:g} s; it goes on")
        return TIMED_OUT
    if not args.json:
        show_output(run)
    return report_outcome(run)


def state_of(run: dict[str, Any]) -> str:
    return STATES.get(run["status"], "waiting for the agent")
