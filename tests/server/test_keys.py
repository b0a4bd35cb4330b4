"""Keys that change while the server runs: made and revoked over the API and by the command, on every worker within seconds."""

from __future__ import annotations

import json
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ServerFactory
from tests.parts.client import Answer, Client
from tests.parts.clis import FakeCli, do
from tests.parts.command import Command
from tests.parts.processes import eventually
from tests.parts.server import Server

KEYS = "/api/v1/keys"
ROOT_KEY = "root-0123456789abcdef"
WITHIN_S = 5.0
"""How long a change may take to count everywhere."""
ASKS = 12
"""Requests that reach both workers: each is a connection of its own."""
WRONG_KEYS = 10_000
"""How many may be tried before the server refuses to look (429): who asks again and again whether a key is refused tries many."""


def config_of(fake_cli: FakeCli, *keys: Any, **server: Any) -> dict[str, Any]:
    settings = {"api_keys": list(keys), "rate_limit_burst": WRONG_KEYS, **server}
    return {"default_backend": "claude", "backends": {"claude": fake_cli.backend()}, "server": settings}


ADMIN = {"name": "root", "key": ROOT_KEY, "role": "admin"}


@pytest.fixture
def two_workers(server: ServerFactory, fake_cli: FakeCli) -> Server:
    one = server(config_of(fake_cli, ADMIN, "ci=ci-0123456789abcdef", workers=2))
    one.client.headers["X-Api-Key"] = ROOT_KEY
    return one


def command_of(one: Server) -> Command:
    """The command of the server's operator."""
    folder = one.home.parent
    return Command(folder, one.mark, {"CLINVK_HOME": str(one.clinvk_home), "CLINVK_CONFIG": str(folder / "config.yaml")})


def statuses(one: Server, secret: str = "") -> set[int]:
    client = Client(one.url, {"X-Api-Key": secret} if secret else {})
    return {client.get("/api/v1/backends").status for _ in range(ASKS)}


def make(client: Client, **rights: Any) -> dict[str, Any]:
    answer = client.post(KEYS, rights)
    assert answer.status == 201, answer.body
    assert answer.headers["Cache-Control"] == "no-store"
    found: dict[str, Any] = answer.json
    return found


def error(answer: Answer) -> tuple[int, str, Any]:
    told = answer.json["error"]
    return answer.status, told["code"], told["details"].get("right") or told["details"].get("issue")


def test_a_key_is_made_used_and_revoked_over_the_api_while_two_workers_serve(two_workers: Server) -> None:
    key = make(two_workers.client, name="laptop", backends=["claude"], max_concurrent_runs=2, budget={"usd": 1, "per": "day"})
    assert (key["name"], key["source"], key["role"], key["last_used_at"]) == ("laptop", "store", "user", None)
    assert eventually(lambda: statuses(two_workers, key["key"]) == {200}, WITHIN_S)

    def listed() -> dict[str, Any]:
        return {one["name"]: one for one in two_workers.client.get(KEYS).json["keys"]}

    assert eventually(lambda: listed()["laptop"]["last_used_at"], WITHIN_S)
    assert list(listed()) == ["root", "ci", "laptop"]
    assert listed()["laptop"]["budget"] == [{"usd": 1.0, "per": "day"}]
    assert "key" not in listed()["laptop"]
    assert listed()["ci"]["source"] == "config"

    assert two_workers.client.ask("DELETE", f"{KEYS}/laptop").status == 204
    assert eventually(lambda: statuses(two_workers, key["key"]) == {401}, WITHIN_S)
    assert two_workers.client.ask("DELETE", f"{KEYS}/laptop").status == 404
    assert key["key"] not in two_workers.log()
    assert key["key"] not in (two_workers.clinvk_home / "sessions.db").read_bytes().decode("latin-1")


