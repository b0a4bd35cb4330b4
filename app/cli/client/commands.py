"""The client commands on the command line: their names, options and help."""

from __future__ import annotations

import argparse
from typing import Any, get_args

from app.cli.client.connect import Command, exit_code
from app.cli.client.lists import run_backends, run_delete, run_list, run_show
from app.cli.client.prompt import run_prompt
from app.cli.client.run_commands import add_background_options, add_run_commands
from app.cli.client.several import run_chain, run_compare, run_parallel
from app.cli.client.usage import add_usage_command
from services.requests import ApprovalMode, SandboxMode

EPILOG = """\
The server: --server or CLINVK_SERVER_URL; else the one that the configuration describes, if it runs; else one that is
started for this command. Its key: CLINVK_API_KEY. Exit codes: 0 success, 1 a run failed, 2 wrong command or configuration,
3 no server or refused by it, 130 Ctrl-C, which also stops the runs, unless they are in the background.
"""


def add_client_commands(commands: Any) -> None:
    """Add them to ``commands``, the result of `add_subparsers`."""
    prompt = _add(commands, "prompt", run_prompt, "run one prompt and stream the answer")
    prompt.add_argument("text", nargs="?", help="the prompt; `-` or nothing: stdin")
    prompt.add_argument("-b", "--backend", metavar="NAME", help="the CLI to use (default: the server's default backend)")
    prompt.add_argument("--session", metavar="ID", help="continue this session")
    prompt.add_argument("-c", "--continue", dest="continues", action="store_true", help="continue the last session of this folder")
    prompt.add_argument("--ephemeral", action="store_true", help="keep no session")
    prompt.add_argument("--title", help="title of the new session")
    prompt.add_argument("--tag", dest="tags", action="append", help="tag of the new session; may be repeated")
    _add_run_options(prompt, model=True)
    add_background_options(prompt)

    parallel = _add(commands, "parallel", run_parallel, "run the prompts of a file at once")
    parallel.add_argument("-f", "--file", required=True, help="YAML or JSON, as the body of POST /api/v1/parallel; `-`: stdin")
    parallel.add_argument("--max-parallel", type=int, metavar="N", help="how many at a time")
    parallel.add_argument("--fail-fast", action="store_true", help="the first failure stops the others")
    _add_outputs(parallel)
    add_background_options(parallel)

    chain = _add(commands, "chain", run_chain, "run the prompts of a file one after the other; {{previous}} is the last output")
    chain.add_argument("-f", "--file", required=True, help="YAML or JSON, as the body of POST /api/v1/chain; `-`: stdin")
    _add_outputs(chain)
    add_background_options(chain)

    compare = _add(commands, "compare", run_compare, "run one prompt on several backends")
    compare.add_argument("text", nargs="?", help="the prompt; `-` or nothing: stdin")
    compare.add_argument("-b", "--backends", metavar="A,B", help="backends, or backend/model")
    compare.add_argument("--sequential", action="store_true", help="one after the other")
    _add_run_options(compare, model=False)
    add_background_options(compare)

    add_run_commands(commands)

    sessions = commands.add_parser("sessions", help="list, show, continue and delete sessions")
    actions = sessions.add_subparsers(dest="action", metavar="{list,show,resume,delete}", required=True)
    listed = _add(actions, "list", run_list, "the latest sessions first")
    for name in ("backend", "status", "tag", "workdir", "cursor"):
        listed.add_argument(f"--{name}")
    listed.add_argument("-q", "--search", dest="q", metavar="TEXT", help="free text")
    listed.add_argument("--limit", type=int)
    listed.add_argument("--offset", type=int)
    show = _add(actions, "show", run_show, "one session and its turns")
    show.add_argument("id", help="its id, or the beginning of it")
    resume = _add(actions, "resume", run_prompt, "another turn in a session")
    resume.add_argument("session", metavar="ID", help="its id, or the beginning of it")
    resume.add_argument("text", nargs="?", help="the prompt; `-` or nothing: stdin")
    resume.add_argument("--rebuild", action="store_true", help="if the CLI has lost its session, start a new one with the turns so far")
    resume.set_defaults(ephemeral=False)
    _add_run_options(resume, model=True)
    add_background_options(resume)
    delete = _add(actions, "delete", run_delete, "delete sessions and the CLI's files of them")
    delete.add_argument("id", nargs="+", help="its id, or the beginning of it")
    for parser in (listed, show, delete):
        parser.add_argument("--json", action="store_true", help="the server's response, for programs")

    add_usage_command(commands, _add)

    backends = _add(commands, "backends", run_backends, "the CLIs that the server can run")
    backends.add_argument("--json", action="store_true", help="the server's response, for programs")


def _add(commands: Any, name: str, run: Command, about: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=about,
        description=about[:1].upper() + about[1:] + ".",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--server", metavar="URL", help="the server to use")
    parser.add_argument("--config", metavar="FILE", help="configuration file (default ~/.clinvk/config.yaml)")
    parser.set_defaults(run=exit_code(run))
    return parser


def _add_run_options(parser: argparse.ArgumentParser, *, model: bool) -> None:
    if model:
        parser.add_argument("-m", "--model", help="model, as the CLI names it, or an alias of the backend")
    parser.add_argument("-w", "--workdir", metavar="FOLDER", help="folder that the agent works in (default: this one)")
    parser.add_argument(
        "--approval-mode",
        choices=get_args(ApprovalMode),
        help="which actions the agent may take without approval: default (the CLI's own rule; usually reading only), auto (also edit files), none (everything), always (approval for everything, so nothing)",
    )
    parser.add_argument("--sandbox-mode", choices=get_args(SandboxMode), help="which files the agent's commands may write to")
    parser.add_argument("--system-prompt", metavar="TEXT", help="replaces the CLI's own system prompt")
    parser.add_argument("--max-turns", type=int, metavar="N", help="upper bound of the agent's turns")
    parser.add_argument("--timeout", dest="timeout_secs", type=float, metavar="SECONDS", help="shortens the server's time limit")
    _add_outputs(parser)


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    outputs = parser.add_mutually_exclusive_group()
    outputs.add_argument("--json", action="store_true", help="the whole answer as one JSON object, for programs")
    outputs.add_argument("--ndjson", action="store_true", help="every event as it comes, one JSON object a line")
    parser.add_argument("--dry-run", action="store_true", help="start nothing; show the command lines")
