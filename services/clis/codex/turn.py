"""One turn of one thread of `codex app-server`, whoever else uses that process. Pure: what is said to it in, events and requests out.

The order of requests, as captured from codex 0.169.0 (tests/recordings/codex/…/warm-appserver-*):
thread/start | thread/resume → turn/start → notifications … → turn/completed; turn/interrupt at any time in a turn.
With more than one message, thread/inject_items comes before turn/start, as often as there is more to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.clis.codex.decoder import CodexAppServerDecoder
from services.clis.codex.items import to_usage
from services.clis.codex.messages import to_input, to_items
from services.clis.spec import Invocation
from services.decoding.decoder import Exit
from services.decoding.fields import map_of, text_of
from services.events import Batch, Failed, Started
from services.failure_kinds import classify
from services.usage import Usage

Request = tuple[str, dict[str, Any]]


class CodexTurn:
    def __init__(self, invocation: Invocation, config: Mapping[str, str] | None = None) -> None:
        """``config``: keys of Codex's own configuration, for this thread alone."""
        self._invocation = invocation
        self._config = config
        self._requests: list[Request] = []
        self._turn_id = ""
        self._turn: CodexAppServerDecoder | None = None
        self._usage_before: Usage | None = None if invocation.request.resume else Usage()
        self._failure: Failed | None = None
        self._is_unwanted = False
        self._input: list[dict[str, Any]] = []
        """Of the turn; empty where all that is said is injected before."""
        self._pending_items = to_items(())
        self.has_thread = False
        """The process has a thread loaded for this turn."""
        self.thread_id = invocation.request.resume or ""
        self.has_tried = False
        """A turn has been asked for: there may be something to clean up."""
        self.is_misunderstood = False
        """An answer lacked what comes next depends on. If `has_tried`, the turn may go on, and nothing can stop it but the process's end."""
        self.holds_session = False
        """The process has a session loaded that is to outlive this turn. Nobody else may continue it meanwhile."""
        self._is_letting_go = False
        self._was_archived = False

    @property
    def is_ephemeral(self) -> bool:
        return self._invocation.request.ephemeral

    @property
    def is_complete(self) -> bool:
        return self._failure is not None or (self._turn is not None and self._turn.is_complete)

    def begin(self) -> None:
        request = self._invocation.request
        params: dict[str, Any] = {"cwd": self._invocation.cwd, **self._invocation.fields.get("thread", {})}
        if self._config:
            params["config"] = {**params.get("config", {}), **self._config}
        if request.resume and request.ephemeral:
            self._requests.append(("thread/fork", {**params, "threadId": request.resume, "excludeTurns": True, "ephemeral": True}))
        elif request.resume:
            self._requests.append(("thread/resume", {**params, "threadId": request.resume, "excludeTurns": True}))
        else:
            self._requests.append(("thread/start", {**params, "ephemeral": request.ephemeral}))

    def take_requests(self) -> list[Request]:
        requests, self._requests = self._requests, []
        return requests

    def interrupt(self) -> None:
        """Come to an end as soon as may be."""
        if self._is_unwanted:
            return
        self._is_unwanted = True
        if self._turn_id:
            self._ask_to_stop()

    def let_go(self) -> None:
        """Have the process forget the session: then another one may continue it, and `holds_session` is no more so.

        To unsubscribe is not enough, the thread stays loaded and its file locked ("already has an active writer"). To archive it
        unloads it, and to take it out of the archive puts its file back where it was (codex 0.169.0; 10 ms both).
        """
        self._is_letting_go = True
        self._requests.append(("thread/archive", {"threadId": self.thread_id}))

    @property
    def is_listening(self) -> bool:
        """Answers still matter to it."""
        return self._is_letting_go or not self.is_complete

    def answered(self, method: str, result: dict[str, Any]) -> Batch:
        match method:
            case "thread/start" | "thread/resume" | "thread/fork":
                return self._on_thread(result)
            case "thread/inject_items":
                self._go_on()
            case "thread/archive":
                self._requests.append(("thread/unarchive", {"threadId": self.thread_id}))
            case "thread/unarchive" if self._is_letting_go:
                self.holds_session = self._is_letting_go = False
            case "thread/unarchive":
                self.begin()
            case "turn/start":
                if turn_id := _id_of(result, "turn"):
                    self._begin_turn(turn_id)
                elif self._turn is None:
                    self._misunderstand("a turn without an id")
        return []

    def refused(self, method: str, error: Mapping[str, Any]) -> None:
        said = str(error.get("message", error))
        if self._is_letting_go:
            self._is_letting_go = False
        elif method == "thread/resume" and "is archived" in said and not self._was_archived:
            # By hand, or by a process that ended in the middle of letting it go.
            self._was_archived = True
            self._requests.append(("thread/unarchive", {"threadId": self.thread_id}))
        elif method != "turn/interrupt":  # of a turn that has ended meanwhile
            self.fail(said)

    def fail(self, said: str) -> None:
        self._failure = Failed(classify(said), said, exit_code=1)

    def notified(self, method: str, params: dict[str, Any]) -> Batch:
        if self._turn is None and method == "thread/tokenUsage/updated":
            # After thread/resume, and before our turn: what the thread has used so far.
            self._usage_before = to_usage(map_of(map_of(params.get("tokenUsage")).get("total")))
        if method == "turn/started" and params.get("threadId") == self.thread_id and (turn_id := _id_of(params, "turn")):
            self._begin_turn(turn_id)
        return self._turn.notification(method, params) if self._turn else []

    def finish(self, exit: Exit) -> Batch:
        if self._failure:
            return [self._failure]
        if self._turn:
            return self._turn.finish(exit)
        said = exit.stderr_tail.strip()
        return [Failed(classify(said), said or "codex app-server ended before the turn began", exit.code)]

    def _on_thread(self, result: dict[str, Any]) -> Batch:
        thread_id = _id_of(result, "thread")
        if not thread_id:
            self._misunderstand("a thread without an id")
            return []
        self.thread_id = thread_id
        self.has_thread = True
        self.holds_session = not self.is_ephemeral
        messages = self._invocation.messages
        self._input = to_input(messages[0]) or [] if len(messages) == 1 else []
        if not self._input:
            self._pending_items = to_items(messages)
        self._go_on()
        if self._failure:
            return []
        return [Started(None if self.is_ephemeral else self.thread_id, text_of(result.get("model")) or None)]

    def _go_on(self) -> None:
        """Inject more of the conversation, or begin the turn when all has been said."""
        if self._is_unwanted:
            self._failure = Failed("cancelled", "the turn was not begun")
        elif items := next(self._pending_items, None):
            self._requests.append(("thread/inject_items", {"threadId": self.thread_id, "items": items}))
        else:
            turn = {"threadId": self.thread_id, "input": self._input, **self._invocation.fields.get("turn", {})}
            self._requests.append(("turn/start", turn))
            self.has_tried = True

    def _misunderstand(self, what: str) -> None:
        self.is_misunderstood = True
        self.fail(f"codex app-server answered with {what}: it speaks another version of its protocol")

    def _begin_turn(self, turn_id: str) -> None:
        if self._turn is None:
            self._turn_id = turn_id
            self._turn = CodexAppServerDecoder(self.thread_id, turn_id, self._usage_before)
            if self._is_unwanted:
                self._ask_to_stop()

    def _ask_to_stop(self) -> None:
        self._requests.append(("turn/interrupt", {"threadId": self.thread_id, "turnId": self._turn_id}))


def _id_of(message: Mapping[str, Any], what: str) -> str:
    """The id of the message's thread or turn; empty where it names none."""
    return text_of(map_of(message.get(what)).get("id"))
