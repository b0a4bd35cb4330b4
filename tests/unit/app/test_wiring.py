"""The operator's choices, as the backends' specs hold them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.backends import build_backends
from app.config.load import SettingsError, load_settings
from services.clis.codex.connection import CodexConversation
from services.clis.registry import BUILT_IN


@pytest.fixture
def backends(tmp_path):
    def backends(text="", **environ):
        file = tmp_path / "config.yaml"
        file.write_text(text)
        return build_backends(load_settings(str(file), environ={"HOME": "/nowhere", **environ}))

    return backends


@pytest.fixture
def problems(backends):
    def problems(text="", **environ):
        with pytest.raises(SettingsError) as caught:
            backends(text, **environ)
        return [str(problem).partition("config.yaml:")[2] or str(problem) for problem in caught.value.problems]

    return problems


def test_without_choices_the_built_in_backends_are_as_they_are(backends):
    assert {name: replace(spec, warm=None, sandboxed=BUILT_IN[name].sandboxed) for name, spec in backends().items()} == dict(BUILT_IN)


def test_the_clis_whose_protocols_are_known_are_kept_warm(backends):
    kept = {name: spec.warm.max for name, spec in backends().items() if spec.warm}
    assert (kept["claude"], kept["codex"]) == (3, 2)
    assert all(not spec.warm.min for spec in backends().values() if spec.warm)


@pytest.mark.parametrize(
    ("text", "most"),
    [
        ("{}", 3),
        ("{warm: {idle_secs: 9}}", 3),
        ("{warm: {max: 1}}", 1),
        ("{warm: {max: 0}}", None),
        ("{warm: {max: 0, min: 2}}", None),
        ("{command: /home/me/.local/bin/claude}", 3),
        ("{command: nice claude}", None),
        ("{command: my-claude, warm: {min: 1}}", None),
        ("{command: my-claude, warm: {max: 2}}", 2),
    ],
)
def test_another_program_in_the_cli_s_place_is_kept_warm_only_where_that_is_asked_for(backends, text, most):
    warm = backends(f"backends: {{claude: {text}}}")["claude"].warm
    assert (warm.max if warm else None) == most


def test_choices_for_one_backend(backends):
    claude = backends(
        """
backends:
  claude:
    model: opus
    system_prompt: Be brief.
    approval_mode: auto
    sandbox_mode: read-only
    allowed_tools: [Read, Edit]
    extra_flags: [--foo=bar]
    allowed_extra: {--betas: 1}
    env: {A: b}
    pass_env: [AWS_*]
    max_concurrent_runs: 2
    models: [haiku, claude-x]
    aliases: {mine: claude-x}
    claims: ["my-*"]
"""
    )["claude"]
    built_in = BUILT_IN["claude"]
    assert claude.defaults == {
        "model": "opus",
        "system_prompt": "Be brief.",
        "approval_mode": "auto",
        "sandbox_mode": "read-only",
        "allowed_tools": ("Read", "Edit"),
    }
    assert claude.extra_args == ("--foo=bar",)
    assert claude.allowed_extra == {**built_in.allowed_extra, "--betas": 1}
    assert claude.env == {"A": "b"}
    assert claude.pass_env == ("AWS_*",)
    assert claude.max_concurrent_runs == 2
    assert claude.models == (*built_in.models, "claude-x")
    assert claude.aliases == {**built_in.aliases, "mine": "claude-x"}
    assert (claude.claims, claude.claims_listed) == (("my-*",), True)


def test_empty_claims_free_the_listed_models(backends):
    codex = backends("backends: {codex: {claims: []}}")["codex"]
    assert (codex.claims, codex.claims_listed, codex.models) == ((), False, BUILT_IN["codex"].models)


def test_backends_keep_the_order_of_the_file_after_the_built_in_ones(backends):
    assert list(backends("backends: {zeta: {command: z}, alpha: {command: a}}"))[-2:] == ["zeta", "alpha"]


def test_a_model_may_be_chosen_by_an_alias(backends):
    assert backends("backends: {claude: {model: best}}")["claude"].defaults["model"] == BUILT_IN["claude"].aliases["best"]


def test_the_choice_for_one_backend_goes_before_the_one_for_all(backends):
    found = backends(
        """
