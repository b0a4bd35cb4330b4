"""Resolves model names: which backend serves a name, and which model is passed to its CLI.

A name is, in this order: a backend (`codex`), a backend with a model (`codex/gpt-5.2`), an alias of the default backend (`fast`),
a model or an alias that a backend lists, a name that matches a backend's pattern (`*sonnet*`; the pattern with the most
characters other than wildcards wins). Between equal matches the default backend wins, then the order of the backends. Only available
backends match. Any other name falls back to the default backend: the configured one, else the first available one in the order of the
backends, except the demo.

For an API key that is limited to some backends or models, there are only those (`ModelResolver.among`): the first of its backends is the
default, and a name that only another backend claims is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache

from services.access.policy import may_use_model
from services.access.rights import UNLIMITED, Rights
from services.clis.safety import safe_name
from services.clis.spec import BackendSpec
from services.errors import NotFound, RightMissing
from services.suggestion import suggestion

WILDCARDS = "*?["
TIERS = ("fast", "balanced", "best")
"""Aliases that always refer to the default backend: serving `fast` from another one would be surprising."""
VIEWS_LIMIT = 256
"""How many different rights' views of the models are cached."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """``model`` None means the backend's default. ``is_fallback``: no available backend claims the name.

    ``is_exact``: the request means this model of this backend and no other (``backend/model``). ``tier``: one of `TIERS`, if the
    request names one.
    """

    backend: str
    model: str | None
    is_fallback: bool = False
    reason: str = field(default="", compare=False)
    """Why the default backend was selected, if it was."""
    is_exact: bool = field(default=False, compare=False)
    tier: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A name that a client may request. ``backend`` serves it."""

    id: str
    backend: str
    is_available: bool


class ModelResolver:
    """``is_available`` is called at every resolution: a CLI may be installed while the server runs."""

    def __init__(
        self,
        backends: Mapping[str, BackendSpec],
        *,
        default_backend: str = "",
        strict: bool = False,
        is_available: Callable[[BackendSpec], bool],
        rights: Rights = UNLIMITED,
    ) -> None:
        """``rights``: names resolve among what they allow."""
        enabled = {name: spec for name, spec in backends.items() if spec.enabled}
        self._backends = {name: enabled[name] for name in rights.backends or enabled if name in enabled}
        self._others = {name: spec for name, spec in enabled.items() if name not in self._backends}
        self._configured = next(iter((*self._backends, *rights.backends)), "") if rights.backends else default_backend
        self._strict = strict
        self._is_available = is_available
        self._rights = rights
        self._view = lru_cache(VIEWS_LIMIT)(
            lambda rights: ModelResolver(backends, default_backend=default_backend, strict=strict, is_available=is_available, rights=rights)
        )

    def among(self, rights: Rights) -> ModelResolver:
        """The resolver of a key with ``rights``."""
        if not rights.backends and not rights.models:
            return self
        return self._view(Rights(backends=rights.backends, models=rights.models))

    @property
    def default_backend(self) -> str:
        """The configured default, else the first available backend. If none is available, the first: its error says how to install it."""
        if self._configured:
            return self._configured
        candidates = [spec for spec in self._backends.values() if not spec.is_demo] or list(self._backends.values())
        return next((spec.name for spec in candidates if self._is_available(spec)), candidates[0].name)

    def resolve(self, name: str | None) -> Resolution:
        """The backend that serves ``name``; None and the empty name mean the default backend.

        Raises InvalidRequest for a name that is unsafe as a CLI argument, RightMissing for one that only a backend outside of the rights
        claims, NotFound for an unclaimed one in strict mode.
        """
        if not name:
            return Resolution(self.default_backend, None, reason="the request names no backend")
        safe_name(name, "model")
        found = self._named(name) or self._claimed(name)
        if found:
            return found
        if self._others and self._is_of_others(name):
            raise RightMissing(
                f"this API key may not use the backend of model {name!r}; it may use {', '.join(self._rights.backends)}",
                right="backends",
                value=name,
            )
        if self._strict:
            raise self._unknown(name)
        return Resolution(self.default_backend, None, is_fallback=True, reason=self._fallback_reason(name))

    def model_for(self, backend: str, model: str | None) -> str | None:
        """The model to pass to the CLI of ``backend``, aliases replaced; None means its default.

        A backend's own name is not a model: the real CLIs answer 404 to `--model=codex`.
        """
        if not model or model == backend:
            return None
        safe_name(model, "model")
        spec = self._backends.get(backend)
        return _aliased(spec, model) if spec else model

    def find(self, name: str) -> ListedModel:
        """One model. Raises NotFound for a name that would only reach the default backend as a fallback, or that the rights exclude."""
        try:
            found = self.resolve(name)
        except RightMissing:
            raise self._unknown(name) from None
        if found.is_fallback or not may_use_model(self._rights, self._backends[found.backend], found.model):
            raise self._unknown(name)
        return ListedModel(name, found.backend, self._is_available(self._backends[found.backend]))

    def listed(self, *, in_full: bool = False) -> list[ListedModel]:
        """Backends and their models: available backends first, and among them the default backend.

        ``in_full`` adds the aliases, and the demo even if another backend is available.
        """
        available = {name: self._is_available(spec) for name, spec in self._backends.items()}
        default = self.default_backend
        hides_demo = not in_full and any(available[name] for name, spec in self._backends.items() if not spec.is_demo)
        shown = [name for name, spec in self._backends.items() if name == default or not (spec.is_demo and hides_demo)]
        order = sorted(shown, key=lambda name: (not available[name], name != default))
        names = {model_id: name for name in order for model_id in self._ids(self._backends[name], with_aliases=in_full)}
        return [ListedModel(model_id, name, available[name]) for model_id, name in names.items()]

    def ties(self) -> list[str]:
        """A warning for each name that several backends list, naming the one that serves it while all are available."""
        found = []
        for name in dict.fromkeys(name for spec in self._backends.values() for name in (*spec.models, *spec.aliases)):
            listing = [backend for backend, spec in self._backends.items() if not _is_pattern(name) and _lists(spec, name)]
            if len(listing) > 1:
                winner = self._configured if self._configured in listing else listing[0]
                found.append(f"model {name!r} is listed by {', '.join(listing)}: {winner} serves it; use <backend>/{name} for the others")
        return found

    def _ids(self, spec: BackendSpec, *, with_aliases: bool) -> Iterator[str]:
        aliases = [alias for alias in spec.aliases if with_aliases and not _is_pattern(alias)]
        if may_use_model(self._rights, spec, None):
            yield spec.name
        usable = [name for name in dict.fromkeys((*spec.models, *aliases)) if may_use_model(self._rights, spec, _aliased(spec, name))]
        if spec.name == self.default_backend:
            yield from (name for name in aliases if name in usable)
        for model in usable:
            yield f"{spec.name}/{model}"

    def _named(self, name: str) -> Resolution | None:
        """Resolve an unambiguous name: a backend, ``backend/model``, or an alias of the default backend."""
        if name in self._backends:
            return Resolution(name, None)
        backend, slash, model = name.partition("/")
        if slash and backend in self._backends:
            resolved = self.model_for(backend, model)
            return Resolution(backend, resolved, is_exact=is_exact(backend, model), tier=tier_of(model))
        default = self._backends.get(self.default_backend)
        if default and name in default.aliases:
            return Resolution(default.name, self.model_for(default.name, name), tier=tier_of(name))
        return None

    def _claimed(self, name: str) -> Resolution | None:
        """The available backend with the best claim: a listed model or an alias, else the longest matching pattern."""
        best: tuple[int, bool, str] | None = None
        default = self.default_backend
        for backend, spec in self._backends.items():
            claim = _claim(spec, name)
            if claim and (best is None or (claim, backend == default) > best[:2]) and self._is_available(spec):
                best = (claim, backend == default, backend)
        return Resolution(best[2], self.model_for(best[2], name)) if best else None

    def _is_of_others(self, name: str) -> bool:
        """Whether a backend outside of the rights claims the name, and none within them, available or not."""
        if name in self._others or name.partition("/")[0] in self._others:
            return True
        return any(_claim(spec, name) for spec in self._others.values()) and not any(_claim(spec, name) for spec in self._backends.values())

    def _fallback_reason(self, name: str) -> str:
        hint = suggestion(name, self._backends)
        return f"model {name!r} names no backend and no available backend claims it{f'; {hint}' if hint else ''}"

    def _unknown(self, name: str) -> NotFound:
        known = ", ".join(model.id for model in self.listed() if model.is_available and "/" not in model.id)
        return NotFound(f"unknown model {name!r}; known: {known or 'none'}, and <backend>/<model>", field="model")


