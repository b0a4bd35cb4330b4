"""API keys: their sources, their forms, and that no key is ever shown."""

from __future__ import annotations

import base64
from hashlib import sha256

import pytest

from app.config.load import SettingsError, load_settings
from app.security.api_keys import load_keys, new_entry, notes_on
from services.access.key import new_secret
from services.access.key_ring import KeyRing
from services.access.rights import Budget, Rights
from tests.parts.keys import ring_of

PAD = "-0123456789abcdef"
"""Makes a word a key that is long enough."""


@pytest.fixture
def gopass(tmp_path):
    """Installs a `gopass` of that shell script; gives the environment to find it."""

    def install(script):
        program = tmp_path / "bin" / "gopass"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        return {"PATH": f"{program.parent}:/usr/bin:/bin", "CLINVK_API_KEYS_GOPASS_PATH": "team/clinvk"}

    return install


def keys(environ, **server):
    environ = {"HOME": "/nowhere", **environ}
    return load_keys(load_settings(environ=environ, overrides={f"server.{name}": value for name, value in server.items()}), environ)


def refused(environ, **server):
    with pytest.raises(SettingsError) as caught:
        keys(environ, **server)
    return [str(problem) for problem in caught.value.problems]


def found(ring, key):
    key = ring.find(key)
    return key and key.name


def unnamed(key):
    return f"key-{sha256(key.encode()).hexdigest()[:8]}"


def test_no_key_at_all_is_a_false_ring():
    ring = keys({})
    assert not ring
    assert ring.find("") is None


def test_keys_of_all_sources_count_together(gopass):
    given = [f"{word}{PAD}" for word in ("four", "one", "two", "three", "from-gopass")]
    environ = gopass(f"echo {given[4]}") | {"CLINVK_API_KEYS": f"{given[1]}, {given[2]},", "CLINVK_API_KEY": given[3]}
    ring = keys(environ, api_keys=[given[0], f"ci=five{PAD}"])
    assert found(ring, f"five{PAD}") == "ci"
    assert [found(ring, key) for key in given] == [unnamed(key) for key in given]
    assert [ring.find(key).source for key in given] == ["config", "environment", "environment", "environment", "config"]
    assert ring.find("other") is None


def test_the_default_name_is_the_beginning_of_the_digest():
    assert keys({"CLINVK_API_KEY": "four-0123456789abcdef"}).names == ("key-40e2d83a",)  # printf four-0123456789abcdef | sha256sum


def test_a_digest_stands_for_its_key():
    digest = sha256(b"anything").hexdigest()
    ring = keys({}, api_keys=[f"sha256:{digest}", f"ops=sha256:{digest.upper()[::-1]}"])
    assert found(ring, "anything") == f"key-{digest[:8]}"
    assert ring.names == (f"key-{digest[:8]}", "ops")
    assert ring.find(f"sha256:{digest}") is None


@pytest.mark.parametrize("key", [base64.b64encode(bytes(range(size))).decode() for size in (16, 17, 18)])
def test_the_padding_of_a_base64_key_is_no_name(key):
    assert found(keys({}, api_keys=[key]), key) == unnamed(key)


def test_a_single_key_is_taken_as_it_is():
    assert found(keys({"CLINVK_API_KEY": f"a=b{PAD}"}), f"a=b{PAD}") == unnamed(f"a=b{PAD}")
    assert found(keys({"CLINVK_API_KEYS": f"a=b{PAD}"}), f"b{PAD}") == "a"


def test_the_name_of_a_key_without_one_does_not_depend_on_its_place():
    first, second = f"a{PAD}", f"b{PAD}"
    rings = (keys({}, api_keys=listed) for listed in ([first, second], [second], [f"x=y{PAD}", first, second]))
    assert {found(ring, second) for ring in rings} == {unnamed(second)}


