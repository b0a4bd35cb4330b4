"""A turn after which its process may stay for the next one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from time import monotonic

import gevent

from services.cancellation import Cancellation
from services.clis.spec import Invocation
from services.decoding.decoder import Exit
from services.events import Batch, Finished
from services.execution.driver import Conversation, Lasting, Limits
from services.execution.run import ProcessRun
from services.execution.session_worker import Transcript, holds, is_alone, stamp_of, transcript_of
from services.processes.child import Child
from services.processes.marks import RunFolder

WRITTEN_S = 0.3
"""A CLI writes its session's file before its last word, or soon after it (Claude Code 2.1.197: 0.1 s, if it is not told to hurry)."""
LOOK_EVERY_S = 0.02

Keep = Callable[[Child, RunFolder, Lasting, Transcript], None]


class LiveRun(ProcessRun):
    """Its end is the CLI's last word, once the turn is known to be in the session's file and nothing of it goes on; else it is
    the end of the process, as ever. Then the client may do with the session what it likes, whether the process stays or not."""

    def __init__(
        self,
        invocation: Invocation,
        limits: Limits,
        cancellation: Cancellation,
        protocol: Conversation,
        keep: Keep,
        transcript: Transcript | None,
    ) -> None:
        """``keep`` takes the process at the run's end. ``transcript``: the session's, before this turn; None: there was none."""
        super().__init__(invocation, limits, cancellation, protocol)
        self._keep = keep
        self._before = transcript
        self._after: Transcript | None = None
        self._is_good = False

    @property
    def has_broken(self) -> bool:
        """Once the prompt is in the session's file, another run would tell it twice."""
        return super().has_broken and (self._before is None or self._before.is_untouched)

    def batches(self) -> Iterator[Batch]:
        for batch in super().batches():
            self._is_good = bool(batch) and isinstance(batch[-1], Finished)
            yield batch

    def close(self) -> None:
        kept = self._child, self._folder, self._protocol, self._after
        stays = self._is_good and not self._is_cut_short and not self._cancellation.failure
        if stays and kept[0] and kept[1] and kept[3] and isinstance(kept[2], Lasting):
            self._child = self._folder = None
            super().close()
            self._keep(kept[0], kept[1], kept[2], kept[3])
        else:
            super().close()

    def _stays(self, child: Child) -> bool:
        if isinstance(self._protocol, Lasting) and self._protocol.last_word:
            deadline = monotonic() + WRITTEN_S
            while not self._cancellation.failure and child.exit is None:
                # Looking at folders and at every process takes a while: not in the event loop.
                self._after = gevent.get_hub().threadpool.apply(self._look, (self._protocol, child.pid))
                if self._after or monotonic() > deadline:
                    break
                gevent.sleep(LOOK_EVERY_S)
        return self._after is not None

    def _wait_exit(self, child: Child) -> Exit | None:
        return Exit(0) if self._after and not self._is_cut_short else super()._wait_exit(child)

    def _look(self, turn: Lasting, pid: int) -> Transcript | None:
        """The session's file with the whole turn in it; None as long as it is not, or something of the turn is still there."""
        files = self._invocation.spec.session_files
        if files is None:
            return None
        if self._before and turn.session_id in os.path.basename(self._before.path):
            found: Transcript | None = Transcript(self._before.path, stamp_of(self._before.path))
        else:
            found = transcript_of(files, turn.session_id, self._invocation.env)
        return found if found and holds(found.path, turn.last_word) and is_alone(pid) else None
