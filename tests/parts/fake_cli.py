"""A scripted CLI: a real process with the output of Claude Code's stream-json, plain JSON lines, or plain text.

Started as ``python -I -S fake_cli.py [--dialect=claude|jsonl|text] [anything]``; imports almost nothing, because it
is started hundreds of times. The prompt comes on stdin, or as the last argument if that contains a script. The text after
``#do ``, up to the end of its line, is the script: a list of steps, each ``[name, arg, …]`` (`STEPS`; tests write it
with `parts.clis.do`). A prompt without a script is answered with "You said: " and the prompt.

With ``--input-format=stream-json`` (Claude's) it waits for one message and answers control requests before and after it;
a message with ``shouldQuery: false``, and the assistant's, only become part of the conversation, as Claude Code takes them
(recordings claude/…/history-plain); with ``--refuses=SUBTYPE`` it answers those of that kind with an error, with ``--deaf`` none; with ``--unmoved`` it does not say that it has such a message. With ``--stays`` it waits for the next
message after its last line, until EOF on stdin. On SIGUSR1 its memory grows by 64 MB.

With ``CLAUDE_CONFIG_DIR`` set it stores a transcript as Claude Code does: none with --no-session-persistence; --resume=ID
requires an existing one. One line for the prompt, one for the answer.

With ``FAKE_CLI_REPORTS=DIR`` the process writes DIR/<pid>-<birth>.json when it has its prompt: pid, argv, cwd, names of the
environment variables, prompt, history (the messages before it); DIR/<pid>.2.json for the second message; and appends the ids of what it starts to DIR/<pid>.children.
"""

import _signal as signal  # the public module imports enum, which takes as long as starting the interpreter
import os
import sys
import time

ARGS = sys.argv[1:]
DIALECT = next((arg.partition("=")[2] for arg in ARGS if arg.startswith("--dialect=")), "claude")
IS_STREAM = "--input-format=stream-json" in ARGS
STAYS = IS_STREAM and "--stays" in ARGS
REFUSES = [arg.partition("=")[2] for arg in ARGS if arg.startswith("--refuses=")]
REPORTS = os.environ.get("FAKE_CLI_REPORTS", "")
PID = os.getpid()
BORN = time.monotonic_ns()
"""Added to the PID in file names: PIDs are reused."""
ME = f"{PID}-{BORN}"
RESUMED = next((arg.partition("=")[2] for arg in ARGS if arg.startswith("--resume=")), "")
FOLDER = os.environ.get("CLAUDE_CONFIG_DIR", "")
TRANSCRIPTS = FOLDER and "--no-session-persistence" not in ARGS and f"{FOLDER}/projects/fake"
SESSION = (FOLDER and RESUMED) or f"{BORN >> 16 & 0xFFFFFFFF:08x}-0000-4000-8000-{PID:012d}"
USAGE = {"input_tokens": 11, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 5, "output_tokens": 7}


