"""Model names: who answers to which, and what the CLI is told."""

from __future__ import annotations

from typing import Any

import pytest

from services.access.rights import Rights
from services.clis.spec import BackendSpec
from services.decoding.text import PlainDecoder
from services.errors import InvalidRequest, NotFound, RightMissing
from services.models import ListedModel, ModelResolver, Resolution

CLAUDE = {
    "claims": ("*claude*", "*sonnet*", "*opus*", "*haiku*"),
    "models": ("sonnet", "opus"),
    "aliases": {"fast": "haiku", "best": "opus", "claude-3-sonnet-*": "sonnet"},
}
CODEX = {"claims": ("gpt-*", "o3*", "codex*"), "aliases": {"fast": "gpt-5-mini", "mine": "gpt-5.2"}}
GEMINI = {"claims": ("gemini*",), "models": ("gemini-2.5-pro",)}


def spec(name: str, **facts: Any) -> BackendSpec:
    return BackendSpec(name=name, command=(name,), decoder=PlainDecoder, **facts)


DEMO = {"models": ("demo-1",), "is_demo": True}


def resolver(*missing: str, default: str = "claude", strict: bool = False, **more: BackendSpec) -> ModelResolver:
    backends = {"claude": spec("claude", **CLAUDE), "codex": spec("codex", **CODEX), "gemini": spec("gemini", **GEMINI), **more}
    return ModelResolver(backends, default_backend=default, strict=strict, is_available=lambda spec: spec.name not in missing)


@pytest.mark.parametrize(
    ("name", "backend", "model"),
    [
        (None, "claude", None),
        ("", "claude", None),
        ("claude", "claude", None),
        ("codex", "codex", None),
        ("codex/gpt-5.2", "codex", "gpt-5.2"),
        ("codex/some/thing", "codex", "some/thing"),
        ("codex/codex", "codex", None),
        ("codex/", "codex", None),
        ("codex/fast", "codex", "gpt-5-mini"),
        ("claude/gpt-5", "claude", "gpt-5"),
        ("fast", "claude", "haiku"),
        ("best", "claude", "opus"),
        ("claude-sonnet-4-5", "claude", "claude-sonnet-4-5"),
        ("Claude-Sonnet-4-5", "claude", "Claude-Sonnet-4-5"),
        ("claude-3-sonnet-20240229", "claude", "sonnet"),
        ("opus", "claude", "opus"),
        ("gpt-5.2", "codex", "gpt-5.2"),
        ("o3-mini", "codex", "o3-mini"),
        ("codex-mini-latest", "codex", "codex-mini-latest"),
        ("gemini-2.5-pro", "gemini", "gemini-2.5-pro"),
        ("mine", "codex", "gpt-5.2"),
    ],
)
def test_name_means(name: str | None, backend: str, model: str | None) -> None:
    assert resolver().resolve(name) == Resolution(backend, model)


@pytest.mark.parametrize("name", ["llama-3", "balanced", "gpt", "anything/else"])
def test_unclaimed_name_is_answered_by_the_default_backend_with_its_default_model(name: str) -> None:
    assert resolver().resolve(name) == Resolution("claude", None, is_fallback=True)


def test_name_whose_backend_is_not_available_is_answered_by_the_default_backend() -> None:
    assert resolver("codex").resolve("gpt-4") == Resolution("claude", None, is_fallback=True)


def test_backend_that_is_named_outright_is_kept_though_it_is_not_available() -> None:
    """The run is then refused with the reason; another backend's answer would be a surprise."""
    assert resolver("codex").resolve("codex") == Resolution("codex", None)
    assert resolver("codex").resolve("codex/gpt-5") == Resolution("codex", "gpt-5")


@pytest.mark.parametrize("name", ["llama-3", "gpt-4"])
def test_strict_names_are_not_found_where_no_available_backend_claims_them(name: str) -> None:
    with pytest.raises(NotFound, match=r"claude") as raised:
        resolver("codex", strict=True).resolve(name)
    assert raised.value.details["field"] == "model"


def test_tiers_are_of_the_default_backend_alone() -> None:
    assert resolver(default="codex").resolve("fast") == Resolution("codex", "gpt-5-mini")
    assert resolver(default="gemini").resolve("fast") == Resolution("gemini", None, is_fallback=True)


def test_disabled_backend_has_no_name_and_no_claims() -> None:
    one = resolver(codex=spec("codex", enabled=False, **CODEX))
    assert one.resolve("codex") == one.resolve("gpt-5") == Resolution("claude", None, is_fallback=True)


def test_more_exact_claim_wins() -> None:
    one = resolver(house=spec("house", claims=("gpt-house-*",)))
    assert one.resolve("gpt-house-1") == Resolution("house", "gpt-house-1")
    assert one.resolve("gpt-5") == Resolution("codex", "gpt-5")


def test_default_backend_wins_between_equal_claims() -> None:
    one = resolver(default="house", house=spec("house", claims=("gpt-*",)))
    assert one.resolve("gpt-5") == Resolution("house", "gpt-5")


