"""The pictures of ARCHITECTURE.md and docs/, drawn from text: `python -m docs.generate` writes them to docs/images/."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from app.config.schema import ServerSettings
from docs.drawing import Drawing

WIDTH = 860


def request_checks() -> str:
    steps = (
        ("Request head", "arrives within server.read_timeout_secs", "closed"),
        ("Client address", "from trusted proxies; without API keys on a loopback bind: only this machine", "403"),
        ("Declared size", "Content-Length within server.max_request_body_bytes", "413"),
        ("Host", "a name of this server; stops DNS rebinding", "403"),
        ("CORS preflight", "answered here with 204", "403"),
        ("Origin", "for methods that change something; stops other web pages", "403"),
        ("API key", "unless the view is @public; wrong keys are counted for each address", "401, 429"),
        ("Role", "an admin's for views marked @admin", "403"),
        ("Media type", "application/json where there is a body", "415"),
        ("Path and method", "the view; its marks decide what follows", "404, 405"),
        ("Rate limit", "for views marked @runs_cli, for each key or address", "429"),
        ("Body", "arrives in time and in size; JSON of the view's schema", "408, 413, 400"),
        ("Request", "translated into a RunRequest: model, backend, options, workdir", "400, 404"),
        ("Admission", "the CLI is installed; a slot is free, or becomes free in the queue", "503"),
    )
    step, box = 44, 34
    drawing = Drawing(WIDTH, 52 + len(steps) * step + 48, "The checks of a request, in order, each with the status of its refusal")
    drawing.text(24, 32, "Each check in order", "head")
    drawing.text(836, 32, "refused with", "head", anchor="end")
    for number, (title, meaning, status) in enumerate(steps):
        y = 48 + number * step
        drawing.box(24, y, 176, f"{number + 1}. {title}", kind="core" if number > 9 else "box", height=box)
        drawing.text(216, y + 22, meaning, room=480)
        drawing.arrow((702, y + 17), (726, y + 17))
        drawing.box(730, y, 106, "", [status], kind="bad", height=box)
        if number:
            drawing.arrow((112, y - step + box), (112, y))
    y = 48 + len(steps) * step
    drawing.arrow((112, y - step + box), (112, y))
    drawing.box(24, y, 176, "The CLI is started", kind="good", height=box)
    drawing.text(216, y + 22, "no process is started before this point; later failures are the run's own (502, 504)", room=620)
    return drawing.svg()


MODULES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "app": (
        ("config", "settings and their sources"),
        ("api", "surfaces, errors, OpenAPI"),
        ("security", "checks before each request"),
        ("observability", "logs, metrics, traces"),
        ("server", "gunicorn worker, reload"),
        ("cli", "clinvk and client commands"),
        ("clients", "how to configure programs"),
    ),
    "blueprints": (
        ("native", "/api/v1"),
        ("openai", "/openai/v1"),
        ("anthropic", "/anthropic/v1"),
        ("mcp", "/mcp: agents ask agents"),
        ("meta", "/health, /metrics, docs"),
        ("compat", "for both compatible APIs"),
        ("runs", "answered now, later, again"),
    ),
    "services": (
        ("access", "keys and their rights"),
        ("compose", "parallel, chain, compare"),
        ("sessions", "what outlives a run"),
        ("runs", "queue, event log"),
        ("access", "what a key may do"),
        ("quotas", "limits, budgets of keys"),
        ("ledger", "usage, prices"),
        ("store", "SQLite, PostgreSQL"),
        ("execution", "one run loop, warm pools"),
        ("clis", "each CLI as data"),
        ("decoding", "CLI output → events"),
        ("plans", "windows of subscriptions"),
        ("processes", "the only owner of a PID"),
    ),
}
FILES = {
    "app": ("factory, build, …", "the object graph"),
    "blueprints": ("marks, streaming, …", "what every surface shares"),
    "services": ("runner, admission, …", "check → admit → execute"),
}
"""The modules beside the folders, by layer."""

LAYERS = {
    "app": "app: assembles everything, reads the settings",
    "blueprints": "blueprints: HTTP ⇄ RunRequest and events; one folder for each API surface",
    "services": "services: the work; knows no HTTP and no settings",
}


def module_map() -> str:
    columns, gap, height = 4, 12, 52
    width = (WIDTH - 48 - 2 * 16 - (columns - 1) * gap) / columns
    rows = {layer: -(-(len(modules) + 1) // columns) for layer, modules in MODULES.items()}
    total = sum(44 + count * (height + gap) + 30 for count in rows.values())
    drawing = Drawing(WIDTH, total + 18, "The layers app, blueprints and services with their folders; imports go down only")
    y = 24.0
    for layer, modules in MODULES.items():
        area = 36 + rows[layer] * (height + gap) + 4
        drawing.area(24, y, WIDTH - 48, area, LAYERS[layer])
        boxes = [(*FILES[layer], "core"), *((f"{name}/", meaning, "box") for name, meaning in modules)]
        for number, (title, meaning, kind) in enumerate(boxes):
            x = 40 + number % columns * (width + gap)
            drawing.box(x, y + 34 + number // columns * (height + gap), width, title, [meaning], kind=kind, height=height)
        y += area
        if layer != "services":
            drawing.arrow((WIDTH / 2, y), (WIDTH / 2, y + 32), label="imports", at=(WIDTH / 2 + 10, y + 20), anchor="start")
            y += 34
    return drawing.svg()


def agents() -> str:
    drawing = Drawing(WIDTH, 400, "Claude Code asks Codex through the server, within one task, and the chain of agents ends at a limit")
    drawing.box(24, 48, 190, "Claude Code", ["works on your task;", "X-Clinvk-Depth: 0"])
    drawing.box(330, 48, 200, "clinvk  /mcp", ["key, ownership, limits,", "a run in GET /runs"], kind="core")
    drawing.box(646, 48, 190, "Codex", ["started for the question;", "CLINVK_DEPTH=1"])
    drawing.arrow((214, 66), (330, 66), label="prompt", at=(272, 58))
    drawing.arrow((530, 66), (646, 66), label="starts", at=(588, 58))
    drawing.arrow((646, 92), (530, 92), label="events", at=(588, 110))
    drawing.arrow((330, 92), (214, 92), label="progress, answer", at=(272, 110))
    chain = (
        ("you", "depth 0", "box"),
        ("Claude Code", "CLINVK_DEPTH=1", "box"),
        ("Codex", "CLINVK_DEPTH=2", "box"),
        ("refused", "at the limit of 2", "bad"),
    )
    for number, (name, line, kind) in enumerate(chain):
        x = 24 + number * 220
        drawing.box(x, 232, 152, name, [line], kind=kind)
        if number:
            drawing.arrow((x - 68, 256), (x, 256), label="asks", at=(x - 34, 248))
    drawing.text(24, 30, "A second opinion within one task", "head")
    drawing.text(24, 214, "Agents that ask agents that ask agents", "head")
    texts = (
        (
            150,
            "Claude Code calls the tool prompt with the backend codex. It sees progress while Codex works, then the answer and its session_id.",
        ),
        (170, "If you interrupt Claude Code, its call ends, and Codex with all that it started."),
        (316, "Every CLI is started with CLINVK_DEPTH: one more than the request had. Its MCP client sends it back as X-Clinvk-Depth."),
        (336, "From server.mcp_max_depth on, a run is refused on every surface, in words: the agent does this part of the task itself."),
        (366, "So two agents that pass a question back and forth come to an end after two runs, and the first one still answers you."),
    )
    for y, text in texts:
        drawing.text(24, y, text, room=812)
    return drawing.svg()


def process_tree() -> str:
    drawing = Drawing(WIDTH, 490, "The processes of the server and of a run, and what happens when one of them is killed")
    drawing.box(24, 36, 190, "clinvk serve", ["gunicorn's parent process:", "binds, restarts workers"])
    drawing.box(24, 150, 190, "worker", ["gevent: all requests and", "streams; sub-reaper"], kind="core")
    drawing.box(264, 150, 176, "spawner", ["forks supervisors", "beforehand; no threads"])
    drawing.box(490, 150, 160, "supervisor", ["one for each run;", "sub-reaper; limits"], kind="core")
    drawing.box(700, 150, 136, "CLI", ["claude, codex,", "gemini, your own"])
    drawing.box(700, 270, 136, "tools, shells", ["and what they", "start themselves"])
    drawing.arrow((119, 102), (119, 150), label="fork", at=(128, 130), anchor="start")
    drawing.arrow((214, 182), (264, 182), label="jobs", at=(239, 174))
    drawing.arrow((440, 182), (490, 182), label="fork", at=(465, 174))
    drawing.arrow((650, 182), (700, 182), label="exec", at=(675, 174))
    drawing.arrow((768, 216), (768, 270))
    drawing.arrow(
        (180, 150),
        (180, 124),
        (570, 124),
        (570, 150),
        label="control socket: start, stop, exit code; its end ends the run",
        at=(375, 116),
        is_faint=True,
    )
    drawing.arrow((700, 302), (570, 302), (570, 218), is_faint=True)
    drawing.text(560, 268, "adopted when", anchor="end")
    drawing.text(560, 284, "their parent exits", anchor="end")
    killed = (
        ("client leaves, limit passed", "the supervisor ends everything below it"),
        ("worker is killed", "each supervisor sees its socket close and ends its run; a new worker starts"),
        ("spawner is killed", "runs continue under the worker; a new spawner takes the waiting jobs"),
        ("supervisor is killed", "the worker adopts the rest of the run and ends it"),
        ("server is killed", "supervisors end the runs; the next start ends what was left, found by its mark"),
    )
    drawing.text(24, 350, "What happens when …", "head")
    for number, (what, then) in enumerate(killed):
        y = 376 + number * 24
        drawing.text(24, y, what, "", room=200)
        drawing.text(216, y, then, "", room=620)
    return drawing.svg()


def states() -> str:
    drawing = Drawing(WIDTH, 724, "The states of a run, of a session and of a turn, and what changes them")
    drawing.area(24, 24, 812, 196, "Foreground run: lives in one worker")
    drawing.box(44, 92, 120, "checked", ["RunRequest"])
    drawing.box(236, 92, 124, "queued", ["waits for a slot"], kind="wait")
    drawing.box(424, 92, 132, "running", ["events in batches"], kind="core")
    drawing.box(664, 60, 152, "completed", kind="good")
    drawing.box(664, 104, 152, "failed", ["timeout, backend, …"], kind="bad")
    drawing.box(664, 164, 152, "cancelled", kind="bad")
    drawing.arrow((164, 116), (236, 116))
    drawing.arrow((360, 116), (424, 116), label="slot", at=(392, 108))
    drawing.arrow((556, 100), (600, 100), (600, 76), (664, 76), label="exit 0", at=(632, 70))
    drawing.arrow((556, 124), (664, 124), label="exit code, limit", at=(606, 118))
    drawing.arrow((530, 140), (530, 180), (664, 180), label="client left, stop", at=(598, 196))
    drawing.box(372, 160, 120, "refused", ["503 or 499"], kind="bad")
    drawing.arrow((298, 140), (298, 184), (372, 184), label="no slot, client left", at=(290, 204), anchor="middle")
    drawing.area(24, 236, 812, 152, "Session: lives in the store, shared by all servers")
    drawing.box(44, 300, 144, "idle", ["next turn may start"], kind="good", height=52)
    drawing.box(372, 300, 138, "running", ["owner: one process"], kind="core", height=52)
    drawing.box(672, 300, 144, "failed", ["next turn may start"], kind="bad", height=52)
    drawing.arrow((188, 314), (372, 314), label="turn starts (one UPDATE)", at=(280, 306))
    drawing.arrow((372, 338), (188, 338), label="finished or cancelled", at=(280, 356))
    drawing.arrow((510, 314), (672, 314), label="failed, or server died", at=(591, 306))
    drawing.arrow((672, 338), (510, 338), label="turn starts", at=(591, 356))
    drawing.area(24, 404, 812, 132, "Turn: one row of a session")
    drawing.box(44, 452, 120, "running", kind="core", height=32)
    ends = (
        ("finished", "good", "the CLI's answer"),
        ("failed", "bad", "its failure"),
        ("cancelled", "bad", "client left, stop"),
        ("interrupted", "wait", "the server died"),
    )
    for number, (name, kind, meaning) in enumerate(ends):
        x = 236 + number * 150
        drawing.box(x, 476, 130, name, kind=kind, height=32)
        drawing.text(x + 65, 526, meaning, anchor="middle")
        drawing.arrow((164, 460), (x + 65, 460), (x + 65, 476))
    drawing.area(24, 552, 812, 148, "Background run: one row in the store, executed by any worker")
    drawing.box(44, 600, 128, "queued", ["owners take turns"], kind="wait", height=52)
    drawing.box(296, 600, 128, "running", ["one worker"], kind="core", height=52)
    drawing.box(536, 584, 112, "waiting", ["for an answer"], kind="wait", height=52)
    drawing.box(704, 572, 112, "completed", kind="good", height=32)
    drawing.box(704, 612, 112, "failed", kind="bad", height=32)
    drawing.box(704, 652, 112, "cancelled", kind="bad", height=32)
    drawing.arrow((172, 614), (296, 614), label="claimed once", at=(234, 606))
    drawing.arrow((296, 640), (172, 640), label="worker lost, retry", at=(234, 658))
    drawing.arrow((424, 604), (536, 604), label="asks, is answered", at=(480, 596))
    drawing.arrow((424, 644), (660, 644), (660, 628), (704, 628), label="end and last event: one write", at=(540, 662))
    return drawing.svg()


def timeouts() -> str:
    server = ServerSettings()
    phases = (
        ("arrival", 290, 372),
        ("queue", 372, 444),
        ("text", 444, 520),
        ("tool call", 520, 640),
        ("text", 640, 736),
        ("idle", 736, 836),
    )
    rows = (
        ("read_timeout_secs", "head, then body, each: 408 or closed", ((290, 372, "wait"),)),
        ("queue_timeout_secs", "no slot became free: 503", ((372, 444, "wait"),)),
        ("request_timeout_secs", "the whole run: timeout (504)", ((444, 736, "core"),)),
        ("idle_output_timeout_secs", "silent CLI, no tool call open: timeout", ((444, 520, "core"), (640, 736, "core"))),
        ("keepalive_secs", "silent stream: a keep-alive is sent", ((444, 736, "good"),)),
        ("write_timeout_secs", "client does not read: closed, run ended", ((444, 736, "bad"),)),
        ("idle_timeout_secs", "unused connection: closed", ((736, 836, "box"),)),
    )
    top, step = 76, 46
    bottom = top + len(rows) * step
    drawing = Drawing(WIDTH, bottom + 52, "Which timeout covers which part of a request")
    drawing.text(24, 40, "Settings in server", "head")
    drawing.text((444 + 736) / 2, 26, "the CLI runs", "head", anchor="middle")
    for name, x1, x2 in phases:
        drawing.text((x1 + x2) / 2, 46, name, anchor="middle")
        drawing.rule(x1, 54, x1, bottom - 8)
    drawing.rule(836, 54, 836, bottom - 8)
    for number, (name, meaning, bars) in enumerate(rows):
        y = top + number * step
        drawing.text(24, y + 4, f"{name}: {getattr(server, name):g} s", "title", room=262)
        drawing.text(24, y + 21, meaning, room=262)
        for x1, x2, kind in bars:
            drawing.bar(x1 + 3, x2 - 3, y - 4, kind)
    drawing.text(580, top + 3 * step + 9, "does not count", anchor="middle")
    drawing.text(
        24,
        bottom + 14,
        "The run's limit is the shortest of request_timeout_secs, unified_flags.command_timeout_secs and the request's own timeout_secs.",
    )
    drawing.text(
        24,
        bottom + 34,
        f"On SIGTERM, everything in progress has shutdown_grace_secs ({server.shutdown_grace_secs:g} s); what is left then ends with an error.",
    )
    return drawing.svg()


PICTURES: Mapping[str, Callable[[], str]] = {
    "request-checks": request_checks,
    "module-map": module_map,
    "agents": agents,
    "process-tree": process_tree,
    "states": states,
    "timeouts": timeouts,
}
"""By the name of the file in docs/images/."""
