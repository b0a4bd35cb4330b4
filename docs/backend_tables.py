"""What each built-in CLI honours and has, from the backends' own specs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from docs.markdown import code, codes, table
from services.clis.option import Option
from services.clis.registry import BUILT_IN
from services.clis.spec import OPTION_NAMES, BackendSpec


def backend_options() -> str:
    names = [*BUILT_IN]
    rows = [[code(option), *(_mapping(BUILT_IN[name], option) for name in names)] for option in OPTION_NAMES]
    rows += [[fact, *(_yes(has(BUILT_IN[name])) for name in names)] for fact, has in ABILITIES.items()]
    return table(["", *names], rows)


ABILITIES: Mapping[str, Callable[[BackendSpec], bool]] = {
    "text token by token": lambda spec: spec.streams_tokens,
    "images": lambda spec: spec.takes_images,
    "sessions": lambda spec: spec.can_resume,
    "ephemeral runs": lambda spec: spec.can_be_ephemeral,
    "prewarmed processes": lambda spec: spec.warmth is not None and spec.warmth.limits.max > 0,
}


def _mapping(spec: BackendSpec, name: str) -> str:
    rule = spec.options.get(name)
    if rule is None:
        return "no"
    if rule.values is None:
        return _way(rule)
    ways = {value: _way(part) for value, part in rule.values.items()}
    return "<br>".join(f"{value}: {way}" for value, way in ways.items())


def _way(rule: Option) -> str:
    """How a value is passed to the CLI, abbreviated."""
    parts = [*rule.argv, *(f"{name}={value}" for name, value in rule.env.items())]
    parts += [f"{name}: {value}" if isinstance(value, str) else name for name, value in rule.fields.items()]
    return codes(parts) if parts else "always"


def _yes(has: bool) -> str:
    return "yes" if has else "no"


def _versions(spec: BackendSpec) -> str:
    if spec.versions is None:
        return "any"
    faults = "".join(f"<br>before {fault.fixed_in}: {fault.text}" for fault in spec.versions.faults)
    return f"oldest supported {spec.versions.oldest}, newest tested {spec.versions.newest}{faults}"


def backend_facts() -> str:
    parts = []
    for name, spec in BUILT_IN.items():
        if spec.is_demo:
            continue
        facts = [
            ("Install", spec.install_hint),
            ("Versions", _versions(spec)),
            ("Log in", spec.login_hint),
            ("Login detected by", codes(spec.credentials)),
            ("Model name patterns", codes(spec.claims)),
            ("Listed models", codes(spec.models)),
            ("Aliases", ", ".join(f"{code(alias)} → {code(model)}" for alias, model in spec.aliases.items())),
            ("Environment variables passed to it", _variables(spec)),
            ("Flags allowed in a request's `extra`", codes(sorted(spec.allowed_extra)) or "none"),
            ("Prewarmed processes", _warm(spec)),
        ]
        parts.append(f"### {name}\n\n{table(('', ''), facts)}")
    return "\n".join(parts)


def _variables(spec: BackendSpec) -> str:
    taken = [pattern for pattern in spec.vendor_env if not pattern.startswith("!")]
    left = [pattern[1:] for pattern in spec.vendor_env if pattern.startswith("!")]
    return codes(taken) + (f"; but not {codes(left)}" if left else "")


def _warm(spec: BackendSpec) -> str:
    if spec.warmth is None or not spec.warmth.limits.max:
        return "only if `warm.max` is set" if spec.warmth else "no"
    limits = spec.warmth.limits
    return (
        f"up to {limits.max}, each for at most {limits.max_uses} runs or until it uses {limits.max_rss_mb} MB; "
        f"ended when not needed for {limits.idle_s:g} s"
    )