@pytest.mark.parametrize("name", ["--dangerously-skip-permissions", "a b", "a\n", "x" * 129, "claude/--flag=1 2"])
def test_name_that_no_argv_may_hold_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        resolver().resolve(name)
    assert raised.value.field == "model"


def test_model_behind_a_backend_s_name_must_be_safe_by_itself() -> None:
    with pytest.raises(InvalidRequest):
        resolver().resolve("claude/--verbose")


@pytest.mark.parametrize(
    ("backend", "model", "told"),
    [
        ("claude", None, None),
        ("claude", "claude", None),
        ("claude", "fast", "haiku"),
        ("claude", "claude-3-sonnet-20240229", "sonnet"),
        ("claude", "gpt-5", "gpt-5"),
        ("codex", "best", "best"),
        ("unknown", "m", "m"),
    ],
)
def test_model_for_a_named_backend(backend: str, model: str | None, told: str | None) -> None:
    assert resolver().model_for(backend, model) == told


def test_list_starts_with_the_available_and_holds_no_pattern() -> None:
    listed = resolver("claude").listed(in_full=True)
    assert [model.id for model in listed] == [
        "codex",
        "codex/fast",
        "codex/mine",
        "gemini",
        "gemini/gemini-2.5-pro",
        "claude",
        "fast",
        "best",
        "claude/sonnet",
        "claude/opus",
        "claude/fast",
        "claude/best",
    ]
    assert listed[0] == ListedModel("codex", "codex", is_available=True)
    assert listed[-1] == ListedModel("claude/best", "claude", is_available=False)


def test_the_list_leaves_out_aliases_and_the_demo_where_something_else_is_available() -> None:
    demo = spec("demo", **DEMO)
    ids = [model.id for model in resolver("codex", demo=demo).listed() if model.is_available]
    assert ids == ["claude", "claude/sonnet", "claude/opus", "gemini", "gemini/gemini-2.5-pro"]
    assert "demo/demo-1" in [model.id for model in resolver(demo=demo).listed(in_full=True)]
    for names in (resolver("claude", "codex", "gemini", demo=demo), resolver(default="demo", demo=demo)):
        assert names.listed()[0] == ListedModel("demo", "demo", is_available=True)


@pytest.mark.parametrize(
    ("missing", "expected"),
    [((), "claude"), (("claude",), "codex"), (("claude", "codex", "gemini"), "house"), (("claude", "codex", "gemini", "house"), "claude")],
)
def test_without_a_configured_default_it_is_the_first_available_backend_and_never_the_demo(missing: tuple[str, ...], expected: str) -> None:
    one = resolver(*missing, default="", demo=spec("demo", **DEMO), house=spec("house"))
    assert one.default_backend == one.resolve(None).backend == one.resolve("nothing-like-it").backend == expected


def test_the_default_follows_what_is_installed_while_the_server_runs() -> None:
    there: set[str] = set()
    backends = {name: spec(name) for name in ("claude", "codex")}
    one = ModelResolver(backends, is_available=lambda spec: spec.name in there)
    assert one.default_backend == "claude"
    there.add("codex")
    assert one.default_backend == "codex"


def test_the_demo_is_the_default_where_every_other_backend_is_switched_off() -> None:
    off = {name: spec(name, enabled=False) for name in ("claude", "codex", "gemini")}
    assert resolver(default="", demo=spec("demo", **DEMO), **off).default_backend == "demo"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (None, "the request names no backend"),
        ("cluade", "model 'cluade' names no backend and no available backend claims it; did you mean 'claude'?"),
        ("xyz", "model 'xyz' names no backend and no available backend claims it"),
        ("codex", ""),
        ("gpt-5", ""),
    ],
)
def test_a_resolution_says_why_it_is_the_default(name: str | None, expected: str) -> None:
    assert resolver().resolve(name).reason == expected


def test_every_listed_name_resolves_to_its_backend() -> None:
    one = resolver()
    assert all(one.resolve(model.id).backend == model.backend for model in one.listed(in_full=True))
    assert all(not one.resolve(model.id).is_fallback for model in one.listed(in_full=True))


def test_find_tells_of_a_claimed_name_too_and_not_of_others() -> None:
    assert resolver().find("gpt-5.2") == ListedModel("gpt-5.2", "codex", is_available=True)
    with pytest.raises(NotFound):
        resolver().find("llama-3")


def test_empty_claims_free_listed_models_and_alias_patterns() -> None:
    freed = spec("codex", **{**CODEX, "claims": (), "claims_listed": False})
    one = resolver(codex=freed, house=spec("house", claims=("gpt-*", "mine")))
    assert one.resolve("mine") == Resolution("house", "mine")
    assert one.resolve("gpt-5.2") == Resolution("house", "gpt-5.2")
    assert one.resolve("codex/mine") == Resolution("codex", "gpt-5.2")


