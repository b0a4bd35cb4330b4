"""All sources into one `Settings`: command line over environment over file over defaults. The only loader."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from app.config.checks import check_together
from app.config.environment import read_environment
from app.config.layer import Layer, dotted
from app.config.problems import COMMAND_LINE, SettingsError
from app.config.schema import Settings
from app.config.validation import TREE
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
    from_file = read_file(file) if file else Layer()
    backends = from_file.values.get("backends") if isinstance(from_file.values, dict) else ()
    layers = (from_file, read_environment(environ, backends if isinstance(backends, dict) else ()), _read_command_line(given))
    values: dict[str, Any] = {}
    for layer in layers:
        layer.check(lambda path: _expand(path, environ))
        values = _merged(values, layer.values)
    if problems := [problem for layer in layers for problem in layer.problems]:
        raise SettingsError(problems)
    settings: Settings = replace(
        TREE.build({**values, "home": home}),
        config_file=file,
        sources={dotted(path): place for layer in layers for path, place in layer.places.items() if path},
        warnings=tuple(warning for layer in layers for warning in layer.warnings),
    )
    if problems := check_together(settings):
        raise SettingsError(problems)
    return settings


def find_home(environ: Mapping[str, str] = os.environ, given: object = None) -> str:
    """The folder of the server's own files, which is known also when the configuration cannot be used."""
    return os.path.abspath(_expand(str(given or environ.get("CLINVK_HOME") or "~/.clinvk"), environ))


def _find_file(config_path: str | None, home: str, environ: Mapping[str, str]) -> str | None:
    """The file to read. An explicit one must exist (reading it reports that it does not), the default one need not."""
    asked = config_path or environ.get("CLINVK_CONFIG")
    if asked:
        return os.path.abspath(_expand(asked, environ))
    default = os.path.join(home, "config.yaml")
    return default if os.path.exists(default) else None


def _read_command_line(given: Mapping[str, Any]) -> Layer:
    layer = Layer()
    for key, value in given.items():
        layer.put(tuple(key.split(".")), value, COMMAND_LINE, (COMMAND_LINE, key))
    return layer


def _merged(low: Any, high: Any) -> Any:
    """Tables are merged by key; anything else of ``high`` replaces that of ``low``."""
    if not isinstance(low, dict) or not isinstance(high, dict):
        return high
    return low | {name: _merged(low[name], value) if name in low else value for name, value in high.items()}


def _expand(path: str, environ: Mapping[str, str]) -> str:
    """``path`` with a leading ``~`` replaced by the home of ``environ``, which a test or a service may have set."""
    if path == "~" or path.startswith("~/"):
        return (environ.get("HOME") or os.path.expanduser("~")) + path[1:]
    return os.path.expanduser(path)
