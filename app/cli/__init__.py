"""The `clinvk` command. `main` patches before anything else is imported; `app.cli.command` is the rest."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """The console script. Exits with 0, 1 (the command failed), or 2 (usage or configuration error)."""
    if sys.argv[1:] in (["--version"], ["version"]):  # scripts ask often: without the imports of everything else
        from app.version import program_version

        print(f"clinvk {program_version()}")
        return
    # Ctrl-C during the imports ends the process without a traceback. A shell's background job ignores it throughout.
    on_interrupt = signal.getsignal(signal.SIGINT)
    if on_interrupt is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    from app.startup import making_what_stays, patch_blocking_calls

    with making_what_stays():
        patch_blocking_calls()
        from app.cli.command import run

    signal.signal(signal.SIGINT, on_interrupt)
    raise SystemExit(run())
