"""The `clinvk` command. `main` patches before anything else is imported; `app.cli.command` is the rest."""

from __future__ import annotations


def main() -> None:
    """The console script. Exits with 0, 1 (it did not work out), or 2 (it was asked for the wrong thing)."""
    from gevent import monkey

    monkey.patch_all()

    from app.cli.command import run

    raise SystemExit(run())
