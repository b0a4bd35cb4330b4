"""Applies a key's rights to a run: what it may not do is refused, what it left open is lowered to the ceiling. Starts nothing.

The folder is not judged here: `services.workdir` knows the rules for folders, the key's as well as the server's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from services.access.rights import APPROVAL_ORDER, SANDBOX_ORDER, Rights
from services.clis.safety import check_extra
from services.clis.spec import BackendSpec
from services.errors import RightMissing
from services.processes.bubblewrap import unavailable_reason
from services.processes.confinement import Confinement
from services.requests import RunRequest

DEFAULT = "default"
"""Of a mode: what the CLI does by itself. Of a model: the pattern for a run that names none, where none is configured."""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """An option, the right that limits it, and its values from the strictest to the most permissive."""

    option: str
    right: str
    order: Sequence[str]

    def of(self, rights: Rights) -> str | None:
        """The highest value; None where any value is allowed."""
        highest: str | None = getattr(rights, self.right)
        return None if highest == self.order[-1] else highest

    def place(self, value: str) -> int:
        """A value without a place, such as a sandbox that only the CLI's own settings know, counts as above all others."""
        return self.order.index(value) if value in self.order else len(self.order)


CEILINGS = (
    Ceiling("approval_mode", "max_approval_mode", APPROVAL_ORDER),
    Ceiling("sandbox_mode", "max_sandbox_mode", SANDBOX_ORDER),
)

UNASKED = "allowed_tools"
"""The option of tools that need no approval, whatever the mode. Only the configuration sets it."""

LIMITS = ("models", *(ceiling.right for ceiling in CEILINGS))
"""The rights that a flag for the CLI could evade."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Permitted:
    """What a run gets in the place of what it asked for."""

    confinement: Confinement
    lowered: Mapping[str, Any] = field(default_factory=dict)
    """The options that have another value than asked for or configured."""


def permit(
    request: RunRequest, rights: Rights, spec: BackendSpec, sandbox_issue: Callable[[], str | None] = unavailable_reason
) -> Permitted:
    """What ``request`` may have on ``spec``. ``sandbox_issue``: why this machine has no sandbox, or None. Raises RightMissing."""
    check_backend(rights, spec.name)
    if rights.models:
        _check_model(request, rights, spec)
    if request.extra or spec.extra_args:
        _check_flags(request, rights, spec)
    confinement = confinement_of(rights, spec)
    if confinement is not spec.confinement and (issue := sandbox_issue()):
        message = f"this API key may run agents in a sandbox only, and this server has none: {issue}"
        raise RightMissing(message, right="isolation", value="none")
    return Permitted(confinement=confinement, lowered=dict(_lowered(request, rights, spec)))


def may_use(rights: Rights, backend: str) -> bool:
    return not rights.backends or backend in rights.backends


def check_backend(rights: Rights, backend: str) -> None:
    """Raises RightMissing, also for a name that is not configured: which others exist is not the key's to know."""
    if not may_use(rights, backend):
        raise RightMissing(
            f"this API key may not use backend {backend!r}; it may use {', '.join(rights.backends)}", right="backends", value=backend
        )


def may_use_model(rights: Rights, spec: BackendSpec, model: str | None) -> bool:
    """``model``: with aliases replaced; None: none is named."""
    if not rights.models:
        return True
    name = (model or spec.defaults.get("model") or DEFAULT).lower()
    names = (name, f"{spec.name}/{name}".lower())
    # A name is its own pattern, also with brackets: `sonnet[1m]`.
    return any(pattern in names or any(fnmatchcase(name, pattern) for name in names) for pattern in map(str.lower, rights.models))


def confinement_of(rights: Rights, spec: BackendSpec) -> Confinement:
    return spec.confinement if rights.isolation == "none" or spec.confinement.sandbox else spec.sandboxed


def modes_of(rights: Rights, spec: BackendSpec, option: str) -> list[str] | None:
    """The values of a mode that the key may ask this backend for; None: no ceiling is set for the option."""
    for ceiling in CEILINGS:
        if ceiling.option == option and (highest := ceiling.of(rights)):
            return [value for value in _up_to(ceiling, highest) if value != DEFAULT and _can(spec, option, value)]
    return None


