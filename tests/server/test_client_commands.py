"""`clinvk prompt`, `parallel`, `chain`, `compare` and `backends` as real processes, against a real server or their own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.parts.clis import FakeCli, do
from tests.parts.command import Command
from tests.parts.native import text
from tests.parts.processes import alive, eventually, marked
from tests.parts.server import Server

KEY = "a-key-for-the-tests"
END_S = 60


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> FakeCli:
    return FakeCli(tmp_path_factory.mktemp("cli") / "reports")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, cli: FakeCli) -> Iterator[Server]:
    """A server that asks for a key; its `claude` is the scripted CLI."""
    config = {"default_backend": "claude", "backends": {"claude": cli.backend()}}
    server = Server(tmp_path_factory.mktemp("server"), config, {"CLINVK_API_KEY": KEY})
    yield server
    server.stop()


@pytest.fixture
def clinvk(running: Server, tmp_path: Path) -> Command:
    """The command, told by its environment which server to ask and with which key."""
    return Command(tmp_path, f"client-{tmp_path.name}", {"CLINVK_SERVER_URL": running.url, "CLINVK_API_KEY": KEY})


@pytest.fixture
def alone(tmp_path: Path, cli: FakeCli) -> Command:
    """The command where no server runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = {"default_backend": "claude", "backends": {"claude": cli.backend()}, "server": {"port": port}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    return Command(tmp_path, f"alone-{tmp_path.name}", {"CLINVK_CONFIG": str(tmp_path / "config.yaml")})


def file_in(folder: Path, body: Any, *, as_json: bool = False) -> str:
    path = folder / ("body.json" if as_json else "body.yaml")
    path.write_text(json.dumps(body) if as_json else yaml.safe_dump(body, allow_unicode=True))
    return str(path)


def told(done: subprocess.CompletedProcess[str], code: int) -> str:
    assert done.returncode == code, done.stderr
    return done.stdout


def pid_of(cli: FakeCli, about: str) -> int:
    """The process of the scripted CLI whose prompt holds ``about``, once it is there."""

    def found() -> list[int]:
        return [report["pid"] for report in cli.reports() if about in report["prompt"]]

    assert eventually(found, END_S)
    return int(found()[0])


def test_prompt_says_the_answer_and_ends_its_line(clinvk: Command) -> None:
    assert told(clinvk("prompt", do(["say", "é漢字"], ["say", "🙂"])), 0) == "é漢字🙂\n"
    assert told(clinvk("prompt", do(["say", "with a newline\n"])), 0) == "with a newline\n"


@pytest.mark.parametrize("args", [(), ("-",)], ids=["missing", "dash"])
def test_prompt_comes_from_stdin(clinvk: Command, args: tuple[str, ...]) -> None:
    assert told(clinvk("prompt", *args, stdin="one\ntwo é\n"), 0) == "You said: one\ntwo é\n"


def test_prompt_that_looks_like_an_option_is_text(clinvk: Command) -> None:
    assert told(clinvk("prompt", "--", "--help me"), 0) == "You said: --help me\n"


def test_prompt_is_shown_as_it_is_said(clinvk: Command, cli: FakeCli) -> None:
    process = clinvk.start("prompt", do(["say", "begun"], ["hang"], about="shown"))
    assert process.stdout
    assert os.read(process.stdout.fileno(), 100) == b"begun"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=END_S)


def test_options_reach_the_cli_and_it_works_where_the_command_was_called(clinvk: Command, cli: FakeCli) -> None:
    told(clinvk("prompt", "options", "-b", "claude", "-m", "model-a", "--ephemeral", "--json"), 0)
    (report,) = [report for report in cli.reports() if report["prompt"].strip() == "options"]
    assert {"--model=model-a", "--no-session-persistence"} <= set(report["argv"])
    assert report["cwd"] == str(clinvk.folder)


def test_json_is_the_server_s_answer(clinvk: Command) -> None:
    answer = json.loads(told(clinvk("prompt", do(["say", "x"]), "--json"), 0))
    assert (answer["output"], answer["exit_code"], answer["cost_usd"]) == ("x", 0, 0.25)


def test_ndjson_is_every_event(clinvk: Command) -> None:
    found = [json.loads(line) for line in told(clinvk("prompt", do(["tokens", 3]), "--ndjson"), 0).splitlines()]
    assert (found[0]["type"], found[-1]["type"], text(found)) == ("init", "done", "tok0 tok1 tok2")


def test_dry_run_shows_the_command_line_and_starts_nothing(clinvk: Command, cli: FakeCli) -> None:
    assert "--model=dry-model" in json.loads(told(clinvk("prompt", "dry", "-m", "dry-model", "--dry-run"), 0))
    assert not [report for report in cli.reports() if report["prompt"].strip() == "dry"]