def encode(value):
    """A JSON subset, sufficient for this file. Importing json would double the start time."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{encode(key)}:{encode(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(encode, value)) + "]"
    if isinstance(value, str):
        from _json import encode_basestring

        return encode_basestring(value)
    return {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else repr(value)


def write(data, to=1):
    view = memoryview(data)
    while view:
        view = view[os.write(to, view) :]


class Over(Exception):
    """A turn has ended and the process continues."""


class Cli:
    """Runs the steps of one script. Claude's framing (init, message, block, result) is written as needed."""

    lines = turns = 0  # of the process

    def __init__(self, prompt):
        Cli.turns += 1
        self.prompt = prompt
        self.said = []
        self.has_started = self.is_open = False
        self.blocks = self.calls = 0
        self.denials = []

    def run(self, steps):
        for name, *args in steps:
            getattr(self, "do_" + name)(*args)
        self.do_result()

    def line(self, **fields):
        write((encode(fields | {"session_id": SESSION}) + "\n").encode())

    def event(self, **event):
        self.line(type="stream_event", event=event, parent_tool_use_id=None)

    def uuid(self):
        Cli.lines += 1
        return f"00000000-{Cli.lines:04d}-4000-8000-{PID:012d}"

    def message(self, **content):
        message = {"id": f"msg_{self.blocks}", "type": "message", "role": "assistant", "model": "fake-model", "content": [content]}
        self.line(type="assistant", message=message, parent_tool_use_id=None, uuid=self.uuid())

    def start(self):
        if not self.has_started and DIALECT == "claude":
            self.line(
                type="system", subtype="init", cwd=os.getcwd(), tools=[], mcp_servers=[], model="fake-model", permissionMode="default"
            )
        self.has_started = True

    def open_block(self):
        self.start()
        if not self.is_open and DIALECT == "claude":
            message = {"id": f"msg_{self.blocks}", "type": "message", "role": "assistant", "content": [], "model": "fake-model"}
            self.event(type="message_start", message=message | {"usage": USAGE | {"output_tokens": 1}})
            self.event(type="content_block_start", index=0, content_block={"type": "text", "text": ""})
            self.said.append("")
        self.is_open = True

    def close_block(self):
        if self.is_open and DIALECT == "claude":
            self.message(type="text", text=self.said[-1])
            self.event(type="content_block_stop", index=0)
            self.event(type="message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage=USAGE)
            self.event(type="message_stop")
            self.blocks += 1
        self.is_open = False

    def do_init(self):
        """Only the first line; every other step of the framing writes it implicitly."""
        self.start()

    def do_say(self, text):
        self.open_block()
        if DIALECT == "claude":
            self.said[-1] += text
            self.event(type="content_block_delta", index=0, delta={"type": "text_delta", "text": text})
        elif DIALECT == "jsonl":
            write((encode({"type": "text", "text": text}) + "\n").encode())
        else:
            write(text.encode())

    def do_tokens(self, count, delay_s=0):
        for i in range(count):
            if i and delay_s:
                time.sleep(delay_s)
            self.do_say(f"{' ' if i else ''}tok{i}")

    def do_pid(self):
        self.do_say(str(PID))

    def do_spawner(self):
        """Say the process that started it, of which each worker of the server has one."""
        self.do_say(str(parent_of(os.getppid())))

    def do_echo(self):
        self.do_say(self.prompt)

    def do_tool(self, command, output, seconds=0):
        """A tool call and its result, reported but not run, with so many seconds of silence in between."""
        self.close_block()
        self.start()
        self.calls += 1
        call_id = f"toolu_{self.calls}"
        if DIALECT == "jsonl":
            write((encode({"type": "call", "id": call_id, "name": "Bash", "input": {"command": command}}) + "\n").encode())
            time.sleep(seconds)
            write((encode({"type": "called", "id": call_id, "output": output}) + "\n").encode())
            return
        self.message(type="tool_use", id=call_id, name="Bash", input={"command": command})
        time.sleep(seconds)
        result = {"type": "tool_result", "tool_use_id": call_id, "content": output, "is_error": False}
        self.line(type="user", message={"role": "user", "content": [result]}, parent_tool_use_id=None, uuid=self.uuid())

    def do_deny(self, name, input, reason):
        """A tool call that is refused as Claude Code refuses one (recordings claude/perm-denied)."""
        self.close_block()
        self.start()
        self.calls += 1
        call_id = f"toolu_{self.calls}"
        self.message(type="tool_use", id=call_id, name=name, input=input)
        result = {"type": "tool_result", "content": reason, "is_error": True, "tool_use_id": call_id}
        self.line(type="user", message={"role": "user", "content": [result]}, parent_tool_use_id=None, uuid=self.uuid())
        self.denials.append({"tool_name": name, "tool_use_id": call_id, "tool_input": input})

    def do_result(self, is_error=False, message="", status=None, code=None):
        """Write the last line, and exit unless the process stays."""
        self.do_last_line(is_error, message, status)
        if STAYS and not is_error and code is None:
            raise Over
        os._exit(int(is_error) if code is None else code)

    def do_last_line(self, is_error=False, message="", status=None):
        """Write the last line; the next steps continue after it."""
        self.close_block()
        remember(assistant="".join(self.said), uuid=f"00000000-{Cli.lines:04d}-4000-8000-{PID:012d}")
        self.start()
        if DIALECT == "claude":
            cost = 0.25 * Cli.turns
            more = {"api_error_status": status, "duration_ms": 1, "num_turns": 1, "total_cost_usd": cost, "usage": USAGE}
            more["permission_denials"] = self.denials
            text = message or (self.said[-1] if self.said else "")
            self.line(type="result", subtype="success", is_error=is_error, result=text, stop_reason="end_turn", **more)
        elif is_error:
            write((message + "\n").encode(), 2)

    def do_at(self, account, name, *args):
        """Take the step only where FAKE_CLI_ACCOUNT is ``account``."""
        if os.environ.get("FAKE_CLI_ACCOUNT") == account:
            getattr(self, "do_" + name)(*args)

    def do_retry(self, status, error):
        """The model API refused the request, and is asked again (recordings claude/err-429-retries1)."""
        self.start()
        self.line(type="system", subtype="api_retry", attempt=1, max_retries=10, retry_delay_ms=600, error_status=status, error=error)

    def do_limits(self, info):
        """Report the windows of the subscription (recordings claude/plan)."""
        self.start()
        self.line(type="rate_limit_event", rate_limit_info=info, uuid=self.uuid())

    def do_over(self):
        """End the turn after its last line, and exit unless the process stays."""
        if STAYS:
            raise Over
        os._exit(0)

    def do_fail(self, message, status=None):
        self.do_result(True, message, status)

    def do_write(self, text):
        write(text.encode())

    def do_bytes(self, hexadecimal):
        write(bytes.fromhex(hexadecimal))

    def do_stderr(self, text):
        write(text.encode(), 2)

    def do_flood(self, megabytes):
        """Write so much text in deltas of 64 KiB."""
        for _ in range(megabytes * 16):
            self.do_say("x" * 65536)

    def do_long_line(self, megabytes):
        """Write one line of so many MB, a valid delta."""
        self.do_say("x" * (megabytes << 20))

    def do_stderr_flood(self, megabytes):
        for _ in range(megabytes):
            write((b"e" * 127 + b"\n") * 8192, 2)

    def do_wait(self, seconds):
        time.sleep(seconds)

    def do_wait_for(self, path):
        """Wait until the file exists."""
        while not os.path.exists(path):
            time.sleep(0.01)

    def do_append(self, path, text):
        with open(path, "a") as file:
            file.write(text)
        self.do_say(text)

    def do_hang(self):
        while True:
            time.sleep(3600)

    def do_exit(self, code):
        """Exit without a last line."""
        os._exit(code)

    def do_die(self, number):
        if number != signal.SIGKILL:  # SIGKILL cannot be handled
            signal.signal(number, signal.SIG_DFL)
        os.kill(PID, number)

    def do_die_once(self, path):
        """Create the file and die by SIGKILL, unless the file exists."""
        if not os.path.exists(path):
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
            os.kill(PID, signal.SIGKILL)

    def do_signal(self, number, *who):
        """Send a signal to the parent ``supervisor`` or ``spawner``. Checks each process first: an orphan has another parent."""
        supervisor = os.getppid()
        pids = {"supervisor": supervisor, "spawner": parent_of(supervisor)}
        for pid in [pids[name] for name in who]:
            if pid > 1 and "spawner_program.py" in read_file(f"/proc/{pid}/cmdline"):
                os.kill(pid, number)

    def do_daemon(self, seconds):
        """Start `sleep` in its own session without an environment, so that no variable marks it."""
        pid = os.fork()
        if not pid:
            os.setsid()
            for fd in (0, 1, 2):
                os.dup2(os.open(os.devnull, os.O_RDWR), fd)
            os.execve("/bin/sleep", ["sleep", str(seconds)], {})
        if REPORTS:
            with open(f"{REPORTS}/{ME}.children", "a") as file:
                file.write(f"{pid}\n")

    def do_remove(self, path):
        """Remove a folder tree. Variables are expanded: ``$TMPDIR`` is the run's own folder."""
        import shutil

        shutil.rmtree(os.path.expandvars(path), ignore_errors=True)

    def do_ignore(self, number):
        signal.signal(number, signal.SIG_IGN)

    def do_spawn(self, own_session=False, ignores_term=False, keeps_stdout=False):
        """Start `sleep`, which outlives this process unless it is killed."""
        pid = os.fork()
        if not pid:
            if own_session:
                os.setsid()
            if ignores_term:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            if not keeps_stdout:
                for fd in (0, 1, 2):
                    os.dup2(os.open(os.devnull, os.O_RDWR), fd)
            os.execvp("sleep", ["sleep", "3600"])
        if REPORTS:
            with open(f"{REPORTS}/{ME}.children", "a") as file:
                file.write(f"{pid}\n")

    def do_close_stdout(self):
        os.close(1)

    def do_close_stderr(self):
        os.close(2)


def read_file(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def parent_of(pid):
    return int((read_file(f"/proc/{pid}/stat").rpartition(") ")[2].split() or [0, 0])[1])


def report(prompt, history, turn=1):
    facts = {"pid": PID, "argv": ARGS, "cwd": os.getcwd(), "env": sorted(os.environ), "prompt": prompt, "history": history}
    keep("json" if turn == 1 else f"{turn}.json", facts)


def remember(**said):
    if TRANSCRIPTS:
        os.makedirs(TRANSCRIPTS, exist_ok=True)
        with open(f"{TRANSCRIPTS}/{SESSION}.jsonl", "a") as file:
            file.write(encode({"sessionId": SESSION, **said}) + "\n")


def keep(kind, value):
    if REPORTS:
        with open(f"{REPORTS}/{ME}.new", "w") as file:
            file.write(encode(value))
        os.rename(f"{REPORTS}/{ME}.new", f"{REPORTS}/{ME}.{kind}")


def read_all(fd):
    chunks = []
    while chunk := os.read(fd, 1 << 20):
        chunks.append(chunk)
    return b"".join(chunks).decode()


def text_of(line):
    return texts_of(line["message"]["content"])


def texts_of(content):
    """Of a message, or of a tool's result in it."""
    if isinstance(content, str):
        return content
    return "".join(part["text"] if "text" in part else texts_of(part.get("content", "")) for part in content)


class Stream:
    """Claude's ``--input-format=stream-json``: control requests and one message, one per line."""

    def __init__(self):
        self.held = b""
        self.history = []
        """The messages before the one that is to be answered."""

    def line(self):
        while b"\n" not in self.held:
            chunk = os.read(0, 1 << 20)
            if not chunk:
                return None
            self.held += chunk
        line, _, self.held = self.held.partition(b"\n")
        return eval(line.decode(), {"__builtins__": {}, "true": True, "false": False, "null": None})

    def prompt(self):
        """The text of the message. Exits at EOF."""
        while (line := self.line()) is not None:
            if self.takes(line):
                continue
            if line["type"] == "user":
                return text_of(line)
            self.answer(line)
        os._exit(0)

    def next_prompt(self):
        self.arrived.acquire()
        if self.next is None:
            os._exit(0)
        return self.next

    def takes(self, line):
        """Whether the line is a message that needs no answer of the model's."""
        if line["type"] == "assistant":
            self.history.append(line["message"])
        elif line["type"] == "user" and line.get("shouldQuery", True) is False:
            self.history.append(line["message"])
            if "--unmoved" in ARGS:
                return True
            cli = Cli("")
            cli.start()
            nothing = dict.fromkeys(USAGE, 0)
            more = {"duration_ms": 1, "num_turns": 0, "total_cost_usd": 0.25 * (Cli.turns - 1), "usage": nothing}
            cli.line(type="result", subtype="success", is_error=False, result="", stop_reason=None, **more)
            Cli.turns -= 1
        else:
            return False
        return True

    def taken(self):
        """The messages since the last answer."""
        history, self.history = self.history, []
        return history

    def answer(self, line):
        subtype = line["request"]["subtype"]
        if "--deaf" in ARGS:
            return
        if subtype == "initialize":
            keep("initialize", line["request"])
        verdict = (
            {"subtype": "error", "error": f"Unsupported control request subtype: {subtype}"}
            if subtype in REFUSES
            else {"subtype": "success"}
        )
        response = {"type": "control_response", "response": {"request_id": line["request_id"], **verdict}}
        write((encode(response) + "\n").encode())

    def listen(self):
        """From now on an interrupt ends the process after its last line. Runs in a thread, which costs an import."""
        import _thread

        self.arrived = _thread.allocate_lock()
        self.arrived.acquire()

        def wait():
            while (line := self.line()) is not None:
                if self.takes(line):
                    continue
                if line["type"] == "user":
                    self.next = text_of(line)
                    self.arrived.release()
                    continue
                self.answer(line)
                if line["request"]["subtype"] == "interrupt":
                    write((encode({"type": "result", "subtype": "error_during_execution", "is_error": True, "result": ""}) + "\n").encode())
                    keep("interrupted", True)
                    os._exit(1)
            self.next = None
            self.arrived.release()

        _thread.start_new_thread(wait, ())


def main():
    if "--version" in ARGS:
        write(b"2.1.197 (Claude Code)\n")
        return
    stream = Stream() if IS_STREAM else None
    hoard = []
    signal.signal(signal.SIGUSR1, lambda *_: hoard.append(b"x" * (64 << 20)))
    prompt = stream.prompt() if stream else ARGS[-1] if ARGS and "#do " in ARGS[-1] else read_all(0)
    report(prompt, stream.taken() if stream else [])
    if stream:
        stream.listen()
    while True:
        try:
            answer(prompt)
        except Over:
            prompt = stream.next_prompt()
            report(prompt, stream.taken(), Cli.turns + 1)


def answer(prompt):
    if TRANSCRIPTS and RESUMED and not os.path.exists(f"{TRANSCRIPTS}/{SESSION}.jsonl"):
        Cli(prompt).do_fail(f"No conversation found with session ID: {SESSION}")
    remember(user=prompt)
    _, marker, rest = prompt.partition("#do ")
    # JSON is a Python literal except for three constants; the script comes from the test.
    words = {"__builtins__": {}, "true": True, "false": False, "null": None}
    steps = eval(rest.split("\n", 1)[0], words) if marker else [["say", "You said: "], ["echo"]]
    Cli(prompt).run(steps)


main()
