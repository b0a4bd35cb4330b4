"""Descriptors that no greenlet waits on, without what gevent adds to those that one may wait on."""

from __future__ import annotations

from _socket import socketpair as plain_socketpair

from gevent.monkey import get_original

__all__ = ["close_fd", "plain_socketpair"]

# gevent's patched os.close defers closing to a later loop iteration (measured with 26.9: up to seconds later), while the other
# end waits for it. Stop every watcher of a descriptor before closing it with this.
close_fd = get_original("os", "close")
