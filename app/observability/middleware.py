"""The outermost layer, in WSGI: request id, client address, last-resort errors, the log line at the end, the write limit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from time import perf_counter
from typing import Any, Protocol

from app.api.aliases import resolve_alias
from app.api.surfaces import Surface, error_answer, surface_of
from app.observability.logs import current_request_id, error_log, log_request, request_id_of
from app.observability.trace_context import to_trace
from app.security.proxies import TrustedProxies

Environ = dict[str, Any]
StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]


current_record: ContextVar[RequestRecord | None] = ContextVar("current_record", default=None)


class RequestObserver(Protocol):
    """Both must be quick, wait for nothing and raise nothing."""

    def begin(self, record: RequestRecord) -> None: ...

    def finish(self, record: RequestRecord) -> None:
        """The answer is out, or its client has gone."""


class RequestMiddleware:
    """Wraps Flask, so that it sees every answer, also those that Flask does not make."""

    def __init__(
        self, app: Application, *, proxies: TrustedProxies, write_timeout_s: float, observers: Sequence[RequestObserver] = ()
    ) -> None:
        self._app = app
        self._proxies = proxies
        self._write_timeout_s = write_timeout_s
        self._observers = observers

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        # Before all else: who looks at the path sees the one that is routed.
        environ["PATH_INFO"] = resolve_alias(_squeeze_slashes(environ["PATH_INFO"]), environ)
        record = RequestRecord(environ, start_response, self._write_timeout_s, self._observers)
        self._proxies.apply(environ)
        try:
            body = self._app(environ, record.start)
        except Exception as error:
            body = record.fail(error)
        return Body(record, body)


class RequestRecord:
    """One request and what becomes of it, until the body is closed."""

    __slots__ = (
        "_connection",
        "_environ",
        "_observers",
        "_start_response",
        "_started_at",
        "_write_timeout_s",
        "bytes",
        "environ",
        "headers",
        "is_complete",
        "notes",
        "request_id",
        "status",
        "trace",
    )

    def __init__(
        self, environ: Environ, start_response: StartResponse, write_timeout_s: float, observers: Sequence[RequestObserver] = ()
    ) -> None:
        self._started_at = perf_counter()
        self._environ = self.environ = environ
        self._observers = observers
        self._start_response = start_response
        self._write_timeout_s = write_timeout_s
        self._connection = environ.get("gunicorn.socket")
        self.request_id = request_id_of(environ)
        self.status = 0
        self.bytes = 0
        self.is_complete = False
        self.headers: list[tuple[str, str]] = []
        self.trace = to_trace(environ.get("HTTP_TRACEPARENT"))
        """Whose trace the request belongs to; then the span of our own, where there is one."""
        self.notes: dict[str, Any] = {}
        """What an observer keeps with the request from its beginning to its end."""
        current_record.set(self)
        current_request_id.set(self.request_id)
        for observer in observers:
            observer.begin(self)

    @property
    def duration_s(self) -> float:
        return perf_counter() - self._started_at

    @property
    def path(self) -> str:
        # WSGI's strings are bytes in Latin-1's clothing (PEP 3333).
        path: str = self._environ["PATH_INFO"]
        return path.encode("latin-1", "replace").decode("utf-8", "replace")

    @property
    def surface(self) -> Surface:
        return surface_of(self._environ["PATH_INFO"])

    def start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        self.status = int(status[:3])
        self.headers = headers
        headers.append(("X-Request-ID", self.request_id))
        if name := self.surface.request_id_header:
            headers.append((name, self.request_id))
        headers.append(("X-Content-Type-Options", "nosniff"))
        if self._connection is not None:
            self._connection.settimeout(self._write_timeout_s)
        return self._start_response(status, headers, exc_info) if exc_info else self._start_response(status, headers)

    def fail(self, error: Exception) -> Iterable[bytes]:
        """The answer to an error that Flask could not answer itself."""
        self.log_error(error)
        answer = error_answer(error, self.path, self.request_id)
        self._environ["clinvk.error"] = answer.code
        headers = [*answer.headers.items(), ("Content-Length", str(len(answer.body)))]
        self.start(f"{answer.status} Error", headers, (type(error), error, error.__traceback__))
        return [answer.body]

    def log_error(self, error: Exception) -> None:
        fields = {"request_id": self.request_id, "method": self._environ["REQUEST_METHOD"], "path": self.path}
        error_log.error("unhandled error", exc_info=error, extra={"fields": fields})

    def end(self) -> None:
        if self._connection is not None:
            self._connection.settimeout(None)  # the wait for the next request has a limit of its own
        log_request(
            method=self._environ["REQUEST_METHOD"],
            path=self.path,
            status=self.status,
            duration_ms=round(self.duration_s * 1000, 1),
            bytes=self.bytes,
            client=self._environ.get("REMOTE_ADDR"),
            key=self._environ.get("clinvk.key"),
            request_id=self.request_id,
            surface=self.surface.name,
            **({} if self.is_complete else {"aborted": True}),
            **({"error": code} if (code := self._environ.get("clinvk.error")) else {}),
            **({"trace_id": self.trace.id} if self.trace else {}),
        )
        for observer in self._observers:
            observer.finish(self)
        current_record.set(None)
        current_request_id.set(None)


class Body(Iterator[bytes]):
    """The answer's body, counted. The server closes it when the last byte is out, or when it could not be."""

    __slots__ = ("_body", "_parts", "_record")

    def __init__(self, record: RequestRecord, body: Iterable[bytes]) -> None:
        self._record: RequestRecord | None = record
        self._body = body
        self._parts = iter(body)

    def __next__(self) -> bytes:
        record = self._record
        assert record is not None
        try:
            part = next(self._parts)
        except StopIteration:
            record.is_complete = True
            raise
        except Exception as error:
            # Too late for an error answer: the connection breaks, which is what tells the client.
            record.log_error(error)
            raise
        record.bytes += len(part)
        return part

    def close(self) -> None:
        record, self._record = self._record, None
        if record is None:
            return
        try:
            if close := getattr(self._body, "close", None):
                close()
        finally:
            record.end()


def _squeeze_slashes(path: str) -> str:
    """``/openai/v1//chat/completions``: a base URL with a slash too many. A redirect would lose the body in some clients."""
    while "//" in path:
        path = path.replace("//", "/")
    return path