def test_the_command_makes_and_revokes_keys_of_a_running_server(two_workers: Server) -> None:
    clinvk = command_of(two_workers)
    done = clinvk("keys", "create", "phone", "--role", "admin", "--budget", "100runs/hour", "--workdirs", "/srv,~/work")
    secret = done.stdout.strip()
    assert (done.returncode, len(secret) >= 40, secret in done.stderr) == (0, True, False)
    assert eventually(lambda: statuses(two_workers, secret) == {200}, WITHIN_S)
    rows = {row["name"]: row for row in json.loads(clinvk("keys", "list", "--json").stdout)["keys"]}
    assert (rows["phone"]["role"], rows["phone"]["budget"]) == ("admin", [{"runs": 100.0, "per": "hour"}])
    assert rows["phone"]["workdirs"] == ["/srv", f"{clinvk.folder}/work"]
    table = clinvk("keys", "list").stdout.splitlines()
    assert table[0].split() == ["NAME", "ROLE", "SOURCE", "CREATED", "LAST", "USED", "EXPIRES", "LIMITS"]
    (row,) = (line for line in table if line.startswith("phone "))
    assert row.endswith(f"  workdirs=/srv,{clinvk.folder}/work budget=100runs/hour")
    assert clinvk("keys", "create", "phone").returncode == 1
    assert clinvk("keys", "create", "ci").returncode == 1, "a configured name"
    assert clinvk("keys", "revoke", "ci").returncode == 1
    assert clinvk("keys", "revoke", "phone").returncode == 0
    assert eventually(lambda: statuses(two_workers, secret) == {401}, WITHIN_S)


def test_the_lists_name_owners_to_an_admin_alone(two_workers: Server) -> None:
    clinvk = command_of(two_workers)
    ci = "ci-0123456789abcdef"
    here = {"CLINVK_SERVER_URL": two_workers.url}
    run = clinvk("prompt", "--background", "-b", "demo", "hi", env=here | {"CLINVK_API_KEY": ci}).stdout.strip()
    assert clinvk("runs", "wait", run, env=here | {"CLINVK_API_KEY": ci}).returncode == 0
    for what in ("sessions", "runs"):
        tables = [clinvk(what, "list", env=here | {"CLINVK_API_KEY": key}).stdout.splitlines() for key in (ROOT_KEY, ci)]
        assert [table[0].split()[1] for table in tables] == ["OWNER", "BACKEND" if what == "sessions" else "STATUS"]
        assert tables[0][1].split()[1] == "ci"


def test_every_wrong_option_of_a_new_key_is_told_and_nothing_is_made(two_workers: Server) -> None:
    clinvk = command_of(two_workers)
    done = clinvk("keys", "create", "x", "--role", "root", "--weight", "0", "--budget", "1usd/day", "--expires-at", "tomorrow")
    assert (done.returncode, done.stdout) == (2, "")
    assert "  --role: expected one of user, admin, got the text 'root'" in done.stderr
    assert "  --weight: expected a number above 0, got the number 0" in done.stderr
    done = clinvk("keys", "create", "x", "--backends", "cluade", "--expires-at", "tomorrow")
    assert "  --backends[0]: unknown backend 'cluade'; did you mean 'claude'?" in done.stderr
    assert "  --expires-at: expected a time with a zone, as 2027-01-31T12:00:00Z" in done.stderr
    done = clinvk("keys", "create", "x", "--rate-limit-burst", "3")
    assert "--rate-limit-rps, --rate-limit-burst: 2 workers cannot count together" in done.stderr
    done = clinvk("keys", "create", "x", "--backends", "", "--expires-at", "2001-01-31T12:00:00Z")
    assert "  --backends: is empty; name what the key may use, or leave it out to restrict nothing" in done.stderr
    done = clinvk("keys", "create", "x", "--expires-at", "2001-01-31T12:00:00Z")
    assert "  --expires-at: is in the past: the key would never be valid" in done.stderr
    assert "--budget: expected an amount, its unit and its window" in clinvk("keys", "create", "x", "--budget", "much").stderr
    assert "x" not in {key["name"] for key in two_workers.client.get(KEYS).json["keys"]}


@pytest.mark.parametrize("way", ["command", "api"])
def test_the_first_key_closes_an_open_server_and_its_end_opens_it_again(server: ServerFactory, fake_cli: FakeCli, way: str) -> None:
    one = server(config_of(fake_cli, workers=2))
    assert statuses(one) == {200}
    if way == "command":
        secret = command_of(one)("keys", "create", "first").stdout.strip()
    else:
        refused = one.client.post(KEYS, {"name": "first"})
        assert error(refused) == (400, "invalid_request", "no admin")
        assert statuses(one) == {200}
        secret = make(one.client, name="first", role="admin")["key"]
    assert eventually(lambda: statuses(one) == {401}, WITHIN_S)
    assert statuses(one, secret) == {200}
    assert list(one.client.get("/health").json) == ["status"]
    assert "version" in one.client.get("/health", headers={"X-Api-Key": secret}).json
    assert command_of(one)("keys", "revoke", "first").returncode == 0
    assert eventually(lambda: statuses(one) == {200}, WITHIN_S)


