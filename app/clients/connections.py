"""The clients that `clinvk connect` configures: what is written where, as data. docs/clients.md is generated from it.

Texts may contain `{url}`, `{model}` and `{key}`; the last is the key, or the client's own reference to the variable that holds it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from app.clients.edit import MISSING, FormatName, Path, at
from services.depth import HEADER as DEPTH_HEADER
from services.depth import VARIABLE as DEPTH_VARIABLE

Purpose = Literal["model", "mcp"]
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
ROLES: Mapping[Purpose, str] = {"model": "As a model provider", "mcp": "As an MCP server"}

KEY_VARIABLE = "GATEWAY_API_KEY"
"""Holds the key for clients. Not `CLINVK_…`: a CLI that the server starts does not get the variables of that name."""
ENTRY = "clinvk"
"""The name of what is written: of the model provider and of the MCP server."""
TOOL_TIMEOUT_S = 1800
"""How long a client waits for a tool: a run may take 20 minutes, and wait for its turn besides."""
MODEL = "claude"
"""The model that a client asks for unless another is named."""

SHELL_REFERENCE = f"${{{KEY_VARIABLE}:-unused}}"
SHELL_DEPTH = f"${{{DEPTH_VARIABLE}:-0}}"
ENV_REFERENCE = f"${{env:{KEY_VARIABLE}}}"
NO_CLIENT_TOOLS = {"X-Clinvk-Tools": "ignore"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A configuration file. A path may begin with `~` or with a variable that names a folder."""

    kind: FormatName
    user: tuple[str, ...]
    """Of the user. Those that begin with a variable count if it is set, else the others; of these the first one that exists, or the first."""
    project: str = ""
    """In a project's folder; empty if the client has none there, or reads none of this from it."""
    preamble: Mapping[str, Any] = field(default_factory=dict)
    """What a new file begins with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """``entries``: what stands at each path. ``mark``: the path of the URL that tells an entry of ours from another of its name."""

    place: Place
    entries: dict[Path, Any]
    mark: Path
    reference: str
    """To the variable with the key, in the client's syntax; empty if it has none, so that the key itself must be written."""
    entries_with_key: dict[Path, Any] = field(default_factory=dict)
    """In place of ``entries`` where the key itself is written, if `{key}` in them cannot stand for it."""
    then: str = ""
    """What remains to be done or known, in Markdown."""
    tested_by: str = ""
    """The test in which the program itself reads it; empty: from its documentation."""

    @property
    def place_of_mark(self) -> Path:
        return next(path for path in self.entries if self.mark[: len(path)] == path)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Of all that may have been written, with the key or without."""
        return tuple(self.entries | self.entries_with_key)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectedClient:
    title: str
    connections: Mapping[Purpose, Connection]
    otherwise: Mapping[Purpose, str] = field(default_factory=dict)
    """Why a purpose has no connection, or what to do by hand."""


def _server(entry: Mapping[str, Any], table: str = "mcpServers", url: str = "url") -> dict[str, Any]:
    path = (table, ENTRY)
    return {"entries": {path: entry}, "mark": (*path, url)}


CODEX = Place(kind="toml", user=("$CODEX_HOME/config.toml", "~/.codex/config.toml"))
OPENCODE = Place(
    kind="json",
    user=(
        "$XDG_CONFIG_HOME/opencode/opencode.json",
        "$XDG_CONFIG_HOME/opencode/opencode.jsonc",
        "~/.config/opencode/opencode.json",
        "~/.config/opencode/opencode.jsonc",
    ),
    project="opencode.json",
    preamble={"$schema": "https://opencode.ai/config.json"},
)
CONTINUE = Place(
    kind="yaml",
    user=("~/.continue/config.yaml",),
    preamble={"name": "Local Config", "version": "1.0.0", "schema": "v1"},
)
ZED = Place(kind="json", user=("$XDG_CONFIG_HOME/zed/settings.json", "~/.config/zed/settings.json"), project=".zed/settings.json")

QWEN = Place(kind="json", user=("~/.qwen/settings.json",), project=".qwen/settings.json")

CLIENTS: Mapping[str, ConnectedClient] = {
    "claude": ConnectedClient(
        title="Claude Code",
        connections={
            "model": Connection(
                place=Place(
                    kind="json",
                    user=("$CLAUDE_CONFIG_DIR/settings.json", "~/.claude/settings.json"),
                    project=".claude/settings.json",
                ),
                entries={
                    ("env", "ANTHROPIC_BASE_URL"): "{url}/anthropic",
                    ("env", "ANTHROPIC_MODEL"): "{model}",
                    ("apiKeyHelper",): 'echo "{key}"',
                },
                mark=("env", "ANTHROPIC_BASE_URL"),
                reference=SHELL_REFERENCE,
                then="Claude Code then sends all of its requests to this server. To keep its own models: `--as mcp`.",
                tested_by="tests/clients/test_connect.py",
            ),
            "mcp": Connection(
                place=Place(kind="json", user=("$CLAUDE_CONFIG_DIR/.claude.json", "~/.claude.json"), project=".mcp.json"),
                **_server(
                    {
                        "type": "http",
                        "url": "{url}/mcp",
                        "headers": {"Authorization": "Bearer {key}", DEPTH_HEADER: SHELL_DEPTH},
                        "timeout": TOOL_TIMEOUT_S * 1000,
                    }
                ),
                reference=SHELL_REFERENCE,
                tested_by="tests/clients/test_connect.py",
            ),
        },
    ),
    "codex": ConnectedClient(
        title="Codex",
        connections={
            "model": Connection(
                place=CODEX,
                entries={
                    ("model_providers", ENTRY): {
                        "name": ENTRY,
                        "base_url": "{url}/openai/v1",
                        "wire_api": "responses",
                        "env_key": KEY_VARIABLE,
                    }
                },
                entries_with_key={
                    ("model_providers", ENTRY): {
                        "name": ENTRY,
                        "base_url": "{url}/openai/v1",
                        "wire_api": "responses",
                        "http_headers": {"Authorization": "Bearer {key}"},
                    }
                },
                mark=("model_providers", ENTRY, "base_url"),
                reference=KEY_VARIABLE,
                then=f"Start it with `codex -c model_provider={ENTRY} -m {{model}}`; your own default stays what it is.",
                tested_by="tests/clients/test_connect.py",
            ),
            "mcp": Connection(
                place=Place(kind="toml", user=CODEX.user, project=".codex/config.toml"),
                **_server(
                    {
                        "url": "{url}/mcp",
                        "bearer_token_env_var": KEY_VARIABLE,
                        "env_http_headers": {DEPTH_HEADER: DEPTH_VARIABLE},
                        "tool_timeout_sec": TOOL_TIMEOUT_S,
                    },
                    "mcp_servers",
                ),
                entries_with_key={
                    ("mcp_servers", ENTRY): {
                        "url": "{url}/mcp",
                        "http_headers": {"Authorization": "Bearer {key}"},
                        "env_http_headers": {DEPTH_HEADER: DEPTH_VARIABLE},
                        "tool_timeout_sec": TOOL_TIMEOUT_S,
                    }
                },
                reference=KEY_VARIABLE,
                then=f"Codex does not start the tools while `{KEY_VARIABLE}` is not set: without keys on the server, set it to any text.",
                tested_by="tests/clients/test_connect.py",
            ),
        },
    ),
    "gemini": ConnectedClient(
        title="Gemini CLI",
        connections={
            "mcp": Connection(
                place=Place(
                    kind="json",
                    user=("$GEMINI_CLI_HOME/.gemini/settings.json", "~/.gemini/settings.json"),
                    project=".gemini/settings.json",
                ),
                **_server(
                    {
                        "httpUrl": "{url}/mcp",
                        "headers": {"Authorization": "Bearer {key}", DEPTH_HEADER: SHELL_DEPTH},
                        "timeout": TOOL_TIMEOUT_S * 1000,
                    },
                    url="httpUrl",
                ),
                reference=SHELL_REFERENCE,
                then="Gemini CLI uses no MCP server in a folder that it does not trust.",
                tested_by="tests/clients/test_connect.py",
            ),
        },
        otherwise={"model": "Gemini CLI speaks Google's own API, which this server does not serve."},
    ),
    "qwen": ConnectedClient(
        title="Qwen Code",
        connections={
            "model": Connection(
                place=QWEN,
                entries={
                    ("security", "auth", "selectedType"): "openai",
                    ("security", "auth", "baseUrl"): "{url}/openai/v1",
                    ("security", "auth", "apiKey"): "{key}",
                    ("model", "name"): "{model}",
                    ("model", "generationConfig", "customHeaders"): NO_CLIENT_TOOLS,
                },
                mark=("security", "auth", "baseUrl"),
                reference=f"${{{KEY_VARIABLE}}}",
                then="Qwen Code then sends all of its requests to this server. To keep its own model: `--as mcp`.",
                tested_by="tests/clients/test_npm_clients.py",
            ),
            "mcp": Connection(
                place=QWEN,
                **_server(
                    {"httpUrl": "{url}/mcp", "headers": {"Authorization": "Bearer {key}"}, "timeout": TOOL_TIMEOUT_S * 1000},
                    url="httpUrl",
                ),
                reference=f"${{{KEY_VARIABLE}}}",
                then="Qwen Code knows no default for a variable that is not set, so the depth header is left out.",
                tested_by="tests/clients/test_npm_clients.py",
            ),
        },
    ),
    "opencode": ConnectedClient(
        title="opencode",
        connections={
            "model": Connection(
                place=OPENCODE,
                entries={
                    ("provider", ENTRY): {
                        "npm": "@ai-sdk/openai-compatible",
                        "name": ENTRY,
                        "options": {"baseURL": "{url}/openai/v1", "apiKey": "{key}", "headers": NO_CLIENT_TOOLS},
                        "models": {"{model}": {}},
                    }
                },
                mark=("provider", ENTRY, "options", "baseURL"),
                reference=f"{{env:{KEY_VARIABLE}}}",
                then=f"Choose the model `{ENTRY}/{{model}}`, for example `opencode run --model {ENTRY}/{{model}}`.",
                tested_by="tests/clients/openai/test_opencode.py",
            ),
            "mcp": Connection(
                place=OPENCODE,
                **_server(
                    {
                        "type": "remote",
                        "url": "{url}/mcp",
                        "headers": {"Authorization": "Bearer {key}", DEPTH_HEADER: f"{{env:{DEPTH_VARIABLE}}}"},
                        "oauth": False,
                        "timeout": TOOL_TIMEOUT_S * 1000,
                    },
                    "mcp",
                ),
                reference=f"{{env:{KEY_VARIABLE}}}",
                tested_by="tests/clients/openai/test_opencode.py",
            ),
        },
    ),
    "cline": ConnectedClient(
        title="Cline",
        connections={
            "model": Connection(
                place=Place(
                    kind="json", user=("~/.cline/data/settings/providers.json",), preamble={"version": 1, "modes": {}, "providers": {}}
                ),
                entries={
                    ("providers", "openai-compatible"): {
                        "settings": {
                            "provider": "openai-compatible",
                            "apiKey": "{key}",
                            "model": "{model}",
                            "baseUrl": "{url}/openai/v1",
                            "headers": NO_CLIENT_TOOLS,
                        },
                        "updatedAt": "2026-01-01T00:00:00.000Z",
                        "tokenSource": "manual",
                    }
                },
                mark=("providers", "openai-compatible", "settings", "baseUrl"),
                reference="",
                then="Start it with `cline -P openai-compatible`. Cline expands no variables: `--with-key` writes the key.",
                tested_by="tests/clients/test_npm_clients.py",
            ),
            "mcp": Connection(
                place=Place(kind="json", user=("~/.cline/data/settings/cline_mcp_settings.json",)),
                **_server(
                    {
                        "type": "streamableHttp",
                        "url": "{url}/mcp",
                        "headers": {"Authorization": "Bearer {key}"},
                        "timeout": TOOL_TIMEOUT_S,
                    }
                ),
                reference="",
                then="Cline expands no variables: `--with-key` writes the key, and the depth header is left out. Its extension for VS Code"
                " keeps a file of its own: MCP Servers → Configure.",
                tested_by="tests/clients/test_npm_clients.py",
            ),
        },
    ),
    "cursor": ConnectedClient(
        title="Cursor",
        connections={
            "mcp": Connection(
                place=Place(kind="json", user=("~/.cursor/mcp.json",), project=".cursor/mcp.json"),
                **_server({"url": "{url}/mcp", "headers": {"Authorization": "Bearer {key}"}}),
                reference=ENV_REFERENCE,
                then="Cursor knows no default for a variable that is not set, so the depth header is left out.",
            ),
        },
        otherwise={"model": "Settings → Models → API Keys → Override OpenAI Base URL; the address must be public, with TLS"},
    ),
    "continue": ConnectedClient(
        title="Continue",
        connections={
            "model": Connection(
                place=CONTINUE,
                entries={
                    ("models", ENTRY): {
                        "name": ENTRY,
                        "provider": "openai",
                        "model": "{model}",
                        "apiBase": "{url}/openai/v1",
                        "apiKey": "{key}",
                        "roles": ["chat", "edit"],
                        "requestOptions": {"headers": NO_CLIENT_TOOLS},
                    }
                },
                mark=("models", ENTRY, "apiBase"),
                reference=f"${{{{ secrets.{KEY_VARIABLE} }}}}",
                then=f"Put `{KEY_VARIABLE}=…` into `~/.continue/.env`.",
                tested_by="tests/clients/test_npm_clients.py",
            ),
            "mcp": Connection(
                place=CONTINUE,
                entries={
                    ("mcpServers", ENTRY): {
                        "name": ENTRY,
                        "type": "streamable-http",
                        "url": "{url}/mcp",
                        "requestOptions": {"headers": {"Authorization": "Bearer {key}"}},
                    }
                },
                mark=("mcpServers", ENTRY, "url"),
                reference=f"${{{{ secrets.{KEY_VARIABLE} }}}}",
                then="Continue has no limit of its own for a tool to raise, and none but its secrets as variables: the depth header is left out.",
                tested_by="tests/clients/test_npm_clients.py",
            ),
        },
    ),
    "aider": ConnectedClient(
        title="aider",
        connections={
            "model": Connection(
                place=Place(kind="yaml", user=("~/.aider.conf.yml",), project=".aider.conf.yml"),
                entries={("openai-api-base",): "{url}/openai/v1", ("model",): "openai/{model}"},
                entries_with_key={
                    ("openai-api-base",): "{url}/openai/v1",
                    ("model",): "openai/{model}",
                    ("openai-api-key",): "{key}",
                },
                mark=("openai-api-base",),
                reference="OPENAI_API_KEY",
                then=f'aider takes the key from `OPENAI_API_KEY`: start it with `OPENAI_API_KEY="${KEY_VARIABLE}" aider`.',
            ),
        },
        otherwise={"mcp": "aider is no MCP client."},
    ),
    "vscode": ConnectedClient(
        title="VS Code",
        connections={
            "mcp": Connection(
                place=Place(
                    kind="json",
                    user=("~/Library/Application Support/Code/User/mcp.json", "~/.config/Code/User/mcp.json"),
                    project=".vscode/mcp.json",
                ),
                **_server({"type": "http", "url": "{url}/mcp", "headers": {"Authorization": "Bearer {key}"}}, "servers"),
                reference=ENV_REFERENCE,
                then=f"VS Code must be started where `{KEY_VARIABLE}` is set; where it does not expand it (microsoft/vscode#336232), use `--with-key`. It knows no default for a variable, so the depth header is left out.",
            ),
        },
        otherwise={"model": "Manage Language Models → Add Models → OpenAI Compatible, with the address {url}/openai/v1"},
    ),
    "zed": ConnectedClient(
        title="Zed",
        connections={
            "model": Connection(
                place=ZED,
                entries={
                    ("language_models", "openai_compatible", "gateway"): {
                        "api_url": "{url}/openai/v1",
                        "available_models": [{"name": "{model}", "max_tokens": 200000, "capabilities": {"tools": False}}],
                    }
                },
                mark=("language_models", "openai_compatible", "gateway", "api_url"),
                reference=KEY_VARIABLE,
                then=f"Zed takes the key from the variable that is named for the provider, `{KEY_VARIABLE}`, or from the provider's form.",
            ),
            "mcp": Connection(
                place=ZED,
                **_server({"url": "{url}/mcp", "headers": {"Authorization": "Bearer {key}"}}, "context_servers"),
                reference="",
                then="Zed expands no variables here: `--with-key` writes the key, and the depth header is left out.",
            ),
        },
    ),
}


def entries_of(connection: Connection, *, url: str, model: str, key: str = "") -> dict[Path, Any]:
    """What to write, by path. Without a ``key``: the reference to its variable."""
    chosen = connection.entries_with_key if key and connection.entries_with_key else connection.entries
    values = {"url": url, "model": model, "key": key or connection.reference}
    return {path: _filled(value, values) for path, value in chosen.items()}


def filled(text: str, **values: str) -> str:
    """``text`` with each `{name}` replaced. Not `str.format`: settings in JSON and YAML contain braces."""
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def _filled(value: Any, values: Mapping[str, str]) -> Any:
    match value:
        case str():
            return filled(value, **values)
        case dict():
            return {filled(name, **values): _filled(member, values) for name, member in value.items()}
        case list():
            return [_filled(item, values) for item in value]
        case _:
            return value


def is_ours(connection: Connection, data: Mapping[str, Any]) -> bool:
    """Whether ``data``, a parsed file, has all that `entries_of` writes, with the address of such a server, this or another one."""
    found, path = at(data, connection.mark), connection.place_of_mark
    own = at(connection.entries[path], connection.mark[len(path) :])
    is_address = isinstance(found, str) and found.endswith(own.removeprefix("{url}"))
    return is_address and all(at(data, path) is not MISSING for path in connection.entries)
