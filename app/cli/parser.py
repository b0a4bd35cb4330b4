"""argparse with a command's own usage for its mistakes, and suggestions for misspelt and former commands."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Collection, Sequence
from typing import Any, NoReturn

from services.suggestion import close_match

RESUME = 'use clinvk sessions resume ID "…", or clinvk prompt -c "…" for the last session of this folder'

FORMER_COMMANDS = {
    "resume": RESUME,
    "config": "use clinvk doctor; the configuration is the file ~/.clinvk/config.yaml",
    "mcp": "there is no MCP server in this version",
}
"""Commands of the original clinvk, and what to use instead."""

FORMER_WORDS = {
    "clean": "session.retention_days deletes old sessions",
    "--last": RESUME,
    "--all-backends": "use -b claude,codex,gemini",
    "-o": "use --json or --ndjson",
    "--output": "use --json or --ndjson",
    "--output-format": "use --json or --ndjson",
    "--quiet": "without a terminal, only the answer is printed",
}
"""Actions and options of the original clinvk, and what to use instead."""


class Parser(argparse.ArgumentParser):
    """Reports unknown arguments itself, so that a command's mistake shows the command's usage."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._hint(unknown)}")
        return namespace, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            message = f"invalid choice: {value!r} (choose from {', '.join(map(repr, action.choices))})"
            raise argparse.ArgumentError(action, message + self._hint([value], list(map(str, action.choices))))

    def _hint(self, words: Sequence[str], known: Collection[str] = ()) -> str:
        for word in (str(word).partition("=")[0] for word in words):
            if word in FORMER_WORDS:
                return f"; {FORMER_WORDS[word]}"
            if match := close_match(word, known or self._option_string_actions):
                return f"; did you mean {match!r}?"
        return ""

    def refuse_unknown_command(self, argv: Sequence[str], commands: Collection[str]) -> None:
        """Exit with what was probably meant, where ``argv`` begins with no command."""
        if not argv or argv[0] in commands or (argv[0].startswith("-") and argv[0] not in ("-c", "--continue")):
            return
        self._refuse(argv, commands)

    def _refuse(self, argv: Sequence[str], commands: Collection[str]) -> NoReturn:
        first = argv[0]
        match = close_match(first, commands)
        meant = [match, *argv[1:]] if match else ["prompt", *argv]
        hint = FORMER_COMMANDS.get(first) or f"did you mean: clinvk {shlex.join(meant)}"
        self.exit(2, f"clinvk: {first!r} is not a command; {hint}\n")
