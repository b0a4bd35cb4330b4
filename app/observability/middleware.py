"""The outermost layer, in WSGI: the current request, last-resort errors, the log line at the end, the write timeout."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from app.api.aliases import resolve_alias
from app.api.surfaces import error_answer, surface_of
from app.observability.access_log import log_request
from app.observability.context import CurrentRequest, Environ, request_of, set_current_request
from app.observability.logs import error_log
from app.security.proxies import TrustedProxies

StartResponse = Callable[..., Any]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]


class RequestObserver(Protocol):
    """Both must be quick, wait for nothing and raise nothing."""

    def begin(self, request: CurrentRequest) -> None: ...

    def finish(self, request: CurrentRequest) -> None:
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
        request = request_of(environ)
        answer = Answer(request, start_response, self._write_timeout_s, self._observers)
        request.proxy = self._proxies.apply(environ)
        try:
            body = self._app(environ, answer.start)
        except Exception as error:
            body = answer.fail(error)
        return Body(answer, body)


class Answer:
    """The answer to one request, until its body is closed."""

    __slots__ = ("_connection", "_observers", "_start_response", "_surface", "_write_timeout_s", "request")

    def __init__(
        self, request: CurrentRequest, start_response: StartResponse, write_timeout_s: float, observers: Sequence[RequestObserver]
    ) -> None:
        self.request = request
        self._observers = observers
        self._start_response = start_response
        self._write_timeout_s = write_timeout_s
        self._connection = request.environ.get("gunicorn.socket")
        self._surface = surface_of(request.environ["PATH_INFO"])
        request.surface = self._surface.name
        set_current_request(request)
        for observer in observers:
            observer.begin(request)

    def start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        request = self.request
        request.status = int(status[:3])
        request.headers = headers
        headers.append(("X-Request-ID", request.request_id))
        if name := self._surface.request_id_header:
            headers.append((name, request.request_id))
        headers.extend(request.answer_headers.items())
        headers.append(("X-Content-Type-Options", "nosniff"))
        if self._connection is not None:
            self._connection.settimeout(self._write_timeout_s)
        return self._start_response(status, headers, exc_info) if exc_info else self._start_response(status, headers)

    def fail(self, error: Exception) -> Iterable[bytes]:
        """The answer to an error that Flask could not answer itself."""
        self.log_error(error)
        answer = error_answer(error, self.request.path, self.request.request_id)
        self.request.error_code = answer.code
        headers = [*answer.headers.items(), ("Content-Length", str(len(answer.body)))]
        self.start(f"{answer.status} Error", headers, (type(error), error, error.__traceback__))
        return [answer.body]

    def log_error(self, error: Exception) -> None:
        request = self.request
        fields = {"request_id": request.request_id, "method": request.method, "path": request.path}
        error_log.error("unhandled error", exc_info=error, extra={"fields": fields})

    def end(self) -> None:
        request = self.request
        if self._connection is not None:
            self._connection.settimeout(None)  # the wait for the next request has a limit of its own
        log_request(request)
        for observer in self._observers:
            observer.finish(request)
        set_current_request(None)


class Body(Iterator[bytes]):
    """The answer's body, counted. The server closes it when the last byte is out, or when it could not be."""

    __slots__ = ("_answer", "_body", "_parts")

    def __init__(self, answer: Answer, body: Iterable[bytes]) -> None:
        self._answer: Answer | None = answer
        self._body = body
        self._parts = iter(body)

    def __next__(self) -> bytes:
        answer = self._answer
        assert answer is not None
        try:
            part = next(self._parts)
        except StopIteration:
            answer.request.is_complete = True
            raise
        except Exception as error:
            # Too late for an error response: closing the connection is the only signal left.
            answer.log_error(error)
            raise
        answer.request.bytes += len(part)
        return part

    def close(self) -> None:
        answer, self._answer = self._answer, None
        if answer is None:
            return
        try:
            if close := getattr(self._body, "close", None):
                close()
        finally:
            answer.end()


def _squeeze_slashes(path: str) -> str:
    """``/openai/v1//chat/completions``: a base URL with a slash too many. A redirect would lose the body in some clients."""
    while "//" in path:
        path = path.replace("//", "/")
    return path
