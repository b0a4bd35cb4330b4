"""`python -m app.cli.private_server PARENT_PID [OPTIONS]`: `clinvk serve` on a free loopback port, ended by the kernel with its parent."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, *options = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))
        if os.getppid() != int(parent):
            raise SystemExit(0)

    from app.startup import making_what_stays, patch_blocking_calls

    with making_what_stays():
        patch_blocking_calls()
        from app.cli.command import run

    raise SystemExit(run(["serve", "--host", "127.0.0.1", "--port", "0", *options]))


if __name__ == "__main__":
    main()
