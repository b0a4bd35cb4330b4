"""A turn after which its process may stay for the next one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from time import monotonic

import gevent

from services.cancellation import Cancellation
from services.clis.conversation import Conversation
from services.clis.spec import Invocation
from services.decoding.decoder import Exit
from services.events import Batch, Finished
from services.execution.driver import Limits
from services.execution.run import Process, ProcessRun
from services.execution.transcript import Transcript, contains, is_alone, stamp_of, transcript_of
from services.processes.child import Child
from services.processes.marks import RunFolder

WRITTEN_S = 0.3
"""A CLI writes its session's file before its last message, or soon after it (Claude Code 2.1.197: 0.1 s, unless it flushes eagerly)."""
LOOK_EVERY_S = 0.02

Keep = Callable[[Child, RunFolder, Conversation, Transcript], None]


class ResumableRun(ProcessRun):
    """Ends with the CLI's last message, once the turn is known to be in the session's file and nothing of it is still running; else
    with its process. Either way the client may then do with the session what it likes."""

    def __init__(
        self,
        invocation: Invocation,
        limits: Limits,
        cancellation: Cancellation,
        conversation: Conversation,
        keep: Keep,
        transcript: Transcript | None,
    ) -> None:
        """``keep`` takes the process at the run's end. ``transcript``: the session's, before this turn; None: there was none."""
        super().__init__(invocation, limits, cancellation, conversation)
        self._keep = keep
        self._before = transcript
        self._after: Transcript | None = None
        self._has_finished = False

    @property
    def is_retryable(self) -> bool:
        """Once the prompt is in the session's file, another run would repeat it."""
        return super().is_retryable and (self._before is None or self._before.is_untouched)

    def batches(self) -> Iterator[Batch]:
        for batch in super().batches():
            self._has_finished = bool(batch) and isinstance(batch[-1], Finished)
            yield batch

    def close(self) -> None:
        process, folder, transcript = self._process, self._folder, self._after
        is_good = self._has_finished and not self._is_cut_short and not self._cancellation.failure
        if is_good and isinstance(process, Child) and folder and transcript:
            self._process = self._folder = None
            super().close()
            self._keep(process, folder, self._conversation, transcript)
        else:
            super().close()

    def _is_kept(self, process: Process) -> bool:
        if self._conversation.checkpoint and isinstance(process, Child):
            deadline = monotonic() + WRITTEN_S
            while not self._cancellation.failure and process.exit is None:
                # Looking at folders and at every process takes a while: not in the event loop.
                self._after = gevent.get_hub().threadpool.apply(self._look, (process.pid,))
                if self._after or monotonic() > deadline:
                    break
                gevent.sleep(LOOK_EVERY_S)
        return self._after is not None

    def _wait_exit(self, process: Process) -> Exit | None:
        return Exit(0) if self._after and not self._is_cut_short else super()._wait_exit(process)

    def _look(self, pid: int) -> Transcript | None:
        """The session's file with the whole turn in it; None as long as it is not, or something of the turn is still running."""
        files, session_id = self._invocation.spec.session_files, self._conversation.session_id
        if files is None or not session_id:  # without the id it would be nobody's, and so anybody's
            return None
        if self._before and session_id in os.path.basename(self._before.path):
            found: Transcript | None = Transcript(self._before.path, stamp_of(self._before.path))
        else:
            found = transcript_of(files, session_id, self._invocation.env)
        return found if found and contains(found.path, self._conversation.checkpoint) and is_alone(pid) else None
