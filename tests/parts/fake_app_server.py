"""A scripted `codex app-server`: a real process that implements the part of the protocol that the driver uses, with concurrent threads.

The order and the fields are those of recordings/codex/0.169.0/warm-appserver-basic. A prompt may contain a script as for `fake_cli`
(``#do `` and a list of steps); the steps are the methods `do_…` below. With ``--refuses=METHOD`` it answers that request with
an error; with ``--strange=FILE`` it sends, once while that file exists, nothing recognizable about the requested thread.
On SIGUSR1 its memory grows by 64 MB.

With ``CODEX_HOME`` set it stores the threads that are not ephemeral: one rollout per thread, one line per turn, and a lock while the
thread is loaded, that is until it is archived.

With ``FAKE_CLI_REPORTS=DIR`` it writes DIR/<pid>-<birth>-<number>.json for every turn: pid, argv, cwd, env (names), prompt, and the
parameters of the thread and of the turn, and the items that were injected since the turn before. The prompt is the turn's input, or
else the last message that was injected.
"""

import json
import os
import signal
import sys
import threading
import time

ARGS = sys.argv[1:]
REFUSES = [arg.partition("=")[2] for arg in ARGS if arg.startswith("--refuses=")]
STRANGE = next((arg.partition("=")[2] for arg in ARGS if arg.startswith("--strange=")), "")
REPORTS = os.environ.get("FAKE_CLI_REPORTS", "")
BORN = time.monotonic_ns()
"""Added to the PID in file names: PIDs are reused."""
ME = f"{os.getpid()}-{BORN}"
HOME = os.environ.get("CODEX_HOME", "")
USAGE = {"totalTokens": 18, "inputTokens": 11, "cachedInputTokens": 5, "outputTokens": 7, "reasoningOutputTokens": 0}

writing = threading.Lock()


def write(message):
    data = memoryview(json.dumps(message).encode() + b"\n")
    with writing:
        while data:
            data = data[os.write(1, data) :]


class Turn:
    def __init__(self, thread_id, number, prompt):
        self.ids = {"threadId": thread_id, "turnId": f"turn-{number}"}
        self.prompt = prompt
        self.said = []
        self.is_over = False
        self.is_interrupted = threading.Event()

    def run(self):
        self.tell("turn/started", turn={"id": self.ids["turnId"], "status": "inProgress"})
        _, marker, rest = self.prompt.partition("#do ")
        for name, *args in json.loads(rest.split("\n", 1)[0]) if marker else [["say", f"You said: {self.prompt}"]]:
            getattr(self, "do_" + name)(*args)
            if self.is_over:
                return
            if self.is_interrupted.is_set():
                self.complete("interrupted")
                return
        self.tell("item/completed", item={"type": "agentMessage", "id": "message", "text": "".join(self.said)})
        self.tell("thread/tokenUsage/updated", tokenUsage={"total": USAGE, "last": USAGE})
        self.complete("completed")

    def complete(self, status, error=None):
        self.is_over = True
        self.tell("turn/completed", turn={"id": self.ids["turnId"], "status": status, "error": error})

    def tell(self, method, **params):
        write({"method": method, "params": self.ids | params})

    def do_say(self, text):
        self.said.append(text)
        self.tell("item/agentMessage/delta", itemId="message", delta=text)

    def do_fail(self, message):
        self.complete("failed", {"message": message})

    def do_pid(self):
        self.do_say(str(os.getpid()))

    def do_tokens(self, count, delay_s=0):
        for i in range(count):
            if self.is_interrupted.is_set():
                return
            time.sleep(delay_s)
            self.do_say(f"{' ' if i else ''}tok{i}")

    def do_tool(self, command, output, seconds=0):
        """A tool call and its result, reported but not run, with so many seconds of silence in between."""
        item = {"type": "commandExecution", "id": "call", "command": command, "cwd": os.getcwd(), "status": "inProgress"}
        self.tell("item/started", item=item)
        self.is_interrupted.wait(seconds)
        self.tell("item/completed", item=item | {"status": "completed", "aggregatedOutput": output, "exitCode": 0})

    def do_wait(self, seconds):
        self.is_interrupted.wait(seconds)

    def do_long_line(self, megabytes):
        self.do_say("x" * (megabytes << 20))

    def do_write(self, text):
        """Write ``text`` unchanged between the lines of all threads."""
        with writing:
            os.write(1, text.encode())

    def do_die(self, number):
        """End the process with all its threads; this thread blocks until then."""
        os.kill(os.getpid(), number)
        time.sleep(3600)

    def do_flood(self, megabytes):
        for _ in range(megabytes * 16):
            if self.is_interrupted.is_set():
                return
            self.do_say("x" * 65536)

    def do_wait_for(self, path):
        while not os.path.exists(path) and not self.is_interrupted.is_set():
            time.sleep(0.01)

    def do_hang(self):
        self.is_interrupted.wait()