def extra_of(rights: Rights, spec: BackendSpec) -> list[str]:
    """The flags that the key may pass."""
    return [flag for flag in spec.allowed_extra if not _evaded(spec.evasive.get(flag, LIMITS), rights)]


def _check_model(request: RunRequest, rights: Rights, spec: BackendSpec) -> None:
    model = request.options.get("model")
    if not may_use_model(rights, spec, model):
        asked = model or spec.defaults.get("model") or DEFAULT
        which = f"model {asked!r}" if asked != DEFAULT else "the default model"
        message = f"this API key may not use {which} of backend {spec.name!r}; its models: {', '.join(rights.models)}"
        raise RightMissing(message, right="models", value=f"{spec.name}/{asked}")


def _check_flags(request: RunRequest, rights: Rights, spec: BackendSpec) -> None:
    """A flag of the caller that is not known to be harmless is refused, one of the operator that is known to be harmful."""
    for flag in _flags(check_extra(spec, request.extra)):
        if right := _evaded(spec.evasive.get(flag, LIMITS), rights):
            raise RightMissing(f"extra: this API key may not pass {flag}, which could evade its {right}", right=right, value=flag)
    for flag in _flags(spec.extra_args):
        if right := _evaded(spec.evasive.get(flag, ()), rights):
            message = f"backend {spec.name!r} cannot be limited by {right}, as this API key demands: its extra_flags have {flag}"
            raise RightMissing(message, right=right, value=flag)


def _flags(arguments: Iterable[str]) -> Iterator[str]:
    return (argument.partition("=")[0] for argument in arguments)


def _evaded(limits: Iterable[str], rights: Rights) -> str | None:
    """The first of ``limits`` that the key has."""
    return next((right for right in limits if _limits(right, rights)), None)


def _limits(right: str, rights: Rights) -> bool:
    ceiling = next((ceiling for ceiling in CEILINGS if ceiling.right == right), None)
    return bool(ceiling.of(rights) if ceiling else getattr(rights, right))


def _lowered(request: RunRequest, rights: Rights, spec: BackendSpec) -> Iterator[tuple[str, Any]]:
    """The options that get another value, so that no ceiling is passed."""
    if _limits("max_approval_mode", rights) and (request.options.get(UNASKED) or spec.defaults.get(UNASKED)):
        yield UNASKED, ()
    for ceiling in CEILINGS:
        highest = ceiling.of(rights)
        if highest is None:
            continue
        value, is_asked = _mode(ceiling.option, request, spec)
        if is_asked and value in ceiling.order and ceiling.place(value) > ceiling.place(highest):
            message = f"this API key may use {ceiling.option} {highest!r} at most; the request comes to {value!r}"
            raise RightMissing(message, right=ceiling.right, value=value)
        effect = value if _can(spec, ceiling.option, value) else DEFAULT  # what a CLI does not know is ignored
        if ceiling.place(effect) > ceiling.place(highest):
            possible = [value for value in _up_to(ceiling, highest) if _can(spec, ceiling.option, value)]
            if not possible:
                message = f"backend {spec.name!r} cannot be limited to {ceiling.option} {highest!r}, as this API key demands; use another"
                raise RightMissing(message, right=ceiling.right, value=value)
            yield ceiling.option, possible[-1]


def _mode(option: str, request: RunRequest, spec: BackendSpec) -> tuple[str, bool]:
    """The mode that the run would have, and whether the request itself asks for it: not its session, nor the configuration."""
    asked: Any = request.options.get(option)
    value = str(spec.defaults.get(option, DEFAULT) if asked is None else asked)
    is_asked = asked is not None and option not in request.inherited
    if option == "sandbox_mode" and value == DEFAULT:
        approval, is_asked = _mode("approval_mode", request, spec)
        value = spec.opened.get(approval, DEFAULT)
    return value, is_asked


def _up_to(ceiling: Ceiling, highest: str) -> Sequence[str]:
    return ceiling.order[: ceiling.place(highest) + 1]


def _can(spec: BackendSpec, option: str, value: str) -> bool:
    """Whether the backend knows how to run in this mode."""
    if value == DEFAULT:
        return True
    rule = spec.options.get(option)
    return rule is not None and (rule.values is None or value in rule.values)
