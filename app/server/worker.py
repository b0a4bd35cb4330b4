"""gunicorn's gevent worker, extended by a graceful stop that waits for requests but not for idle connections, and by a time limit
for a request's head."""

from __future__ import annotations

import errno
import logging
import select
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from struct import Struct
from typing import Any

import flask
import gevent
from gevent.event import Event
from gevent.monkey import get_original
from gevent.pool import Pool
from gevent.server import StreamServer
from gunicorn.glogging import Logger
from gunicorn.http.errors import ParseException
from gunicorn.workers.ggevent import GeventWorker

from app.config.problems import SettingsError
from app.observability.context import to_request_id
from app.security.body import READ_TIMEOUT
from app.server import background
from app.server.malformed import answer_malformed
from app.server.reload import log_refusal, renew
from services.event_loop import yield_to_others

HEARTBEAT_S = 1.0
LATE_MS = 250
"""A request that waited this long is dropped if its client has disconnected."""
DISCARD_BYTES = 65_536
LAST_DATA_RECV = Struct("52xI")
GRACE_MARGIN_S = 10
"""Added to the grace period for gunicorn's ``graceful_timeout``: the drain, and the exit."""


class Worker(GeventWorker):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.busy = 0
        """Requests in progress. An idle keep-alive connection does not count."""
        self._woken = Event()
        self._is_renewal_due = False
        self._is_hurried = False

    def run(self) -> None:
        background.begin(self.wsgi)
        pool = Pool(self.worker_connections)
        servers = []
        for listener in self.sockets:
            listener.setblocking(True)
            server = StreamServer(listener, handle=partial(self.handle, listener), spawn=pool)
            if self.cfg.workers > 1:
                server.max_accept = 1
            server.start()
            servers.append(server)
        while self.alive:
            self.notify()
            if self._is_renewal_due:
                self._is_renewal_due = False
                gevent.spawn(self._renew)
            self._woken.wait(HEARTBEAT_S)
            self._woken.clear()
        for server in servers:
            server.close()
        self._finish()

    def _finish(self) -> None:
        """Let requests finish, stop the remaining runs with an error event, then exit."""
        grace_s = self.cfg.graceful_timeout - GRACE_MARGIN_S
        if self.busy and grace_s > 0 and not self._is_hurried:
            print(background.grace_notice(self.busy, grace_s), file=sys.stderr, flush=True)
        cut_off = background.finish(
            self.wsgi, busy=lambda: self.busy, grace_s=grace_s, is_hurried=lambda: self._is_hurried, beat=self.notify
        )
        if cut_off:
            self.log.warning("stopped %s request(s) that did not finish within the shutdown grace period", cut_off)

    def _renew(self) -> None:
        """Reload the configuration. Requests in progress stay with the old application."""
        try:
            self.wsgi: flask.Flask = renew(self.wsgi)[0]
        except SettingsError as error:
            log_refusal(error)
        except Exception:
            self.log.exception("the configuration could not be reloaded; keeping the old one")

    def init_signals(self) -> None:
        super().init_signals()
        signal.signal(signal.SIGINT, self.handle_interrupt)
        signal.signal(signal.SIGHUP, self.handle_hangup)

    def handle_exit(self, sig: int, frame: Any) -> None:
        super().handle_exit(sig, frame)
        self._woken.set()

    def handle_quit(self, sig: int, frame: Any) -> None:
        """Stop now: runs end with an error event in their streams. The parent waits 2 s for that."""
        self._is_hurried = True
        self.handle_exit(sig, frame)

    def handle_hangup(self, sig: int, frame: Any) -> None:
        self._is_renewal_due = True
        self._woken.set()

    def handle_interrupt(self, sig: int, frame: Any) -> None:
        """Ctrl-C reaches the whole process group: the first stops gracefully, the second at once."""
        (self.handle_exit if self.alive else self.handle_quit)(sig, frame)

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Serve a connection, unless its client gave up in the backlog: serving it would delay clients that still wait."""
        if _has_hung_up(client) and _waited_ms(client) > LATE_MS:
            self.log.debug("dropped a request whose client hung up while it waited for its turn")
            client.close()
            return
        gevent.getcurrent().client = client
        super().handle(listener, client, addr)

    @contextmanager
    def timeout_ctx(self) -> Iterator[None]:
        """Wraps the wait for a request: the idle timeout applies until the head begins, then the read timeout."""
        reader = gevent.getcurrent()
        loop = gevent.get_hub().loop
        timeout = gevent.Timeout(self.cfg.keepalive, False)
        arrival, head_timer = loop.io(reader.client.fileno(), 1), loop.timer(self.wsgi.config[READ_TIMEOUT])

        def head_begins() -> None:
            arrival.stop()
            head_timer.start(reader.throw, timeout)

        # Data that has arrived is read without a loop iteration, so a watcher would miss it.
        if _has_data(reader.client):
            head_begins()
        else:
            arrival.start(head_begins)
        try:
            with timeout:
                yield
        finally:
            for watcher in (arrival, head_timer):
                watcher.stop()
                watcher.close()

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """gunicorn's own response is HTML without a request id."""
        if not isinstance(exc, ParseException):
            super().handle_error(req, client, addr, exc)
            return
        request_id = to_request_id(None)
        self.log.warning("Invalid request from ip=%s: %s", (addr or [""])[0], exc, extra={"fields": {"request_id": request_id}})
        try:
            client.settimeout(0)  # as in gunicorn: do not wait for a client that is not reading
            client.sendall(answer_malformed(exc, request_id))
        except OSError as error:
            self.log.debug("the client did not take the answer: %s", error)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        self.busy += 1
        try:
            super().handle_request(listener_name, req, sock, addr)
            self._discard_rest(req)
        except TimeoutError:
            # The client read nothing for write_timeout_secs. gunicorn would log a traceback for that, but not for a reset.
            raise ConnectionResetError(errno.ECONNRESET, "the client does not read") from None
        finally:
            self.busy -= 1

    def _discard_rest(self, req: Any) -> None:
        """Read what the application left of the body; gunicorn would do so without letting other requests run.

        Raises StopIteration, which closes the connection, if the rest does not arrive within the read timeout.
        """
        if getattr(req.body.reader, "length", None) == 0:  # all of it has arrived
            return
        with gevent.Timeout(self.wsgi.config[READ_TIMEOUT], False):
            while req.body.read(DISCARD_BYTES):
                yield_to_others()
            return
        raise StopIteration