def rollout(thread_id, is_archived=False):
    folder = f"{HOME}/archived_sessions" if is_archived else f"{HOME}/sessions/2026/11/21"
    os.makedirs(folder, exist_ok=True)
    return f"{folder}/rollout-2026-11-21T12-00-00-{thread_id}.jsonl"


def remember(thread_id, prompt):
    if HOME and os.path.exists(f"{HOME}/{thread_id}.lock"):
        with open(rollout(thread_id), "a") as file:
            file.write(json.dumps({"prompt": prompt}) + "\n")


def lock(thread_id):
    """Lock the thread. Returns the error if it is locked. A lock is void when its process has ended; one without a process stays."""
    path = f"{HOME}/{thread_id}.lock"
    try:
        with open(path, "x") as file:
            file.write(str(os.getpid()))
    except FileExistsError:
        with open(path) as file:
            owner = file.read()
        if not owner or os.path.exists(f"/proc/{owner}"):
            return f"thread {thread_id} already has an active writer"
        with open(path, "w") as file:
            file.write(str(os.getpid()))
    return ""


class AppServer:
    def __init__(self):
        self.threads = {}
        self.turns = {}
        self.injected = {}
        self.count = 0

    def serve(self):
        for line in sys.stdin.buffer:
            request = json.loads(line)
            if "id" not in request or "method" not in request:
                continue
            number, method = request["id"], request["method"]
            problem = f"unknown method {method}" if method in REFUSES else self.problem(method, request["params"])
            if problem:
                write({"id": number, "error": {"code": -32600, "message": problem}})
                continue
            result, then = self.answer(method, request["params"])
            write({"id": number, "result": result})
            if then:
                threading.Thread(target=then, daemon=True).start()

    def problem(self, method, params):
        if method == "thread/archive" and not os.path.exists(rollout(params["threadId"])):
            return f"no rollout found for thread id {params['threadId']}"
        if method != "thread/resume":
            return ""
        if os.path.exists(rollout(params["threadId"], True)):
            return f"session {params['threadId']} is archived. Run `codex unarchive` to unarchive it first."
        return lock(params["threadId"])

    def answer(self, method, params):
        match method:
            case "thread/resume":
                self.threads[params["threadId"]] = params
                return {"thread": {"id": params["threadId"]}, "model": "fake-model"}, None
            case "thread/archive":
                os.rename(rollout(params["threadId"]), rollout(params["threadId"], True))
                os.unlink(f"{HOME}/{params['threadId']}.lock")
                if "--dies-in-between" in ARGS:
                    os._exit(1)
            case "thread/unarchive":
                os.rename(rollout(params["threadId"], True), rollout(params["threadId"]))
                return {"thread": {"id": params["threadId"]}}, None
            case "initialize":
                return {"userAgent": "clinvk/0.169.0 (fake)"}, None
            case "thread/start" if os.path.exists(STRANGE):
                os.unlink(STRANGE)
                return {}, None
            case "thread/start":
                self.count += 1
                thread_id = f"{BORN >> 16 & 0xFFFFFFFF:08x}-0000-4000-8000-{os.getpid():06d}{self.count:06d}"
                self.threads[thread_id] = params
                if HOME and not params["ephemeral"]:
                    lock(thread_id)
                return {"thread": {"id": thread_id}, "model": "fake-model"}, None
            case "thread/inject_items":
                self.injected.setdefault(params["threadId"], []).extend(params["items"])
            case "turn/start":
                self.count += 1
                prompt = "".join(part.get("text", "") for part in params["input"] or self.last_injected(params["threadId"]))
                turn = self.turns[f"turn-{self.count}"] = Turn(params["threadId"], self.count, prompt)
                self.report(prompt, params)
                remember(params["threadId"], prompt)
                return {"turn": {"id": turn.ids["turnId"], "status": "inProgress"}}, turn.run
            case "turn/interrupt":
                self.turns[params["turnId"]].is_interrupted.set()
                if REPORTS:
                    open(f"{REPORTS}/{ME}.interrupted", "w").close()
        return {}, None

    def last_injected(self, thread_id):
        """The parts of the last message."""
        return next((item["content"] for item in reversed(self.injected.get(thread_id, [])) if item["type"] == "message"), [])

    def report(self, prompt, params):
        items = self.injected.pop(params["threadId"], [])
        if not REPORTS:
            return
        report = {"pid": os.getpid(), "argv": ARGS, "cwd": os.getcwd(), "env": sorted(os.environ), "prompt": prompt, "injected": items}
        path = f"{REPORTS}/{ME}-{self.count}"
        with open(f"{path}.new", "w") as file:
            json.dump(report | {"thread": self.threads[params["threadId"]], "turn": params}, file)
        os.rename(f"{path}.new", f"{path}.json")


def main():
    if "--version" in ARGS:
        print("codex-cli 0.169.0")
        return
    hoard = []
    signal.signal(signal.SIGUSR1, lambda *_: hoard.append(b"x" * (64 << 20)))
    AppServer().serve()


main()