@pytest.mark.parametrize("options", [(), ("--json",), ("--ndjson",)], ids=["text", "json", "ndjson"])
def test_a_run_that_failed_is_exit_code_1(clinvk: Command, options: tuple[str, ...]) -> None:
    done = clinvk("prompt", do(["say", "partial"], ["fail", "no luck"]), *options)
    assert done.returncode == 1
    assert "no luck" in (done.stderr if "--json" not in options else done.stdout)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("prompt", " "), "the prompt is empty"),
        (("prompt", "x", "-b", "nobody"), "unknown backend 'nobody'"),
        (("prompt", "x", "-w", "/nowhere"), "does not exist"),
        (("prompt", "x", "--colour"), "unrecognized arguments"),
        (("prompt", "x", "--session", "a", "--ephemeral"), "choose one"),
        (("parallel", "-f", "missing.yaml"), "missing.yaml: No such file"),
        (("parallel",), "required: -f"),
        (("compare", "x"), "which backends"),
        (("prompt", "x", "-c", "-w", "/tmp"), "there is no session to continue in /tmp"),
        (("prompt", "x", "-c", "--session", "a"), "choose one"),
    ],
)
def test_a_wrong_command_is_exit_code_2(clinvk: Command, args: tuple[str, ...], message: str) -> None:
    done = clinvk(*args)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.parametrize("content", ["tasks: 3", "{", "[]", "tasks: [a]", "steps: [{prompt: a}]"])
def test_a_file_that_is_no_request_is_exit_code_2(clinvk: Command, content: str) -> None:
    path = clinvk.folder / "body.yaml"
    path.write_text(content)
    done = clinvk("parallel", "-f", str(path))
    assert done.returncode == 2
    assert "body.yaml" in done.stderr


def test_no_server_where_one_was_named_is_exit_code_3(clinvk: Command) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        done = clinvk("prompt", "x", "--server", url)
    assert done.returncode == 3
    assert url in done.stderr


def test_a_missing_key_is_exit_code_3_and_says_which_variable(clinvk: Command) -> None:
    done = clinvk("prompt", "x", env={"CLINVK_API_KEY": ""})
    assert done.returncode == 3
    assert "CLINVK_API_KEY" in done.stderr


def test_a_backend_that_is_not_installed_is_exit_code_3(clinvk: Command) -> None:
    done = clinvk("prompt", "x", "-b", "codex")
    assert done.returncode == 3
    assert "not available" in done.stderr


@pytest.mark.parametrize("as_json", [False, True], ids=["yaml", "json"])
def test_parallel_shows_every_result(clinvk: Command, as_json: bool) -> None:
    body = {"tasks": [{"prompt": do(["say", "one é🙂"]), "name": "first"}, {"prompt": do(["say", "two"])}], "max_parallel": 2}
    shown = told(clinvk("parallel", "-f", file_in(clinvk.folder, body, as_json=as_json)), 0)
    assert "== task 0 first -- claude" in shown
    assert shown.index("one é🙂\n") < shown.index("== task 1") < shown.index("two\n")
    assert "16 in, 7 out, $0.2500" in shown


def test_parallel_with_a_failure_is_exit_code_1_and_all_of_it_is_in_the_json(clinvk: Command) -> None:
    body = [{"prompt": do(["fail", "no luck"])}, {"prompt": do(["say", "two"])}]
    answer = json.loads(told(clinvk("parallel", "-f", file_in(clinvk.folder, body), "--json"), 1))
    assert [part["status"] for part in answer["results"]] == ["failed", "completed"]
    lines = told(clinvk("parallel", "-f", file_in(clinvk.folder, body), "--ndjson"), 1).splitlines()
    assert json.loads(lines[-1])["type"] == "result"
    assert {json.loads(line)["task"] for line in lines[:-1]} == {0, 1}


def test_a_relative_workdir_is_relative_to_its_file(clinvk: Command, cli: FakeCli) -> None:
    (clinvk.folder / "project").mkdir()
    told(clinvk("parallel", "-f", file_in(clinvk.folder, [{"prompt": "relative", "workdir": "project"}])), 0)
    assert [report["cwd"] for report in cli.reports() if report["prompt"].strip() == "relative"] == [str(clinvk.folder / "project")]


