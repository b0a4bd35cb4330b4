"""Why a configuration file cannot be edited."""

from __future__ import annotations


class Unreadable(Exception):
    """The text is not understood. The message says where, and what to do where that is known."""


def line_of(text: str, position: int) -> int:
    """The line that ``position`` is in, from 1."""
    return text.count("\n", 0, position) + 1


def newline_of(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def line_start(text: str, position: int) -> int:
    return text.rfind("\n", 0, position) + 1


def next_line(text: str, position: int) -> int:
    """Where the line after the one of ``position`` begins."""
    end = text.find("\n", position)
    return len(text) if end < 0 else end + 1