def _has_hung_up(client: socket.socket) -> bool:
    """Whether the peer has closed its side or reset the connection, whatever it sent before.

    POLLHUP and POLLERR are always reported. macOS lacks POLLRDHUP: only a reset shows there.
    """
    poll = get_original("select", "poll")()
    poll.register(client.fileno(), getattr(select, "POLLRDHUP", 0))
    return bool(poll.poll(0))


def _waited_ms(client: socket.socket) -> int:
    """Milliseconds since the last data arrived: ``tcpi_last_data_recv`` of Linux's ``struct tcp_info``. 0 if unknown."""
    if not sys.platform.startswith("linux") or client.family not in (socket.AF_INET, socket.AF_INET6):
        return 0
    info = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, LAST_DATA_RECV.size)
    return int(LAST_DATA_RECV.unpack(info)[0])


def _has_data(client: Any) -> bool:
    """Whether a read would not block."""
    try:
        client._sock.recv(1, socket.MSG_PEEK)  # gevent's own socket never blocks
    except BlockingIOError:
        return False
    except OSError:
        return True  # the following read reports the error
    return True


class Log(Logger):
    """Sends gunicorn's messages, from warnings up, to the server's own log."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log = logging.getLogger("clinvk.gunicorn")
        self.error_log.setLevel(self.loglevel)
