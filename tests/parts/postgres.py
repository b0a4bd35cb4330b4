"""A PostgreSQL server for the tests, from Debian's package, in a temporary folder with its Unix socket."""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from urllib.parse import quote

from .programs import do_without

USER = "postgres"
SETTINGS = {"listen_addresses": "", "fsync": "off", "max_connections": "100", "shared_buffers": "64MB"}


def require_binaries() -> str:
    """The folder of `initdb` and `pg_ctl`. If missing, skips the test with the reason, or fails it if skips are forbidden."""
    found = shutil.which("initdb")
    folders = [os.path.dirname(os.path.realpath(found))] if found else sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    try:
        import psycopg  # noqa: F401

        reason = "" if folders else "PostgreSQL is not installed: `apt-get install postgresql`"
    except ImportError:
        reason = "psycopg is not installed: `pip install psycopg[binary]`"
    return do_without(reason) if reason else folders[-1]


@contextmanager
def running_postgres() -> Iterator[str]:
    """The URL of a database on a server that runs for the ``with`` block. Root starts it as another user: it refuses root."""
    binaries = require_binaries()
    # Not pytest's folder: the other user cannot read it, and a socket path is limited to 107 characters.
    folder = Path(mkdtemp(prefix="clinvk-pg-"))
    as_user = {}
    if os.geteuid() == 0:
        user = pwd.getpwnam(USER)
        os.chown(folder, user.pw_uid, user.pw_gid)
        as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

    def run(program: str, *args: str) -> None:
        command = [f"{binaries}/{program}", "-D", str(folder / "data"), *args]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, **as_user)  # type: ignore[call-overload]
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"

    options = " ".join(f"-c {name}='{value}'" for name, value in SETTINGS.items())
    try:
        run("initdb", "--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", f"--username={USER}")
        run("pg_ctl", "start", "--wait", "-l", str(folder / "log"), "-o", f"-k {folder} {options}")
        try:
            yield f"postgresql://{USER}@/postgres?host={quote(str(folder), safe='')}"
        finally:
            run("pg_ctl", "stop", "--mode=immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