def tier_of(model: str | None) -> str:
    """``model`` if it is a tier; else empty."""
    return model if model in TIERS else ""


def is_exact(backend: str | None, model: str | None) -> bool:
    """Whether a request that names both means this model of this backend and no other."""
    return bool(backend and model) and model != backend and model not in TIERS


LISTED = 1_000
"""Claim strength of a listed name: above that of any pattern, which is at most the length of a name."""


def _claim(spec: BackendSpec, name: str) -> int:
    """How specifically ``spec`` claims ``name``; 0: not at all."""
    if _lists(spec, name):
        return LISTED
    lower = name.lower()
    patterns = (*spec.claims, *(alias for alias in spec.aliases if spec.claims_listed and _is_pattern(alias)))
    return max((_exactness(pattern) for pattern in patterns if fnmatchcase(lower, pattern.lower())), default=0)


def _lists(spec: BackendSpec, name: str) -> bool:
    return spec.claims_listed and (name in spec.models or (name in spec.aliases and name not in TIERS))


def _exactness(pattern: str) -> int:
    return 1 + len(pattern) - sum(pattern.count(wildcard) for wildcard in WILDCARDS)


def _aliased(spec: BackendSpec, model: str) -> str | None:
    """``model`` with aliases applied: an exact key before a pattern, the longest pattern first."""
    target = spec.aliases.get(model)
    if target is None:
        lower = model.lower()
        matching = [alias for alias in spec.aliases if _is_pattern(alias) and fnmatchcase(lower, alias.lower())]
        target = spec.aliases[max(matching, key=_exactness)] if matching else model
    return None if target in ("", spec.name) else target


def _is_pattern(text: str) -> bool:
    return any(wildcard in text for wildcard in WILDCARDS)