def test_a_configured_name_that_the_store_has_too_stops_the_start(server: ServerFactory, fake_cli: FakeCli) -> None:
    first = server(config_of(fake_cli))
    assert command_of(first)("keys", "create", "ops").returncode == 0
    first.stop()
    with pytest.raises(AssertionError, match=r"config.yaml:\d+:\d+: server.api_keys\[0\]: the session store has a key named 'ops' too"):
        server(config_of(fake_cli, "ops=ops-0123456789abcdef"), {"CLINVK_HOME": str(first.clinvk_home)})


def test_a_stored_key_with_a_rate_of_its_own_needs_workers_that_count_together(server: ServerFactory, fake_cli: FakeCli) -> None:
    first = server(config_of(fake_cli))
    assert command_of(first)("keys", "create", "slow", "--rate-limit-rps", "1").returncode == 0
    first.signal(signal.SIGTTIN)
    assert eventually(lambda: "no worker is added: server.workers cannot be 2" in first.log())
    first.stop()
    with pytest.raises(AssertionError, match=r"server.workers: cannot be 2 with .* \(the stored key slow\)"):
        server(config_of(fake_cli, workers=2), {"CLINVK_HOME": str(first.clinvk_home)})


def test_a_reload_keeps_the_keys_of_the_store(two_workers: Server, fake_cli: FakeCli) -> None:
    secret = make(two_workers.client, name="laptop")["key"]
    config = config_of(fake_cli, ADMIN, "new=new-0123456789abcdef", workers=2)
    (two_workers.home.parent / "config.yaml").write_text(yaml.safe_dump(config))
    two_workers.signal(signal.SIGHUP)
    assert eventually(lambda: statuses(two_workers, "new-0123456789abcdef") == {200}, WITHIN_S)
    assert eventually(lambda: statuses(two_workers, secret) == {200}, WITHIN_S)
    assert statuses(two_workers, "ci-0123456789abcdef") == {401}


def test_only_admins_manage_keys(two_workers: Server) -> None:
    for method, path in (("GET", KEYS), ("POST", KEYS), ("DELETE", f"{KEYS}/ci"), ("DELETE", f"{KEYS}/nobody")):
        answer = two_workers.client.ask(method, path, {} if method == "POST" else None, {"X-Api-Key": "ci-0123456789abcdef"})
        assert error(answer) == (403, "permission_denied", "role")


@pytest.mark.parametrize(
    ("body", "issue"),
    [
        ({"name": "root"}, "name is taken"),
        ({"name": "ci"}, "name is taken"),
        ({"name": "local"}, "the name 'local' is reserved; choose another"),
        ({"backends": ["cluade"]}, "unknown backend"),
        ({"workdirs": ["projects"]}, "not an absolute path"),
        (
            {"rate_limit_rps": 1},
            "2 workers cannot count together with server.rate_limit_storage memory://; set a redis:// address or one worker",
        ),
        ({"workdirs": []}, "length must be between 1 and 64"),
        ({"expires_at": "2001-01-31T12:00:00Z"}, "is in the past: the key would never be valid"),
        ({"expires_at": "2099-01-01"}, "expected a time with a zone, as 2027-01-31T12:00:00Z"),
        (
            {"budget": {"usd": 1, "runs": 1, "per": "day"}},
            "expected one of usd, tokens, runs, got usd and runs; several budgets are a list",
        ),
    ],
)
def test_a_key_that_cannot_be_made_says_why(two_workers: Server, body: dict[str, Any], issue: str) -> None:
    answer = two_workers.client.post(KEYS, body)
    assert error(answer)[0] == (409 if issue == "name is taken" else 400)
    assert error(answer)[2] == issue


def test_a_key_that_has_expired_is_refused_and_the_server_stays_closed(server: ServerFactory, fake_cli: FakeCli) -> None:
    expired = {"name": "old", "key": "old-0123456789abcdef", "expires_at": "2001-01-31T12:00:00Z"}
    one = server(config_of(fake_cli, expired))
    assert statuses(one) == statuses(one, "old-0123456789abcdef") == {401}
    answer = one.client.get("/api/v1/backends", headers={"X-Api-Key": "old-0123456789abcdef"})
    assert "has expired" in answer.json["error"]["message"]


def submit(one: Server, secret: str, *steps: Any, path: str = "/api/v1/prompt", **fields: Any) -> str:
    body = {"background": True, **({"backend": "claude", "prompt": do(*steps)} if path == "/api/v1/prompt" else {}), **fields}
    answer = one.client.ask("POST", path, body, {"X-Api-Key": secret})
    assert answer.status in (200, 202), answer.body
    found: str = answer.json["id"]
    return found