unified_flags: {approval_mode: none, sandbox_mode: workspace, max_turns: 3, max_tokens: 9, verbose: true}
backends: {claude: {approval_mode: always}, codex: {sandbox_mode: default}}
"""
    )
    assert found["claude"].defaults == {
        "approval_mode": "always",
        "sandbox_mode": "workspace",
        "max_turns": 3,
        "max_tokens": 9,
        "verbose": True,
    }
    assert "sandbox_mode" not in found["codex"].defaults
    assert found["gemini"].defaults["model"] == BUILT_IN["gemini"].defaults["model"]


@pytest.mark.parametrize(
    ("text", "tools"),
    [("Read,Edit", ("Read", "Edit")), (" Read , Bash(git log:*, -n) ,", ("Read", "Bash(git log:*, -n)")), ("mcp__x", ("mcp__x",))],
)
def test_tools_in_a_text_are_separated_by_commas(backends, text, tools):
    assert backends(CLINVK_BACKENDS__CLAUDE__ALLOWED_TOOLS=text)["claude"].defaults["allowed_tools"] == tools


@pytest.mark.parametrize(
    ("command", "words"),
    [("/srv/my cli", ("/srv/my", "cli")), ("'/srv/my cli' -x \"a b\"", ("/srv/my cli", "-x", "a b")), ("[a b, c]", ("a b", "c"))],
)
def test_a_command_as_text_is_split_as_a_shell_would(backends, command, words):
    text = command if command.startswith("[") else f"|-\n      {command}"
    assert backends(f"backends:\n  claude:\n    command: {text}\n")["claude"].command == words


def test_a_backend_that_is_switched_off_stays_known(backends):
    assert backends("default_backend: codex\nbackends: {claude: {enabled: false}}")["claude"].enabled is False


def test_codex_can_be_spoken_to_in_two_ways(backends):
    assert backends()["codex"].conversation is CodexConversation
    assert backends("backends: {codex: {driver: exec, model: m}}")["codex"].args[0] == "exec"


def test_a_declared_backend_comes_with_its_choices(backends):
    found = backends(
        """
default_backend: mine
backends:
  mine:
    command: mycli run
    model: big
    custom:
      options: {model: ["--model={}"]}
"""
    )["mine"]
    assert (found.command, found.defaults) == (("mycli", "run"), {"model": "big"})
    assert found.honours("model")


def test_a_command_alone_declares_a_cli_that_talks_plain_text(backends):
    assert backends("backends: {cat: {command: cat}}")["cat"].prompt_via == "stdin"


@pytest.mark.parametrize(
    ("text", "args"),
    [
        ("{command: sh -c 'rm -r x'}", ()),
        ("{command: [sh, -c, 'rm -r x']}", ()),
        ("{command: mycli}", ("--version",)),
        ("{command: mycli run, custom: {version_args: [-V]}}", ("-V",)),
    ],
)
def test_the_version_is_not_asked_of_a_command_with_words_of_its_own(backends, text, args):
    assert backends(f"backends: {{mine: {text}}}")["mine"].version_args == args


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("default_backend: cluade", "1:1: default_backend: unknown backend 'cluade'; did you mean 'claude'?"),
        (
            "default_backend: claude\nbackends: {claude: {enabled: false}}",
            "1:1: default_backend: 'claude' is switched off (backends.claude.enabled); choose another or switch it on",
        ),
        (
            "backends: {claude: {enabled: false}, codex: {enabled: false}, gemini: {enabled: false}, demo: {enabled: false}}",
            "default_backend: every backend is switched off (backends.<name>.enabled); switch one on",
        ),
        (
            "backends: {cluade: {model: x}}",
            "1:12: backends.cluade: unknown backend; did you mean 'claude'? or declare it with `command:` and `custom:`",
        ),
        ("backends: {codex: {driver: exce}}", "1:20: backends.codex.driver: unknown driver 'exce'; did you mean 'exec'?"),
        ("backends: {claude: {driver: exec}}", "1:21: backends.claude.driver: unknown driver 'exec'; 'claude' has only one driver"),
        (
            "backends: {claude: {custom: {}}}",
            "1:21: backends.claude.custom: 'claude' is built in and cannot be redefined; choose another name",
        ),
        ("backends: {claude: {command: ''}}", "1:21: backends.claude.command: expected a program, got nothing"),
        (
            'backends: {claude: {command: "a \'b"}}',
            "1:21: backends.claude.command: expected words as a shell would split them: No closing quotation",
        ),
        ("backends: {My Cli: {command: x}}", "1:12: backends.My Cli: expected a name of small letters, digits, '.', '_' and '-'"),
        ("backends: {x: {custom: {prompt: pipe}}}", "1:25: backends.x.custom.prompt: expected stdin | arg, got 'pipe'"),
        (
            "backends:\n  x:\n    custom:\n      output: jsonl\n      rules:\n        - {event: nope}\n",
            "6:12: backends.x.custom.rules[0].event: expected ",
        ),
    ],
)
def test_a_choice_that_cannot_be_is_named_with_its_place(problems, text, expected):
    (problem,) = problems(text)
    assert problem.startswith(expected)


def test_all_problems_are_told_at_once(problems):
    assert len(problems("default_backend: x\nbackends: {y: {model: m}, codex: {driver: z}}")) == 3


@pytest.mark.parametrize("kind", ["none", "bubblewrap"])
def test_every_backend_knows_its_sandbox_whether_or_not_its_runs_have_one(backends, monkeypatch, kind):
    monkeypatch.setattr("app.backends.unavailable_reason", lambda: None)
    codex = backends(
        f"server: {{sandbox: {{kind: {kind}, writable: [/srv/cache]}}, run_limits: {{processes: 9}}}}\n"
        "backends: {codex: {sandbox: {writable: [/srv/mine]}, run_limits: {cpu_secs: 3}}}"
    )["codex"]
    assert codex.sandboxed.sandbox == "bubblewrap"
    assert codex.sandboxed.writable == ("$CODEX_HOME|~/.codex", "|/srv/cache", "|/srv/mine")
    assert codex.sandboxed.limits.given() == {"processes": 9, "cpu_secs": 3}
    assert any(path.endswith("config.yaml") for path in codex.sandboxed.hidden)
    assert codex.confinement.limits == codex.sandboxed.limits
    assert (codex.confinement == codex.sandboxed) is (kind == "bubblewrap")


# -- several accounts of one CLI, and chains --


def test_another_account_has_the_settings_of_the_first_but_not_what_belongs_to_an_account(backends):
    found = backends(
        """
