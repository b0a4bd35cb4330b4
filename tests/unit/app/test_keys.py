"""API keys: their sources, their forms, and that no key is ever shown."""

from __future__ import annotations

import base64
from hashlib import sha256

import pytest

from app.config.load import SettingsError, load_settings
from app.security.api_keys import KeyRing, load_keys, new_entry, new_key


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


def test_no_key_at_all_is_a_false_ring():
    ring = keys({})
    assert not ring
    assert ring.find("") is None


def test_keys_of_all_sources_count_together(gopass):
    environ = gopass("echo from-gopass") | {"CLINVK_API_KEYS": "one, two,", "CLINVK_API_KEY": "three"}
    ring = keys(environ, api_keys=["four", "ci=five"])
    assert ring.find("five") == "ci"
    assert [ring.find(key) for key in ("four", "one", "two", "three", "from-gopass")] == [
        "key-04efaf08",  # printf four | sha256sum
        "key-7692c3ad",
        "key-3fc4ccfe",
        "key-8b5b9db0",
        "key-02187f79",
    ]
    assert ring.find("other") is None


def test_a_digest_stands_for_its_key():
    digest = sha256(b"secret").hexdigest()
    ring = KeyRing.of(f"sha256:{digest}", f"ops=sha256:{digest.upper()[::-1]}")
    assert ring.find("secret") == f"key-{digest[:8]}"
    assert ring.names == (f"key-{digest[:8]}", "ops")
    assert ring.find(f"sha256:{digest}") is None


@pytest.mark.parametrize("key", [base64.b64encode(bytes(range(size))).decode() for size in (16, 17, 18)])
def test_the_padding_of_a_base64_key_is_no_name(key):
    assert KeyRing.of(key).find(key) == f"key-{sha256(key.encode()).hexdigest()[:8]}"


def test_a_single_key_is_taken_as_it_is():
    assert keys({"CLINVK_API_KEY": "a=b"}).find("a=b") == f"key-{sha256(b'a=b').hexdigest()[:8]}"
    assert keys({"CLINVK_API_KEYS": "a=b"}).find("b") == "a"


def test_a_key_given_twice_keeps_its_first_name():
    assert KeyRing.of("a=x", "b=x").find("x") == "a"


def test_the_name_of_a_key_without_one_does_not_depend_on_its_place():
    assert KeyRing.of("a", "b").find("b") == KeyRing.of("b").find("b") == KeyRing.of("x=y", "a", "b").find("b")


def test_two_keys_with_one_name_are_refused_with_the_line_of_the_second(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("server:\n  api_keys:\n    - ci=first-secret\n    - b\n    - ci=second-secret\n")
    environ = {"HOME": "/nowhere", "CLINVK_CONFIG": str(file), "CLINVK_API_KEYS": "ci=third-secret"}
    with pytest.raises(SettingsError) as caught:
        load_keys(load_settings(environ=environ), environ)
    told = "another key is named 'ci' (server.api_keys[0]); give each key a name of its own"
    assert [str(problem) for problem in caught.value.problems] == [
        f"{file}:5:7: server.api_keys[2]: {told}",
        f"CLINVK_API_KEYS[0]: {told}",
    ]


@pytest.mark.parametrize(
    ("entries", "names"),
    [(["ci=x", "ci=x"], ("ci",)), (["ci=x", "x"], ("ci",)), (["x", f"sha256:{sha256(b'x').hexdigest()}"], ("key-2d711642",))],
)
def test_the_same_key_twice_is_one_key(entries, names):
    assert KeyRing.of(*entries).names == names


def test_a_name_may_not_be_that_of_another_keys_digest():
    with pytest.raises(SettingsError, match="another key is named 'key-2d711642'"):
        KeyRing.of("x", "key-2d711642=other")


def test_the_name_of_the_caller_without_keys_is_reserved():
    with pytest.raises(SettingsError, match="the name 'local' is reserved"):
        KeyRing.of("local=x")


@pytest.mark.parametrize("presented", ["", "x" * 100_000, "schlüssel", "\udcff", "\0"])
def test_whatever_is_presented_is_only_not_found(presented):
    assert KeyRing.of("x").find(presented) is None


def test_no_key_is_shown():
    ring = KeyRing.of("top-secret", "ci=top-secret-2")
    assert "secret" not in repr(ring)
    assert "top-secret" not in str(vars(ring))


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("sha256:1234", "expected 64 hexadecimal digits"),
        ("pass word", "expected a key of printable ASCII characters without spaces"),
        ("ключ", "expected a key of printable ASCII characters without spaces"),
    ],
)
def test_a_key_of_no_form_is_a_problem_that_does_not_show_it(key, message):
    (problem,) = refused({}, api_keys=["good", key])
    assert problem.startswith(f"command line: server.api_keys[1]: {message}")
    assert key not in problem


def test_a_malformed_entry_of_a_list_is_named_by_its_position_not_shown(gopass):
    message = "expected a key of printable ASCII characters without spaces"
    (problem,) = refused({"CLINVK_API_KEYS": "a=first-key, c = third"})
    assert problem == f"CLINVK_API_KEYS[1]: {message}"
    (problem,) = refused(gopass("printf 'a=first\\nb=second\\nnot a key\\n'"))
    assert problem.endswith(f"server.api_keys_gopass_path[2]: {message}")


def test_gopass_may_hold_several_keys(gopass):
    assert keys(gopass('test "$*" = "show -o team/clinvk" && printf "a,b\\nci=c\\n"')).names == ("key-ca978112", "key-3e23e816", "ci")


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
    monkeypatch.setattr("app.security.api_keys.GOPASS_TIMEOUT_S", 0.2)
    assert "gave no answer within 0.2 s" in refused(gopass("exec sleep 30"))[0]


def test_a_path_never_becomes_a_flag(gopass):
    assert "expected a path" in refused(gopass("true") | {"CLINVK_API_KEYS_GOPASS_PATH": "--help"})[0]


def test_a_new_entry_is_the_digest_of_its_key():
    key, entry = new_entry("anna")
    assert key not in entry
    assert KeyRing.of(entry).find(key) == "anna"


@pytest.mark.parametrize(
    ("name", "message"),
    [("a b", "'a b' is not a name for a key: expected"), ("1x", "'1x' is not a name"), ("", "'' is not a name"), ("local", "is reserved")],
)
def test_a_wrong_name_of_a_new_key_is_told_as_such(name, message):
    with pytest.raises(SettingsError, match=message):
        new_entry(name)


def test_a_new_key_is_long_and_another_each_time():
    assert len(new_key()) >= 40
    assert new_key() != new_key()
    assert KeyRing.of(new_key())
