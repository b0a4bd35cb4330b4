"""`python -m app.cli.private_server PARENT_PID [CONFIG]`: a server on a free loopback port for one command, ended by the kernel with it.

The secret of the command is in CLINVK_API_KEY. It is the operator's own, so it may do everything.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
ADDRESS = {"server.host": "127.0.0.1", "server.port": 0}


def main() -> None:
    parent, config = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))
        if os.getppid() != int(parent):
            raise SystemExit(0)

    from app.startup import making_what_stays, patch_blocking_calls

    with making_what_stays():
        patch_blocking_calls()
        from app.config.load import load_settings
        from app.config.problems import SettingsError, print_problems
        from app.config.schema import Settings
        from app.server.serve import serve

    def read() -> Settings:
        return load_settings(config, overrides=ADDRESS)

    secret = os.environ.pop("CLINVK_API_KEY")
    try:
        raise SystemExit(serve(read(), read=read, secret_of_this_run=secret))
    except SettingsError as error:
        print_problems(error)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
