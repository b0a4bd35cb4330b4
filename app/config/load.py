"""All sources into one `Settings`: command line over environment over file over defaults. The only loader."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from app.config.checks import check_together
from app.config.environment import read_environment
from app.config.problems import Problem, SettingsError
from app.config.schema import Settings
from app.config.validation import TREE, Group, InvalidValue, Layer, Leaf, Node, Path, Table, fit, node_at, parse
from app.config.yaml_file import read_file

__all__ = ["SettingsError", "load_settings"]


def load_settings(
    config_path: str | None = None, environ: Mapping[str, str] = os.environ, overrides: Mapping[str, Any] | None = None
) -> Settings:
    """The settings in force. Raises SettingsError with every problem found.

    ``overrides`` is the command line's: dotted keys (`server.port`), values typed or as text; None means not given.
    """
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    home = find_home(environ, given.get("home"))
    file = _find_file(config_path, home, environ)
    merged = read_file(file) if file else Layer()
    backends = [path[1] for path in merged.values if path[:1] == ("backends",) and len(path) > 1]
    for layer in (read_environment(environ, backends), _read_command_line(given)):
        merged.values |= layer.values
        merged.places |= layer.places
        merged.problems += layer.problems
        merged.warnings += layer.warnings
    merged.values[("home",)] = home
    _expand_paths(merged, environ)
    sources = {".".join(path): place for path, place in merged.places.items() if path}
    settings: Settings = _build(TREE, _nest(merged.values), config_file=file, sources=sources, warnings=tuple(merged.warnings))
    problems = merged.problems + check_together(settings)
    if problems:
        raise SettingsError(problems)
    return settings


def find_home(environ: Mapping[str, str] = os.environ, given: object = None) -> str:
    """The folder of the server's own files, which is known also when the configuration cannot be used."""
    return os.path.abspath(_expand(str(given or environ.get("CLINVK_HOME") or "~/.clinvk"), environ))


def _find_file(config_path: str | None, home: str, environ: Mapping[str, str]) -> str | None:
    """The file to read. One that was asked for must exist (reading it tells when it does not), the default one need not."""
    asked = config_path or environ.get("CLINVK_CONFIG")
    if asked:
        return os.path.abspath(_expand(asked, environ))
    default = os.path.join(home, "config.yaml")
    return default if os.path.exists(default) else None


def _read_command_line(given: Mapping[str, Any]) -> Layer:
    layer = Layer()
    for key, value in given.items():
        path = tuple(key.split("."))
        leaf = node_at(path)
        assert isinstance(leaf, Leaf), key
        try:
            layer.values[path] = parse(leaf, value) if isinstance(value, str) else fit(leaf, value)
            layer.places[path] = "command line"
        except InvalidValue as misfit:
            layer.problems.append(Problem("command line", key, str(misfit)))
    return layer


def _expand_paths(layer: Layer, environ: Mapping[str, str]) -> None:
    """``~`` in every setting that is a path; one that is relative afterwards is a problem."""
    for path, value in layer.values.items():
        leaf = node_at(path)
        if not isinstance(leaf, Leaf) or not leaf.is_path:
            continue
        expanded = [_expand(item, environ) for item in ([value] if isinstance(value, str) else value)]
        layer.values[path] = expanded[0] if isinstance(value, str) else expanded
        for item in expanded:
            if not os.path.isabs(item):
                where, key = layer.places.get(path, ""), ".".join(path)
                layer.problems.append(Problem(where, key, f"expected an absolute path, got {item!r}"))


def _expand(path: str, environ: Mapping[str, str]) -> str:
    """``path`` with a leading ``~`` replaced by the home of ``environ``, which a test or a service may have set."""
    if path == "~" or path.startswith("~/"):
        return (environ.get("HOME") or os.path.expanduser("~")) + path[1:]
    return os.path.expanduser(path)


def _nest(values: Mapping[Path, Any]) -> dict[str, Any]:
    root: dict[str, Any] = {}
    for path, value in values.items():
        node = root
        *parents, last = path or ("",)
        for name in parents:
            node = node.setdefault(name, {})
        if value == {} and not isinstance(node_at(path), Leaf):
            node.setdefault(last, {})
        else:
            node[last] = value
    return root


def _build(shape: Node, values: Any, **more: Any) -> Any:
    match shape:
        case Group(kind, members):
            return kind(**{name: _build(members[name], value) for name, value in values.items() if name in members}, **more)
        case Table(of):
            return {name: _build(of, value) for name, value in values.items()}
    return values
