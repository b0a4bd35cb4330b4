"""The environment: `CLINVK_SERVER__PORT` style for every key, and the variables with names of their own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from app.config.go_clinvk import why_variable_is_left_out
from app.config.layer import Layer
from app.config.problems import Problem, did_you_mean
from app.config.validation import TREE, Items, Node, Table, Value, leaf_keys, node_at, split
from services import depth

PREFIX = "CLINVK_"

NAMED = {
    "CLINVK_BACKEND": ("default_backend",),
    "CLINVK_CLAUDE_MODEL": ("backends", "claude", "model"),
    "CLINVK_CODEX_MODEL": ("backends", "codex", "model"),
    "CLINVK_GEMINI_MODEL": ("backends", "gemini", "model"),
    "CLINVK_API_KEYS_GOPASS_PATH": ("server", "api_keys_gopass_path"),
}
"""Short names of settings; they win over the long ones."""

READ_ELSEWHERE = {"CLINVK_CONFIG", "CLINVK_API_KEY", "CLINVK_API_KEYS", "CLINVK_SERVER_URL", depth.VARIABLE}
"""Variables that are not settings: the file to read, the keys (`app.security.api_keys`), the server that client commands use, and the
depth of an agent whose shell this is."""

# Kubernetes and Docker describe a service called "clinvk" to every container beside it with variables of these names.
SERVICE_LINK = re.compile(r"CLINVK_(.*_)?(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)=.*")
SERVICE_URL = re.compile(r"CLINVK_(.*_)?PORT=(tcp|udp|sctp)://.*")


def read_environment(environ: Mapping[str, str], backends: Iterable[str] = ()) -> Layer:
    """The settings that variables set. An empty variable counts as not set.

    ``backends`` are names already known: a variable writes `my-cli` as MY_CLI.
    """
    layer = Layer()
    names = {name.upper().replace("-", "_"): name for name in backends}
    ours = (name for name, text in environ.items() if name.startswith(PREFIX) and text.strip() and name not in READ_ELSEWHERE)
    for name in sorted(ours, key=lambda name: (name in NAMED, name)):
        path = NAMED.get(name) or _path(name, names)
        setting, text = node_at(path), environ[name]
        if isinstance(setting, Items) and setting.text:
            layer.put(path, split(text), name, ("environment", name))
        elif isinstance(setting, Items) or (isinstance(setting, Value) and dict in setting.kinds):
            layer.problems.append(Problem("environment", name, "can only be set in the configuration file"))
        elif isinstance(setting, Value):
            layer.put(path, split(text) if list in setting.kinds and str not in setting.kinds else text, name, ("environment", name))
        elif reason := why_variable_is_left_out(name):
            layer.warnings.append(Problem("environment", name, f"{reason}; ignored"))
        elif not _is_service_link(name, text):
            layer.problems.append(Problem("environment", name, f"unknown variable; {_suggestion(name)}"))
    return layer


def _path(name: str, backends: Mapping[str, str]) -> tuple[str, ...]:
    """The key that a variable stands for. A name that is in no table is that of a setting or a group, in capitals."""
    path: list[str] = []
    node: Node | None = TREE
    for part in name.removeprefix(PREFIX).split("__"):
        if not isinstance(node, Table):
            path.append(part.lower() if part.isupper() else "")
        else:
            path.append(backends.get(part, part.lower()) if path == ["backends"] else part)
        node = node.below(path[-1]) if node else None
    return tuple(path)


def _is_service_link(name: str, text: str) -> bool:
    return any(pattern.fullmatch(f"{name}={text}") for pattern in (SERVICE_LINK, SERVICE_URL))


def variable(path: tuple[str, ...]) -> str:
    return PREFIX + "__".join(path).upper()


def _suggestion(name: str) -> str:
    backend_keys = [key for item in ("claude", "codex", "gemini") for key in leaf_keys(node_at(("backends", item)), ("backends", item))]
    known = {variable(path) for path in (*leaf_keys(), *backend_keys)} | set(NAMED) | READ_ELSEWHERE - {depth.VARIABLE}
    return did_you_mean(name, known) or "a setting's variable is CLINVK_ and its key, with __ between the parts"
