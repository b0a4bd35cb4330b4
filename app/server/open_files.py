"""The limit of open files: raised as far as the system lets us, told where that is not enough."""

from __future__ import annotations

import resource

from app.config.schema import ServerSettings

FILES_PER_RUN = 6
"""The client's connection, stdout, stdin, the control socket, the folder's lock; one more for a moment."""
FILES_ANYWAY = 128
MOST = 1 << 20
"""More than this is of no use, and some systems call their limit endless."""


_at_start: list[int] = []


def limit_at_start() -> int | None:
    """The soft limit that the program was started with, where it was raised since: the CLIs keep it."""
    return _at_start[0] if _at_start else None


def needed(server: ServerSettings) -> int:
    """Descriptors of one worker, when all its connections and runs are there."""
    return FILES_ANYWAY + server.worker_connections + server.max_concurrent_runs * (FILES_PER_RUN - 1)


def raise_limit(server: ServerSettings) -> str | None:
    """Raise the soft limit for the workers to come; in words what they cannot have, if anything."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(needed(server), MOST)
    if _is_less(soft, wanted):
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            _at_start.append(soft)
        except (OSError, ValueError):  # macOS has a smaller limit than it says
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