def test_chain_says_its_last_output_alone(clinvk: Command) -> None:
    body = {"steps": [{"prompt": do(["say", "one é🙂"]), "name": "a"}, {"prompt": "two {{previous}} {{steps.a.output}}"}]}
    done = clinvk("chain", "-f", file_in(clinvk.folder, body))
    assert told(done, 0) == "You said: two one é🙂 one é🙂\n"
    assert "== step 0 a -- claude" in done.stderr
    assert clinvk("chain", "-f", "-", stdin=json.dumps([{"prompt": do(["fail", "no luck"])}])).returncode == 1


def test_compare_asks_every_target(clinvk: Command) -> None:
    answer = json.loads(told(clinvk("compare", "-b", "claude, claude/model-a", do(["say", "x"]), "--json"), 0))
    assert [(part["backend"], part["output"]) for part in answer["results"]] == [("claude", "x")] * 2


def test_backends_tells_which_are_there(clinvk: Command) -> None:
    shown = told(clinvk("backends"), 0)
    assert "claude (default)" in shown
    assert "\ncodex     " in shown
    assert json.loads(told(clinvk("backends", "--json"), 0))["backends"]


def test_ctrl_c_stops_the_runs_on_the_server(clinvk: Command, cli: FakeCli) -> None:
    body = [{"prompt": do(["spawn", True, True], ["hang"], about=f"interrupted {n}")} for n in range(2)]
    process = clinvk.start("parallel", "-f", file_in(clinvk.folder, body))
    pids = [pid_of(cli, f"interrupted {n}") for n in range(2)]
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=END_S)
    assert process.returncode == 130
    assert b"Traceback" not in errors
    assert eventually(lambda: not [pid for pid in pids if alive(pid)])


def test_ctrl_c_on_a_terminal_prints_one_word(clinvk: Command, cli: FakeCli) -> None:
    with clinvk.terminal("prompt", do(["hang"], about="stopped by hand")) as terminal:
        pid_of(cli, "stopped by hand")
        terminal.process.send_signal(signal.SIGINT)
        shown = terminal.read_to_end()
    assert terminal.process.wait(END_S) == 130
    assert shown.endswith("\r\nstopped\r\n")
    assert "KeyboardInterrupt" not in shown


def test_continue_takes_the_last_session_of_this_folder(clinvk: Command, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = str(tmp_path_factory.mktemp("elsewhere"))
    first, second = (json.loads(told(clinvk("prompt", "hi", "-b", "demo", "--json"), 0)) for _ in range(2))
    told(clinvk("prompt", "hi", "-b", "demo", "-w", elsewhere), 0)
    assert first["session_id"] != second["session_id"]
    assert json.loads(told(clinvk("prompt", "again", "-c", "--json"), 0))["session_id"] == second["session_id"]
    turns = json.loads(told(clinvk("sessions", "show", second["session_id"], "--json"), 0))["turns"]
    assert [turn["prompt"] for turn in turns] == ["hi", "again"]


def test_on_a_terminal_the_answer_is_rendered_and_elsewhere_it_is_as_it_came(clinvk: Command) -> None:
    steps = do(["say", "# Title\n\nSome **bold** text.\n\n"], ["tool", "echo hi", "hi"], ["say", "- item\n"])
    assert "Some **bold** text." in told(clinvk("prompt", steps), 0)
    code, shown = clinvk.on_a_terminal("prompt", steps, env={"TERM": "xterm"})
    assert code == 0
    assert "\x1b[1mbold\x1b[0m" in shown
    assert "• " in shown
    assert "\x1b[2mBash: echo hi\x1b[0m" in shown
    _, plain = clinvk.on_a_terminal("prompt", steps, env={"TERM": "xterm", "NO_COLOR": "1"})
    assert "Bash: echo hi\r\n" in plain
    assert "\x1b[2m" not in plain
    _, dumb = clinvk.on_a_terminal("prompt", steps, env={"TERM": "dumb"})
    assert "Some **bold** text." in dumb


def test_a_server_that_is_killed_is_exit_code_3(clinvk: Command, cli: FakeCli, tmp_path_factory: pytest.TempPathFactory) -> None:
    one = Server(tmp_path_factory.mktemp("server"), {"default_backend": "claude", "backends": {"claude": cli.backend()}})
    try:
        process = clinvk.start("prompt", do(["say", "begun"], ["hang"], about="orphaned"), "--server", one.url)
        pid_of(cli, "orphaned")
    finally:
        one.kill_everything()
    _, errors = process.communicate(timeout=END_S)
    assert process.returncode == 3
    assert b"Traceback" not in errors


def test_output_that_nobody_reads_any_more_ends_the_command_quietly(clinvk: Command, cli: FakeCli) -> None:
    process = clinvk.start("prompt", do(["say", "begun"], ["tokens", 5000, 0.002], about="unread"))
    assert process.stdout
    assert process.stderr
    pid = pid_of(cli, "unread")
    process.stdout.close()
    process.wait(END_S)
    assert process.stderr.read() == b""
    process.stderr.close()
    assert eventually(lambda: not alive(pid))


def test_on_a_terminal_the_progress_is_shown_and_the_model_cannot_steer_it(clinvk: Command) -> None:
    body = {"tasks": [{"prompt": do(["wait", 0.2], ["say", "one \x1b]0;title\x07"])}, {"prompt": do(["say", "two"])}]}
    code, shown = clinvk.on_a_terminal("parallel", "-f", file_in(clinvk.folder, body))
    assert code == 0
    assert "1 of 2 done, 1 running" in shown
    assert "one ]0;title" in shown
    assert "\x1b]" not in shown


def test_without_a_terminal_stderr_is_empty(clinvk: Command) -> None:
    assert clinvk("parallel", "-f", file_in(clinvk.folder, [{"prompt": "x"}])).stderr == ""


def test_where_no_server_runs_a_private_one_is_started_and_ended(alone: Command) -> None:
    assert told(alone("prompt", do(["say", "x"])), 0) == "x\n"
    assert eventually(lambda: not marked(alone.mark))
    assert told(alone("chain", "-f", file_in(alone.folder, [{"prompt": do(["say", "y"])}])), 0) == "y\n"
    assert eventually(lambda: not marked(alone.mark))


def test_ctrl_c_ends_the_private_server_and_its_runs(alone: Command, cli: FakeCli) -> None:
    process = alone.start("prompt", do(["spawn", True, True], ["hang"], about="private"))
    pid = pid_of(cli, "private")
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=END_S)
    assert process.returncode == 130
    assert b"Traceback" not in errors
    assert not alive(pid)
    assert eventually(lambda: not marked(alone.mark))