@pytest.mark.parametrize("way", ["api", "command", "reload"])
def test_what_waits_for_a_revoked_key_ends_and_what_runs_goes_on(
    server: ServerFactory, fake_cli: FakeCli, tmp_path: Path, way: str
) -> None:
    configured = {"name": "laptop", "key": "laptop-0123456789abcdef"}
    config = config_of(fake_cli, ADMIN, *([configured] if way == "reload" else []), max_concurrent_runs=1)
    one = server(config)
    one.client.headers["X-Api-Key"] = ROOT_KEY
    secret = configured["key"] if way == "reload" else make(one.client, name="laptop")["key"]
    go, me = tmp_path / "go", Client(one.url, {"X-Api-Key": secret})
    running = submit(one, secret, ["say", "begun"], ["wait_for", str(go)], ["say", " done"])
    assert eventually(lambda: me.get(f"/api/v1/runs/{running}").json["status"] == "running")
    waiting = submit(one, secret, ["say", "never"])
    response = submit(one, secret, path="/openai/v1/responses", model="claude", input=do(["say", "never"]))
    with me.open("GET", f"/api/v1/runs/{waiting}/events", None, {"Accept": "text/event-stream"}) as stream:
        match way:
            case "api":
                assert one.client.ask("DELETE", f"{KEYS}/laptop").status == 204
            case "command":
                assert command_of(one)("keys", "revoke", "laptop").returncode == 0
            case "reload":
                (one.home.parent / "config.yaml").write_text(yaml.safe_dump(config_of(fake_cli, ADMIN, max_concurrent_runs=1)))
                one.signal(signal.SIGHUP)
        last = list(stream.events())[-1].json
    assert (last["type"], last["content"]["code"]) == ("error", "key_revoked")
    assert eventually(lambda: me.get("/api/v1/backends").status == 401, WITHIN_S)

    stored = rows_of(one)
    assert (stored[waiting]["status"], stored[waiting]["error_code"]) == ("cancelled", "key_revoked")
    (of_response,) = (row for row in stored.values() if row["kind"] == "response")
    assert (of_response["status"], of_response["error_code"]) == ("cancelled", "key_revoked"), response
    assert stored[running]["status"] == "running"
    go.touch()
    assert eventually(lambda: rows_of(one)[running]["status"] == "completed")


def rows_of(one: Server) -> dict[str, dict[str, Any]]:
    """The runs as the store has them: who made them may ask no more."""
    with closing(sqlite3.connect(f"file:{one.clinvk_home}/sessions.db?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        return {row["id"]: dict(row) for row in connection.execute("SELECT id, kind, status, error_code FROM runs")}


def test_a_run_whose_key_was_revoked_while_no_server_ran_is_cancelled_when_it_is_claimed(
    server: ServerFactory, fake_cli: FakeCli, tmp_path: Path
) -> None:
    first = server(config_of(fake_cli, ADMIN, max_concurrent_runs=1))
    first.client.headers["X-Api-Key"] = ROOT_KEY
    secret = make(first.client, name="laptop")["key"]
    blocking = submit(first, ROOT_KEY, ["wait_for", str(tmp_path / "never")])
    assert eventually(lambda: rows_of(first)[blocking]["status"] == "running")
    waiting = submit(first, secret, ["say", "never"])
    first.signal(signal.SIGTERM)
    first.signal(signal.SIGQUIT)
    first.wait()
    assert rows_of(first)[waiting]["status"] == "queued"
    assert command_of(first)("keys", "revoke", "laptop").returncode == 0
    server(config_of(fake_cli, ADMIN), {"CLINVK_HOME": str(first.clinvk_home)})
    assert eventually(lambda: rows_of(first)[waiting]["status"] == "cancelled")
    assert rows_of(first)[waiting]["error_code"] == "key_revoked"


def test_a_revoked_name_is_free_when_nothing_belongs_to_it(two_workers: Server) -> None:
    client = two_workers.client
    secret = make(client, name="laptop")["key"]
    assert eventually(lambda: statuses(two_workers, secret) == {200}, WITHIN_S)
    run = submit(two_workers, secret, ["say", "hello"], ephemeral=True)
    assert eventually(lambda: rows_of(two_workers)[run]["status"] == "completed")
    assert client.ask("DELETE", f"{KEYS}/laptop").status == 204
    assert error(client.post(KEYS, {"name": "laptop"})) == (409, "conflict", "has runs")
    with closing(sqlite3.connect(two_workers.clinvk_home / "sessions.db")) as database, database:
        database.execute("DELETE FROM runs")
    assert make(client, name="laptop")["key"] != secret
    assert eventually(lambda: statuses(two_workers, secret) == {401}, WITHIN_S)
