"""Reads secrets from gopass."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping

from app.config.environment import PREFIX
from app.config.problems import Problem, SettingsError

TIMEOUT_S = 30.0
"""Long enough for a pinentry dialog or a hardware token."""


def ask_gopass(path: str, environ: Mapping[str, str]) -> str:
    """The secret at ``path``. Raises SettingsError with gopass's own error message."""

    def fail(message: str) -> SettingsError:
        return SettingsError([Problem("", "server.api_keys_gopass_path", message)])

    if path.startswith("-"):
        raise fail(f"expected a path, got {path!r}")
    try:
        done = subprocess.run(
            ["gopass", "show", "-o", path],
            env={name: value for name, value in environ.items() if not name.startswith(PREFIX)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError:
        raise fail("needs the program gopass, which was not found on PATH; install it, or remove this setting") from None
    except OSError as error:
        raise fail(f"gopass cannot be started: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise fail(f"gopass gave no answer within {TIMEOUT_S:g} s; does it wait for a passphrase?") from None
    if done.returncode:
        words = done.stderr.strip().splitlines()
        raise fail(f"gopass failed for {path!r} with exit code {done.returncode}" + (f": {words[-1]}" if words else ""))
    if not done.stdout.strip():
        raise fail(f"gopass has nothing at {path!r}")
    return done.stdout
