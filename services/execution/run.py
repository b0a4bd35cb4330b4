"""One process, one run: the loop that reads a CLI's output, whatever its protocol."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Iterator
from functools import partial
from time import monotonic
from typing import Any, Protocol

import gevent

from services.cancellation import Cancellation
from services.clis.conversation import Conversation
from services.clis.spec import Invocation
from services.decoding.decoder import Exit
from services.errors import BackendUnavailable
from services.events import Batch, Failed
from services.execution.driver import Driver, Limits
from services.execution.line_limit import LineLimit, LineTooLong
from services.processes.marks import RunFolder
from services.processes.spawner import Spawner
from services.telemetry import Start

RETRY_S = 5.0
"""When to try again where the system had no file, process or space left."""
INTERRUPT_GRACE_S = 0.5
"""How long a CLI that was interrupted by a message may take, before it gets a signal."""


class ProcessDriver(Driver):
    """Starts a process for every run."""

    def __init__(self, spawner: Spawner) -> None:
        self._spawner = spawner

    def start(self, invocation: Invocation, limits: Limits, cancellation: Cancellation) -> ProcessRun:
        run = ProcessRun(invocation, limits, cancellation)
        run.start(self._spawner)
        return run


class Process(Protocol):
    """What a run needs of its process: a `Child`, or a share of one that serves other runs as well."""

    @property
    def exit(self) -> Exit | None: ...
    @property
    def is_gone(self) -> bool: ...

    breach: str | None

    def read(self, timeout_s: float) -> bytes | None: ...
    def send(self, data: bytes) -> None: ...
    def try_send(self, data: bytes) -> bool: ...
    def end_input(self) -> None: ...
    def stop(self, number: int = ..., grace_s: float = ...) -> None: ...
    def wake(self) -> None: ...
    def wait_exit(self, timeout_s: float) -> Exit | None: ...
    def close(self) -> None: ...


class ProcessRun:
    """A `Running` over one process, and the private folder that belongs to it."""

    began_as: Start = "cold"

    def __init__(
        self, invocation: Invocation, limits: Limits, cancellation: Cancellation, conversation: Conversation | None = None
    ) -> None:
        """``conversation``: where it is not that of a process that is started for the run."""
        self._invocation = invocation
        self._limits = limits
        self._cancellation = cancellation
        self._conversation = conversation or invocation.spec.conversation(invocation)
        self._is_cut_short = False
        self._kill_timer: Any = None
        self._process: Process | None = None
        self._folder: RunFolder | None = None
        self.last_output_at = monotonic()
        self._output_bytes = 0
        self._line_limit = LineLimit(limits.line_limit_bytes)
        self._stop_listening: Callable[[], None] | None = None

    def start(self, spawner: Spawner) -> None:
        """Start the process. Raises BackendUnavailable; then nothing of the run is left."""
        try:
            self._start(spawner)
        except OSError as error:
            self.close()
            reason = error.strerror or str(error)
            raise BackendUnavailable(f"the run cannot be started: {reason}", issue=reason, retry_after_s=RETRY_S) from None
        except BaseException:
            self.close()
            raise

    def _start(self, spawner: Spawner) -> None:
        invocation = self._invocation
        self._folder = RunFolder(invocation.run_dir)
        invocation.prepare()
        stdin = None if self._conversation.needs_pipe else invocation.stdin
        env = {**invocation.env, **invocation.own_env} if invocation.own_env else invocation.env
        self._process = spawner.start(invocation.argv, env=env, cwd=invocation.cwd, stdin=stdin)
        self._stop_listening = self._cancellation.listen(self._stop)

    def attach(self, process: Process, folder: RunFolder | None) -> None:
        """Instead of `start`: run in a process that is there already. It belongs to this run from now on."""
        self.began_as = "warm"
        self._process, self._folder = process, folder
        self._stop_listening = self._cancellation.listen(self._stop)

    @property
    def is_retryable(self) -> bool:
        return not self._is_cut_short and self._conversation.is_retryable

    def batches(self) -> Iterator[Batch]:
        process = self._process
        assert process is not None, "not started"
        failure = yield from self._read(process)
        if failure:
            self._stop()
        exit = self._wait_exit(process)
        failure = self._cancellation.failure or failure or self._breach(process)
        yield [failure] if failure else self._conversation.finish(exit or self._unknown_exit(process))

    def close(self) -> None:
        """End what is left of the process and remove the folder. Returns when both are gone."""
        if self._stop_listening:
            self._stop_listening()
            self._stop_listening = None
        if self._kill_timer:
            self._kill_timer.stop()
            self._kill_timer.close()
            self._kill_timer = None
        if self._process:
            self._process.close()
        if self._folder:
            self._folder.remove()

    def _is_kept(self, process: Process) -> bool:
        """Whether the process, whose turn is over, stays for another. Called once; else its stdin is closed."""
        return False

    def _wait_exit(self, process: Process) -> Exit | None:
        if self._is_cut_short:
            process.end_input()
        return process.wait_exit(self._limits.leave_grace_s)

    def _stop(self) -> None:
        """By a message where the protocol has one, and a little later by signal. Runs in the event loop: never blocks."""
        process = self._process
        if not process or self._is_cut_short:
            return
        self._is_cut_short = True
        stop = partial(process.stop, self._invocation.spec.interrupt_signal, self._limits.stop_grace_s)
        if (message := self._conversation.interrupt()) and process.try_send(message):
            self._kill_timer = gevent.get_hub().loop.timer(INTERRUPT_GRACE_S)
            self._kill_timer.start(stop)
        else:
            stop()
        process.wake()

    def _unknown_exit(self, process: Process) -> Exit:
        return Exit(None, was_stopped=self._conversation.is_complete and not process.is_gone)

    def _breach(self, process: Process) -> Failed | None:
        if not process.breach:
            return None
        most = getattr(self._invocation.confinement.limits, process.breach)
        message = f"the run used more than its limit of {most} (run_limits.{process.breach}), so it was stopped"
        return Failed("backend", message, process.exit.code if process.exit else None)

    def _read(self, process: Process) -> Generator[Batch, None, Failed | None]:
        """Yield the CLI's events until its output ends or its work is done; returns the failure of ours that cut it short, if any."""
        conversation, limits = self._conversation, self._limits
        self.last_output_at = monotonic()
        leave_by: float | None = None
        if not self._cancellation.failure:  # else the CLI would get its prompt after the message that stops it
            self._write(process)
        if conversation.closes_stdin:
            process.end_input()
        while not self._cancellation.failure:
            now = monotonic()
            if leave_by and now >= leave_by:
                return None
            data = process.read(min(limits.keepalive_s, limits.idle_output_timeout_s, leave_by - now if leave_by else limits.keepalive_s))
            if data is None:
                yield []
                continue
            if not data:
                return None
            self.last_output_at = monotonic()
            if problem := self._count(data):
                return Failed("backend", problem)
            batch = conversation.receive(data)
            self._write(process)
            if leave_by is None and conversation.is_complete:
                if self._is_kept(process):
                    if batch:
                        yield batch
                    return None
                if self.is_retryable:  # it must not begin what it refused to be set up for: another process may take the run
                    process.stop(signal.SIGKILL, 0.0)
                process.end_input()
                leave_by = monotonic() + limits.leave_grace_s
            if batch:
                yield batch
        return None

    def _write(self, process: Process) -> None:
        if data := self._conversation.outgoing():
            process.send(data)

    def _count(self, data: bytes) -> str | None:
        """Which limit the output has passed, if any."""
        limits = self._limits
        self._output_bytes += len(data)
        try:
            self._line_limit.check(data)
        except LineTooLong as error:
            return f"{error} (server.line_limit_bytes), so the run was stopped"
        if self._output_bytes > limits.max_output_bytes:
            return f"the output passed {limits.max_output_bytes} bytes (server.max_output_bytes), so the run was stopped"
        return None
