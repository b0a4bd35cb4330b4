"""Raises the open file limit as far as the system allows, and reports when that is not enough."""

from __future__ import annotations

import resource

from app.config.schema import ServerSettings

FILES_PER_RUN = 6
"""The client's connection, stdout, stdin, the control socket, the folder's lock, and one more briefly."""
FILES_ANYWAY = 128
MOST = 1 << 20
"""More is never needed, and some systems report no limit."""


_at_start: list[int] = []


def limit_at_start() -> int | None:
    """The soft limit at startup if it has been raised since: the CLIs keep the original limit."""
    return _at_start[0] if _at_start else None


def needed(server: ServerSettings) -> int:
    """Descriptors that one worker needs at its maximum of connections and runs."""
    return FILES_ANYWAY + server.worker_connections + server.max_concurrent_runs * (FILES_PER_RUN - 1)


def raise_limit(server: ServerSettings) -> str | None:
    """Raise the soft limit for the workers. Returns a message if it stays too low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(needed(server), MOST)
    if _is_less(soft, wanted):
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            _at_start.append(soft)
        except (OSError, ValueError):  # macOS's effective limit is below the one it reports
            most = soft
        soft = most
    if not _is_less(soft, wanted):
        return None
    return (
        f"the system allows this process {soft} open files, and {wanted} may be needed (server.worker_connections, "
        "server.max_concurrent_runs): raise it with `ulimit -n`, or LimitNOFILE= of systemd; beyond it runs are refused"
    )


def _is_less(limit: int, wanted: int) -> bool:
    return limit != resource.RLIM_INFINITY and limit < wanted
