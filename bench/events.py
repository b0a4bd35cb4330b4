"""Events a second and CPU for each of them, of one stream and of 50, against a program in C that copies and frames the same lines.

    python -m bench events

The CLI is a C program too (`c/pour.c`), which has its lines ready; only the server's own CPU time counts, and that of `c/copy.c`.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from bench.clocks import own_cpu_s, rounds
from bench.section import Section
from tests.parts.server import Server

EVENTS = 100_000
STREAMS = 50
EVENTS_OF_EACH = 10_000
PAUSE_US = 10_000
"""Between the lines of a stream that trickles: 100 a second."""
TRICKLED = 400
"""Lines of each of those."""
PIPE_BYTES = 1 << 20
NOTE = f"""\
Conversion of Claude Code's lines, one short delta each, to server-sent events. A C program writes them, one write a line: one stream of
{EVENTS:,}, {STREAMS} of {EVENTS_OF_EACH:,} at a time, and {STREAMS} of {TRICKLED} at a slow pace ({1_000_000 // PAUSE_US} a second each); the start of the runs is included. *C* parses no line: it puts `data: ` before each and sends
it in HTTP chunks, with one write per read of the pipe, or one per event. CPU in microseconds per event, medians; all
ways in turn. Target: at most 3 times the CPU of the C copy, for one stream."""

Measured = tuple[float, float]
"""Events a second; CPU seconds an event."""


def lines(count: int) -> bytes:
    """One answer of Claude Code in ``count`` deltas, as `recordings/claude/partial` has them."""
    more = {"session_id": "6f0e4fd4-7f8c-4a57-8c2e-0f4d3a4b5c6d", "uuid": "3f1c8d52-4f60-4b53-9f1b-6c8e5c0c9b11"}
    usage = {"input_tokens": 11, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 5, "output_tokens": 7}

    def line(**fields: object) -> bytes:
        return json.dumps(fields | more, separators=(",", ":")).encode() + b"\n"

    def event(**fields: object) -> bytes:
        return line(type="stream_event", event=fields, parent_tool_use_id=None)

    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": usage}
    head = [line(type="system", subtype="init", model="m"), event(type="message_start", message=message)]
    head.append(event(type="content_block_start", index=0, content_block={"type": "text", "text": ""}))
    deltas = [event(type="content_block_delta", index=0, delta={"type": "text_delta", "text": f" tok{i % 1000}"}) for i in range(count)]
    tail = [event(type="content_block_stop", index=0), event(type="message_stop")]
    tail.append(line(type="result", subtype="success", is_error=False, result="", stop_reason="end_turn", usage=usage))
    return b"".join(head + deltas + tail)


def compile_c(name: str, folder: Path) -> Path:
    program = folder / name
    subprocess.run(["cc", "-O2", "-o", program, Path(__file__).with_name("c") / f"{name}.c"], check=True)
    return program


def drain(connection: socket.socket) -> int:
    """Read an answer to its end; how many events it held."""
    buffer, events, tail = bytearray(1 << 20), 0, b""
    while size := connection.recv_into(buffer):
        data = tail + buffer[:size]
        events += data.count(b"data: {")
        tail = data[-6:]
        if data.endswith(b"0\r\n\r\n"):
            break
    return events


def copied(copy: Path, pour: list[str], streams: int, *mode: str) -> Measured:
    """The C program's, one process a stream."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(streams) as pool:
        start = time.perf_counter()
        copies, clients = [], []
        for _ in range(streams):
            clients.append(socket.create_connection(listener.getsockname()))
            accepted, _ = listener.accept()
            read, write = os.pipe()
            fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
            with accepted:
                copies.append((subprocess.Popen(pour, stdout=write), subprocess.Popen([copy, *mode], stdin=read, stdout=accepted)))
            os.close(read)
            os.close(write)
        events = sum(pool.map(drain, clients))
        taken_s = time.perf_counter() - start
        cpu = 0.0
        for poured, process in copies:
            _, _, used = os.wait4(process.pid, 0)
            process.returncode = poured.wait()
            cpu += used.ru_utime + used.ru_stime
        for client in clients:
            client.close()
    return events / taken_s, cpu / events


def served(server: Server, streams: int) -> Measured:
    body = json.dumps({"backend": "claude", "prompt": "x", "output_format": "stream-json", "ephemeral": True}).encode()
    head = "POST /api/v1/prompt HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nAccept: text/event-stream\r\n"
    port = int(server.url.rpartition(":")[2])

    def one(_: int) -> int:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            return drain(connection)

    before, start = own_cpu_s(server), time.perf_counter()
    with ThreadPoolExecutor(streams) as pool:
        events = sum(pool.map(one, range(streams)))
    taken_s = time.perf_counter() - start
    return events / taken_s, (own_cpu_s(server) - before) / events


@contextmanager
def pouring(folder: Path, pour: list[str]) -> Iterator[Server]:
    folder.mkdir()
    limits = {"max_concurrent_runs": STREAMS, "rate_limit_enabled": False, "log_level": "warning"}
    server = Server(folder, {"server": limits, "backends": {"claude": {"command": pour, "warm": {"max": 0}}}})
    try:
        served(server, 2)
        yield server
    finally:
        server.stop()


def measure(*, quick: bool = False) -> Section:
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        pour, copy = compile_c("pour", folder), compile_c("copy", folder)
        for title, streams, count, pause_us in (
            ("one stream", 1, EVENTS, 0),
            (f"{STREAMS} streams", STREAMS, EVENTS_OF_EACH, 0),
            (f"{STREAMS} streams that trickle", STREAMS, TRICKLED, PAUSE_US),
        ):
            told = folder / f"lines-{count}"
            told.write_bytes(lines(count))
            command = [str(pour), str(told), *([str(pause_us)] if pause_us else [])]
            with pouring(folder / title, command) as server:
                rows += compare(title, copy, command, server, streams, 3 if quick else 9)
    return Section(
        title="Events",
        note=NOTE,
        columns=("lines", "way", "events/s", "CPU µs an event", "of C, one write a read", "of C, one write an event"),
        rows=rows,
    )


def compare(title: str, copy: Path, pour: list[str], server: Server, streams: int, count: int) -> list[tuple[str, ...]]:
    ways: dict[str, Callable[[], Measured]] = {
        "C, one write a read": lambda: copied(copy, pour, streams),
        "C, one write an event": lambda: copied(copy, pour, streams, "each"),
        "server": lambda: served(server, streams),
    }
    found: dict[str, list[Measured]] = {way: [] for way in ways}
    for _ in rounds(count, 30):
        for way, run in ways.items():
            found[way].append(run())
    middle = {way: [statistics.median(column) for column in zip(*values, strict=True)] for way, values in found.items()}
    by_read, by_event = middle["C, one write a read"][1], middle["C, one write an event"][1]
    return [
        (title, way, f"{rate:,.0f}", f"{cpu * 1e6:.2f}", f"{cpu / by_read:.1f}", f"{cpu / by_event:.1f}")
        for way, (rate, cpu) in middle.items()
    ]
