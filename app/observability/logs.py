"""The format of log lines, and where they go. Each line has the id of the request that it was written for."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler
from typing import Any, TextIO

from app.observability.context import current_request

PLAIN_WORD = re.compile(r"[\x21\x23-\x3c\x3e-\x7e]+")
"""Printable ASCII without blank, ``"`` and ``=``: needs no quotes in a text log."""

LOGGERS = ("clinvk", "flask-limiter", "opentelemetry")

error_log = logging.getLogger("clinvk.error")

to_json = json.JSONEncoder(default=str).encode
"""What `json.dumps` with ``default`` would make for each line anew."""


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """The record's own fields, and the id of the request that it was written for."""
    fields: dict[str, Any] = getattr(record, "fields", {})
    request = current_request()
    return fields if request is None or "request_id" in fields else {**fields, "request_id": request.request_id}


class JsonFormatter(logging.Formatter):
    """One JSON object a line; ASCII, so that nothing in a path can end the line or steer a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {"time": at, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        line |= fields_of(record)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return to_json(line)


class TextFormatter(logging.Formatter):
    """For people: the time, the level, the message, then ``name=value``."""

    def format(self, record: logging.LogRecord) -> str:
        words = [f"{name}={_word(value)}" for name, value in fields_of(record).items() if value is not None]
        message = json.dumps(record.getMessage())[1:-1]
        line = f"{self.formatTime(record, '%H:%M:%S')} {record.levelname:<7} {' '.join([message, *words])}"
        return f"{line}\n{_indented(self.formatException(record.exc_info))}" if record.exc_info else line


def _word(value: Any) -> str:
    text = str(value)
    return text if PLAIN_WORD.fullmatch(text) else json.dumps(text)


def _indented(traceback: str) -> str:
    """No line of it looks like one of the log's own, whatever an exception's text holds."""
    lines = (json.dumps(line)[1:-1].replace('\\"', '"') for line in traceback.split("\n"))
    return "\n".join(f"    {line}" for line in lines)


def log_handler(log_format: str, stream: TextIO | None = None, file: str = "") -> logging.Handler:
    """Writes to ``file``, or to ``stream`` (standard error), in the form of ``server.log_format``.

    The next line reopens a file that was moved away (logrotate): no signal is needed, and several
    processes may write to it, each line in one write at the file's end.
    """
    stream = stream or sys.stderr
    as_text = log_format == "text" or (log_format == "auto" and not file and stream.isatty())
    handler = WatchedFileHandler(file, delay=True) if file else logging.StreamHandler(stream)
    handler.setFormatter(TextFormatter() if as_text else JsonFormatter())
    handler.set_name("clinvk")
    return handler


def configure_logging(log_format: str, log_level: str, stream: TextIO | None = None, file: str = "") -> None:
    """Send the server's own loggers to ``file`` or ``stream`` (standard error). A second call replaces the first."""
    handler = log_handler(log_format, stream, file)
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [old for old in logger.handlers if old.get_name() != "clinvk"] + [handler]
        logger.setLevel(log_level.upper())