def test_two_keys_with_one_name_are_refused_with_the_line_of_the_second(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(
        f"server:\n  api_keys:\n    - ci=first{PAD}\n    - b{PAD}\n    - ci=second{PAD}\n    - {{name: ci, key: fourth{PAD}}}\n"
    )
    environ = {"HOME": "/nowhere", "CLINVK_CONFIG": str(file), "CLINVK_API_KEYS": f"ci=third{PAD}"}
    with pytest.raises(SettingsError) as caught:
        load_keys(load_settings(environ=environ), environ)
    told = "another key is named 'ci' (server.api_keys[0]); give each key a name of its own"
    assert [str(problem) for problem in caught.value.problems] == [
        f"{file}:5:7: server.api_keys[2]: {told}",
        f"{file}:6:7: server.api_keys[3]: {told}",
        f"CLINVK_API_KEYS[0]: {told}",
    ]


def test_a_name_of_the_store_is_refused_with_the_line(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(f"server: {{api_keys: [ci=first{PAD}]}}")
    settings = load_settings(str(file), {"HOME": "/nowhere"})
    with pytest.raises(
        SettingsError, match=r"config.yaml:1:21: server.api_keys\[0\]: the session store has a key named 'ci' too"
    ) as caught:
        load_keys(settings, {}, stored=["ci"])
    assert "clinvk keys revoke ci" in str(caught.value)
    assert load_keys(settings, {}, stored=["other"]).names == ("ci",)


@pytest.mark.parametrize(
    ("entries", "names"),
    [
        ([f"ci=x{PAD}", f"ci=x{PAD}"], ("ci",)),
        ([f"ci=x{PAD}", f"b=x{PAD}", f"x{PAD}"], ("ci",)),
        ([f"x{PAD}", f"sha256:{sha256(f'x{PAD}'.encode()).hexdigest()}"], (unnamed(f"x{PAD}"),)),
    ],
)
def test_the_same_key_twice_is_one_key(entries, names):
    assert keys({}, api_keys=entries).names == names


def test_a_name_may_not_be_that_of_another_keys_digest():
    name = unnamed(f"x{PAD}")
    (problem,) = refused({}, api_keys=[f"x{PAD}", f"{name}=other{PAD}"])
    assert f"another key is named {name!r}" in problem


@pytest.mark.parametrize("name", ["local", "this-run"])
def test_names_that_mean_somebody_else_are_reserved(name):
    told = f"the name {name!r} is reserved; choose another"
    assert refused({}, api_keys=[f"{name}=x{PAD}"]) == [f"command line: server.api_keys[0]: {told}"]
    assert refused({}, api_keys=[{"name": name, "key": f"x{PAD}"}]) == [f"command line: server.api_keys[0].name: {told}"]


@pytest.mark.parametrize("presented", ["", "x" * 100_000, "schlüssel", "\udcff", "\0"])
def test_whatever_is_presented_is_only_not_found(presented):
    assert ring_of("x").find(presented) is None


def test_no_key_is_shown():
    ring = keys({}, api_keys=["top-secret-0123456789", "ci=top-secret-2-0123456789", {"name": "b", "key": "top-secret-3-0123456789"}])
    assert "secret" not in repr(ring)
    assert "top-secret" not in str([repr(key) for key in ring]) + str(vars(ring))


TABLE = """
server:
  api_keys:
    - name: anna
      key: [anna-0123456789abcdef, "sha256:%s"]
      role: admin
    - name: ci
      key: ci-0123456789abcdef
      backends: [codex, mine]
      models: ["gpt*", codex/*]
      workdirs: [~/projects, /srv]
      max_approval_mode: auto
      max_sandbox_mode: read-only
      isolation: sandbox
      rate_limit_rps: 2
      rate_limit_burst: 5
      max_concurrent_runs: 2
      max_waiting_runs: 0
      weight: 0.5
      budget: [{usd: 1, per: day}, {tokens: 1000000, per: week}]
      expires_at: "2099-01-31T13:00:00+01:00"
      may_approve: true
    - {name: small, key: small-0123456789abcdef, budget: {runs: 3, per: hour}}
    - text=text-0123456789abcdef
backends: {mine: {command: [my-cli], custom: {prompt_mode: arg}}}
"""


def test_a_table_says_what_a_key_may_do(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(TABLE % sha256(b"anna-2").hexdigest())
    anna, ci, small, text = load_keys(load_settings(str(file), {"HOME": "/home/dev"}), {})
    assert (anna.name, anna.rights) == ("anna", Rights(role="admin"))
    assert [found(KeyRing([anna]), key) for key in ("anna-0123456789abcdef", "anna-2")] == ["anna", "anna"]
    assert ci.rights == Rights(
        backends=("codex", "mine"),
        models=("gpt*", "codex/*"),
        workdirs=("/home/dev/projects", "/srv"),
        max_approval_mode="auto",
        max_sandbox_mode="read-only",
        isolation="sandbox",
        rate_limit_rps=2.0,
        rate_limit_burst=5,
        max_concurrent_runs=2,
        max_waiting_runs=0,
        weight=0.5,
        budgets=(Budget(unit="usd", amount=1, per="day"), Budget(unit="tokens", amount=1_000_000, per="week")),
        may_approve=True,
    )
    assert ci.expires_at == 4_073_544_000_000_000  # date -ud 2099-01-31T12:00:00Z +%s
    assert small.rights.budgets == (Budget(unit="runs", amount=3, per="hour"),)
    assert text.rights == Rights()


def test_every_mistake_in_the_values_of_a_table_is_told_at_once_with_its_place(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(
        "server:\n"
        "  api_keys:\n"
        "    - name: ci\n"
        "      kye: x\n"
        "      role: root\n"
        "      max_approval_mode: never\n"
        "      workdirs: [projects]\n"
        "      weight: 0\n"
        "      budget: {usd: -1, per: year}\n"
        "    - 12345\n"
    )
    with pytest.raises(SettingsError) as caught:
        load_settings(str(file), {"HOME": "/nowhere"})
    assert [str(problem).removeprefix(f"{file}:") for problem in caught.value.problems] == [
        "4:7: server.api_keys[0].kye: unknown key; did you mean 'key'?",
        "5:13: server.api_keys[0].role: expected one of user, admin, got the text 'root'",
        "6:26: server.api_keys[0].max_approval_mode: expected one of always, default, auto, none, got the text 'never'",
        "7:18: server.api_keys[0].workdirs[0]: expected an absolute path, got 'projects'",
        "8:15: server.api_keys[0].weight: expected a number above 0, got the number 0",
        "9:21: server.api_keys[0].budget.usd: expected a number above 0, got the number -1",
        "9:30: server.api_keys[0].budget.per: expected one of hour, day, week, month, got the text 'year'",
        "10:7: server.api_keys[1]: expected text, got a number that is not shown here; put it in quotes",
    ]


def test_every_key_that_cannot_be_is_told_at_once_with_its_place(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(
        "server:\n"
        "  api_keys:\n"
        "    - {name: a b, key: short}\n"
        "    - {key: secret, backends: [cluade], isolation: worktree, allow_mcp_servers: all}\n"
        "    - {name: c, expires_at: 2027-01-31, budget: [{usd: 1, runs: 2, per: day}, {usd: 1}]}\n"
        "    - {name: e, key: fine-0123456789abcdef, models: [], workdirs: []}\n"
        "    - {name: d, key: [same-0123456789abcdef, same-0123456789abcdef], budget: {per: day}}\n"
    )
    with pytest.raises(SettingsError) as caught:
        load_keys(load_settings(str(file), {"HOME": "/nowhere"}), {})
    assert [str(problem).removeprefix(f"{file}:") for problem in caught.value.problems] == [
        "3:19: server.api_keys[0].key: is shorter than 16 characters, so it can be guessed; make one with `clinvk keys entry NAME`",
        "3:8: server.api_keys[0].name: 'a b' is not a name for a key: expected at most 64 letters, digits, '_', '.' and '-', the first of them a letter",
        "4:8: server.api_keys[1].key: is the key of an example or easily guessed; make one with `clinvk keys entry NAME`",
        "4:32: server.api_keys[1].backends[0]: unknown backend 'cluade'; did you mean 'claude'?",
        "4:41: server.api_keys[1].isolation: this version has no worktrees; expected none or sandbox",
        "4:62: server.api_keys[1].allow_mcp_servers: this version passes no MCP servers on; remove it",
        "5:7: server.api_keys[2].key: expected a key, or a list of up to 4, got 0; make one with `clinvk keys entry NAME`",
        "5:50: server.api_keys[2].budget[0]: expected one of usd, tokens, runs, got usd and runs; several budgets are a list",
        "5:79: server.api_keys[2].budget[1]: expected per: hour, day, week or month",
        "5:17: server.api_keys[2].expires_at: expected a time with a zone, as 2027-01-31T12:00:00Z",
        "6:45: server.api_keys[3].models: is empty; name what the key may use, or leave it out to restrict nothing",
        "6:57: server.api_keys[3].workdirs: is empty; name what the key may use, or leave it out to restrict nothing",
        "7:46: server.api_keys[4].key[1]: is given twice; give each key a secret of its own",
        "7:70: server.api_keys[4].budget: expected one of usd, tokens, runs, got none; several budgets are a list",
    ]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("sha256:1234", "expected 64 hexadecimal digits"),
        ("pass word", "expected a key of printable ASCII characters without spaces"),
        ("ключ", "expected a key of printable ASCII characters without spaces"),
    ],
)
def test_a_key_of_no_form_is_a_problem_that_does_not_show_it(key, message):
    (problem,) = refused({}, api_keys=[f"good{PAD}", key])
    assert problem.startswith(f"command line: server.api_keys[1]: {message}")
    assert key not in problem


def test_a_malformed_entry_of_a_list_is_named_by_its_position_not_shown(gopass):
    message = "expected a key of printable ASCII characters without spaces"
    (problem,) = refused({"CLINVK_API_KEYS": f"a=first{PAD}, c = third"})
    assert problem == f"CLINVK_API_KEYS[1]: {message}"
    (problem,) = refused(gopass(f"printf 'a=first{PAD}\\nb=second{PAD}\\nnot a key\\n'"))
    assert problem.endswith(f"server.api_keys_gopass_path[2]: {message}")


def test_gopass_may_hold_several_keys(gopass):
    environ = gopass(f'test "$*" = "show -o team/clinvk" && printf "a{PAD},b{PAD}\\nci=c{PAD}\\n"')
    assert keys(environ).names == (unnamed(f"a{PAD}"), unnamed(f"b{PAD}"), "ci")


def test_a_missing_gopass_says_what_to_do():
    (problem,) = refused({"PATH": "/nowhere", "CLINVK_API_KEYS_GOPASS_PATH": "a/b"})
    assert "gopass, which was not found on PATH" in problem
    assert problem.startswith("CLINVK_API_KEYS_GOPASS_PATH: server.api_keys_gopass_path: ")


def test_a_failing_gopass_is_quoted(gopass):
    (problem,) = refused(gopass("echo first >&2; echo 'Error: entry is not in the store' >&2; exit 11"))
    assert problem.endswith("gopass failed for 'team/clinvk' with exit code 11: Error: entry is not in the store")


def test_an_empty_secret_is_a_problem(gopass):
    assert "gopass has nothing at" in refused(gopass("true"))[0]


def test_a_silent_gopass_is_given_up(gopass, monkeypatch):
    monkeypatch.setattr("app.security.gopass.TIMEOUT_S", 0.2)
    assert "gave no answer within 0.2 s" in refused(gopass("exec sleep 30"))[0]


def test_a_path_never_becomes_a_flag(gopass):
    assert "expected a path" in refused(gopass("true") | {"CLINVK_API_KEYS_GOPASS_PATH": "--help"})[0]


def test_a_new_entry_is_the_digest_of_its_key():
    key, entry = new_entry("anna")
    assert key not in entry
    assert found(keys({}, api_keys=[entry]), key) == "anna"


@pytest.mark.parametrize(
    ("name", "message"),
    [("a b", "'a b' is not a name for a key: expected"), ("1x", "'1x' is not a name"), ("", "'' is not a name"), ("local", "is reserved")],
)
def test_a_wrong_name_of_a_new_key_is_told_as_such(name, message):
    with pytest.raises(SettingsError, match=message):
        new_entry(name)


def test_a_new_secret_is_long_and_another_each_time():
    assert len(new_secret()) >= 40
    assert new_secret() != new_secret()


def test_an_expired_admin_is_none():
    assert notes_on(keys({}, api_keys=[{"name": "a", "key": f"a{PAD}", "role": "admin", "expires_at": "2001-01-31T12:00:00Z"}]))