backends:
  claude:
    model: opus
    approval_mode: auto
    command: my-claude
    env: {CLAUDE_CONFIG_DIR: /first, ONE: "1"}
    pass_env: [TWO]
    fallback: [work]
    aliases: {fast: a, mine: b}
    run_limits: {processes: 5, cpu_secs: 60}
    warm: {max: 1}
  work:
    like: claude
    model: sonnet
    env: {CLAUDE_CONFIG_DIR: /work}
    aliases: {fast: c}
    run_limits: {processes: 9}
    extra_flags: []
"""
    )
    first, work = found["claude"], found["work"]
    assert (work.name, work.command, work.defaults) == ("work", ("my-claude",), {"model": "sonnet", "approval_mode": "auto"})
    assert (work.env, work.pass_env, work.fallback, work.enabled) == ({"CLAUDE_CONFIG_DIR": "/work"}, (), (), True)
    assert (work.aliases["fast"], work.aliases["mine"]) == ("c", "b")
    assert (work.confinement.limits.processes, work.confinement.limits.cpu_secs) == (9, 60)
    assert (work.warm.max, work.session_files, work.decoder) == (1, first.session_files, first.decoder)
    assert first.fallback == ("work",)


def test_names_of_models_mean_the_first_account_unless_the_other_claims_them(backends):
    found = backends("backends: {work: {like: claude}, codex2: {like: codex, claims: ['mine-*']}}")
    assert (found["work"].claims, found["work"].claims_listed) == ((), False)
    assert (found["codex2"].claims, found["codex2"].claims_listed) == (("mine-*",), True)


def test_an_account_of_a_cli_that_is_declared_in_the_configuration(backends):
    found = backends("backends: {mine: {command: mine, custom: {args: [run]}, enabled: false}, other: {like: mine, env: {A: b}}}")
    assert (found["other"].command, found["other"].args, found["other"].env, found["other"].enabled) == (
        ("mine",),
        ("run",),
        {"A": "b"},
        True,
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("work: {like: claud}", "1:19: backends.work.like: unknown backend 'claud'; did you mean 'claude'?"),
        ("work: {like: work}", "1:19: backends.work.like: names this backend itself; name the first account here"),
        ("a: {like: claude}, b: {like: a}", "1:35: backends.b.like: 'a' is itself like 'claude'; name 'claude' here"),
        (
            "codex: {like: claude}",
            "1:20: backends.codex.like: 'codex' is built in and cannot be an account of another CLI; choose another name",
        ),
        (
            "work: {like: claude, custom: {}}",
            "1:19: backends.work.like: cannot be combined with `custom`: either says which CLI it is; remove one",
        ),
        ("Work: {like: claude}", "1:12: backends.Work: expected a name of small letters"),
        ("claude: {fallback: [codx]}", "1:32: backends.claude.fallback[0]: unknown backend 'codx'; did you mean 'codex'?"),
        ("claude: {fallback: [codex, codex]}", "1:39: backends.claude.fallback[1]: 'codex' is named twice; remove one"),
        ("claude: {fallback: [claude]}", "1:32: backends.claude.fallback[0]: is a cycle: claude → claude"),
        (
            "claude: {fallback: [codex]}, codex: {fallback: [gemini, claude]}",
            "1:32: backends.claude.fallback[0]: is a cycle: claude → codex → claude",
        ),
    ],
)
def test_accounts_and_chains_that_cannot_be_meant_stop_the_start(problems, text, problem):
    assert problems(f"backends: {{{text}}}")[0].startswith(problem)