@pytest.mark.parametrize(("default", "winner"), [("claude", "codex"), ("house", "house")])
def test_a_name_that_several_backends_list_is_reported(default: str, winner: str) -> None:
    one = resolver(default=default, house=spec("house", aliases={"mine": "m", "fast": "m"}))
    assert one.ties() == [f"model 'mine' is listed by codex, house: {winner} serves it; use <backend>/mine for the others"]
    assert one.resolve("mine").backend == winner
    assert resolver().ties() == []


def rights(*backends: str, models: tuple[str, ...] = ()) -> Rights:
    return Rights(backends=backends, models=models)


@pytest.mark.parametrize(
    ("name", "backend", "model"),
    [
        (None, "codex", None),
        ("", "codex", None),
        ("codex", "codex", None),
        ("gemini", "gemini", None),
        ("gemini/gemini-2.5-pro", "gemini", "gemini-2.5-pro"),
        ("gpt-5.2", "codex", "gpt-5.2"),
        ("gemini-2.5-pro", "gemini", "gemini-2.5-pro"),
        ("fast", "codex", "gpt-5-mini"),
    ],
)
def test_names_resolve_among_a_key_s_backends_of_which_the_first_is_the_default(name: str | None, backend: str, model: str | None) -> None:
    assert resolver().among(rights("codex", "gemini")).resolve(name) == Resolution(backend, model)


@pytest.mark.parametrize("name", ["llama-3", "best", "balanced"])
def test_a_name_that_no_backend_claims_is_answered_by_the_key_s_default(name: str) -> None:
    assert resolver().among(rights("codex", "gemini")).resolve(name) == Resolution("codex", None, is_fallback=True)
    with pytest.raises(NotFound) as raised:
        resolver(strict=True).among(rights("codex", "gemini")).resolve(name)
    assert "claude" not in raised.value.message


@pytest.mark.parametrize("missing", [(), ("claude",), ("codex",)])
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", ["claude", "claude/opus", "opus", "claude-sonnet-4-5", "my-haiku"])
def test_a_name_that_another_backend_claims_is_refused(name: str, strict: bool, missing: tuple[str, ...]) -> None:
    with pytest.raises(RightMissing) as raised:
        resolver(*missing, strict=strict).among(rights("codex", "gemini")).resolve(name)
    assert raised.value.details == {"right": "backends", "value": name}


def test_a_name_that_a_backend_of_the_key_claims_too_is_its() -> None:
    other = spec("other", claims=("gpt-*",))
    among = resolver(other=other).among(rights("codex"))
    assert among.resolve("gpt-5") == Resolution("codex", "gpt-5")
    assert resolver("codex", other=other).among(rights("codex")).resolve("gpt-5").backend == "codex"


def test_a_key_s_default_stays_though_it_is_not_available() -> None:
    assert resolver("codex").among(rights("codex", "gemini")).default_backend == "codex"
    assert resolver().among(rights("unknown", "gemini")).default_backend == "gemini"
    assert resolver().among(rights("unknown")).default_backend == "unknown"
    assert resolver().among(rights("unknown")).listed() == []


def test_a_key_sees_its_own_models_alone() -> None:
    among = resolver().among(rights("codex", "claude", models=("*mini", "claude/sonnet", "codex/default")))
    assert [model.id for model in among.listed(in_full=True)] == ["codex", "fast", "codex/fast", "claude/sonnet"]
    assert among.find("claude/sonnet") == ListedModel("claude/sonnet", "claude", True)
    assert among.find("fast").backend == "codex"


@pytest.mark.parametrize("name", ["gemini", "gemini-2.5-pro", "claude", "opus", "claude/opus", "gpt-5", "nonsense"])
def test_a_model_outside_of_the_rights_is_as_unknown_as_any_other(name: str) -> None:
    among = resolver().among(rights("codex", "claude", models=("*mini", "claude/sonnet", "codex/default")))
    with pytest.raises(NotFound) as raised:
        among.find(name)
    assert raised.value.message == f"unknown model {name!r}; known: codex, and <backend>/<model>"


def test_a_key_without_limits_has_the_one_resolver() -> None:
    one = resolver()
    assert one.among(Rights(max_sandbox_mode="read-only")) is one
    assert one.among(rights("codex")) is one.among(Rights(backends=("codex",), weight=2.0))


@pytest.mark.parametrize(
    ("name", "is_exact", "tier"),
    [
        ("claude", False, ""),
        ("fast", False, "fast"),
        ("claude/fast", False, "fast"),
        ("claude/claude", False, ""),
        ("claude/opus", True, ""),
        ("codex/gpt-5.2", True, ""),
        ("opus", False, ""),
        ("unknown", False, ""),
    ],
)
def test_only_backend_and_model_together_mean_that_model_and_no_other(name: str, is_exact: bool, tier: str) -> None:
    found = resolver().resolve(name)
    assert (found.is_exact, found.tier) == (is_exact, tier)
