"""A run's confinement: where the paths of its sandbox come from, how it travels, and that it is never shared with another run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.clis.claude import spec as claude
from services.clis.codex import spec as codex
from services.clis.command import invoke
from services.clis.spec import BackendSpec
from services.clis.warmth import WarmLimits
from services.processes.confinement import BUBBLEWRAP, VARIABLE, Confinement, RunLimits
from services.requests import RunRequest

CONFINED = [Confinement(sandbox=BUBBLEWRAP), Confinement(limits=RunLimits(cpu_secs=3))]


@pytest.mark.parametrize(
    ("entry", "path"),
    [
        ("$X_HOME|~/.x", "/set"),
        ("$X_HOME/below|~/.x", "/set/below"),
        ("$UNSET|~/.x", "/home/a/.x"),
        ("$UNSET/below|~/.x", "/home/a/.x"),
        ("|~/.x.json", "/home/a/.x.json"),
        ("|/srv/cache", "/srv/cache"),
        ("$UNSET|", None),
        ("|relative", None),
    ],
)
def test_writable_folders_are_where_the_cli_finds_them(entry: str, path: str | None) -> None:
    found = Confinement(sandbox=BUBBLEWRAP, writable=(entry,)).resolved({"HOME": "/home/a", "X_HOME": "/set"})
    assert found.writable == ((path,) if path else ())


@pytest.mark.parametrize("confinement", [*CONFINED, Confinement(sandbox=BUBBLEWRAP, writable=("/a",), hidden=("/b",), run_dir="/c")])
def test_what_is_put_into_an_environment_is_taken_out_again(confinement: Confinement) -> None:
    env = {"PATH": "/bin"}
    confinement.put(env)
    assert VARIABLE in env
    assert Confinement.take(env) == confinement
    assert env == {"PATH": "/bin"}


def test_no_confinement_leaves_no_trace() -> None:
    env: dict[str, str] = {}
    Confinement().put(env)
    assert env == {}
    assert Confinement.take(env) == Confinement()


@pytest.mark.parametrize("spec", [claude.SPEC, codex.SPEC], ids=["claude", "codex"])
@pytest.mark.parametrize("confinement", [Confinement(), *CONFINED])
def test_a_confined_run_has_a_process_of_its_own(spec: BackendSpec, confinement: Confinement) -> None:
    """One that was started beforehand has another run's folder, and its limits would count several runs together."""
    assert replace(spec, warm=WarmLimits(), confinement=confinement).may_be_warm == (not confinement)


@pytest.mark.parametrize("spec", [claude.SPEC, codex.SPEC], ids=["claude", "codex"])
@pytest.mark.parametrize("confinement", [Confinement(), *CONFINED])
def test_a_run_that_is_confined_for_its_key_has_a_process_of_its_own_too(spec: BackendSpec, confinement: Confinement) -> None:
    request = RunRequest(prompt="x", backend=spec.name)
    invocation = invoke(replace(spec, warm=WarmLimits()), request, cwd="/", environ={"HOME": "/h"}, run_dir="/r", confinement=confinement)
    assert invocation.may_be_warm == (not confinement)
    assert (VARIABLE in invocation.env) is bool(confinement)