def test_a_command_that_is_killed_takes_its_private_server_along(alone: Command, cli: FakeCli) -> None:
    process = alone.start("prompt", do(["spawn", True, True], ["hang"], about="killed"))
    pid_of(cli, "killed")
    process.kill()
    process.communicate(timeout=END_S)
    assert eventually(lambda: not marked(alone.mark), END_S)


def test_a_wrong_configuration_is_exit_code_2(alone: Command) -> None:
    (alone.folder / "config.yaml").write_text("server: {prot: 1}\n")
    done = alone("prompt", "x")
    assert done.returncode == 2
    assert "prot" in done.stderr


def test_a_session_is_continued_listed_shown_and_deleted(clinvk: Command) -> None:
    first = json.loads(told(clinvk("prompt", "one é🙂", "-b", "demo", "--title", "a title", "--tag", "red", "--json"), 0))
    session = first["session_id"]
    assert told(clinvk("prompt", "two", "--session", session), 0).endswith("two\n")
    assert told(clinvk("sessions", "resume", session[:13], stdin="three"), 0).endswith("three\n")

    listed = told(clinvk("sessions", "list", "--tag", "red"), 0)
    assert session in listed
    assert "a title" in listed
    assert [item["id"] for item in json.loads(told(clinvk("sessions", "list", "--tag", "red", "--json"), 0))["sessions"]] == [session]

    shown = told(clinvk("sessions", "show", session[:13]), 0)
    assert "tags: red\n" in shown
    assert shown.index("> one é🙂\n") < shown.index("== turn 2 (") < shown.index("> three\n")
    turns = json.loads(told(clinvk("sessions", "show", session, "--json"), 0))["turns"]
    assert [(turn["number"], turn["prompt"]) for turn in turns] == [(1, "one é🙂"), (2, "two"), (3, "three")]

    told(clinvk("sessions", "delete", session), 0)
    done = clinvk("sessions", "show", session)
    assert done.returncode == 2
    assert session in done.stderr


def test_on_a_terminal_the_session_is_named_at_the_end(clinvk: Command) -> None:
    code, shown = clinvk.on_a_terminal("prompt", do(["say", "answer"]))
    assert code == 0
    assert "answer\r\n" in shown
    assert "continue with: clinvk prompt --session " in shown
    assert "--session" not in clinvk.on_a_terminal("prompt", do(["say", "answer"]), "--ephemeral")[1]


def test_a_command_in_an_agents_shell_tells_its_depth(clinvk: Command) -> None:
    assert clinvk("prompt", "-b", "demo", "hello", env={"CLINVK_DEPTH": "1"}).returncode == 0
    refused = clinvk("prompt", "-b", "demo", "hello", env={"CLINVK_DEPTH": "2"})
    assert refused.returncode != 0
    assert "server.mcp_max_depth" in refused.stderr
