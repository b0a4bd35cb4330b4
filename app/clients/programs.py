"""How to configure each known client program for this server: the data behind docs/clients.md, one entry per program.

Texts may contain `{url}` (the server's address), `{key}`, `{model}` and `{workdir}`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Dialect = Literal["openai", "anthropic"]

BASE_URLS: dict[Dialect, str] = {"openai": "{url}/openai/v1", "anthropic": "{url}/anthropic"}
"""The base URL that the SDKs and most programs expect. `{url}/v1` serves both dialects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """``settings`` is text to enter at ``place``: a file, a shell, or a form of the program."""

    name: str
    dialect: Dialect
    place: str
    language: str
    settings: str
    workdir: str = ""
    """How the program sets the agent's working directory; empty if it cannot, so that the server's default applies."""
    limits: str = ""
    """What does not work."""
    tested_by: str = ""
    """The test that runs the program; empty if no test does."""
    not_run: str = ""
    """Why no test runs a program that could be installed for one."""


NO_TOOLS = "Client tools (function calling) are refused with 400 unless the request has the header `X-Clinvk-Tools: ignore`."

CLIENTS: tuple[Client, ...] = (
    Client(
        name="OpenAI SDK (Python)",
        dialect="openai",
        place="Python",
        language="python",
        settings='client = OpenAI(base_url="{url}/openai/v1", api_key="{key}")\nclient.chat.completions.create(model="{model}", messages=[…])',
        workdir='`OpenAI(…, default_headers={"X-Clinvk-Workdir": "{workdir}"})`',
        limits=NO_TOOLS,
        tested_by="tests/clients/openai/test_chat.py",
    ),
    Client(
        name="OpenAI SDK (Node)",
        dialect="openai",
        place="JavaScript",
        language="js",
        settings='const client = new OpenAI({ baseURL: "{url}/openai/v1", apiKey: "{key}" });',
        workdir='`new OpenAI({ …, defaultHeaders: { "X-Clinvk-Workdir": "{workdir}" } })`',
        limits=NO_TOOLS,
        tested_by="tests/clients/openai/test_node_clients.py",
    ),
    Client(
        name="Anthropic SDK (Python)",
        dialect="anthropic",
        place="Python",
        language="python",
        settings='client = Anthropic(base_url="{url}/anthropic", api_key="{key}")\nclient.messages.create(model="{model}", max_tokens=1024, messages=[…])',
        workdir='`Anthropic(…, default_headers={"X-Clinvk-Workdir": "{workdir}"})`',
        limits=NO_TOOLS,
        tested_by="tests/clients/anthropic/test_messages.py",
    ),
    Client(
        name="Anthropic SDK (Node)",
        dialect="anthropic",
        place="JavaScript",
        language="js",
        settings='const client = new Anthropic({ baseURL: "{url}/anthropic", apiKey: "{key}" });',
        workdir='`new Anthropic({ …, defaultHeaders: { "X-Clinvk-Workdir": "{workdir}" } })`',
        limits=NO_TOOLS,
        tested_by="tests/clients/anthropic/test_node_clients.py",
    ),
    Client(
        name="LangChain",
        dialect="openai",
        place="Python",
        language="python",
        settings=(
            'ChatOpenAI(base_url="{url}/openai/v1", api_key="{key}", model="{model}")\n'
            'ChatAnthropic(base_url="{url}/anthropic", api_key="{key}", model="{model}")'
        ),
        workdir='`default_headers={"X-Clinvk-Workdir": "{workdir}"}`',
        limits=f'{NO_TOOLS} So `bind_tools` fails, and `with_structured_output` needs `method="json_schema"` on ChatOpenAI.',
        tested_by="tests/clients/openai/test_other_clients.py, tests/clients/anthropic/test_python_clients.py",
    ),
    Client(
        name="LlamaIndex",
        dialect="openai",
        place="Python",
        language="python",
        settings='OpenAILike(api_base="{url}/openai/v1", api_key="{key}", model="{model}", is_chat_model=True)',
        workdir='`default_headers={"X-Clinvk-Workdir": "{workdir}"}`',
        limits=f"{NO_TOOLS} Leave `is_function_calling_model` off; embeddings need another provider.",
        tested_by="tests/clients/openai/test_isolated_clients.py",
    ),
    Client(
        name="LiteLLM",
        dialect="openai",
        place="Python",
        language="python",
        settings=(
            'litellm.completion(model="openai/{model}", api_base="{url}/openai/v1", api_key="{key}", messages=[…])\n'
            'litellm.completion(model="anthropic/{model}", api_base="{url}/anthropic", api_key="{key}", messages=[…])'
        ),
        workdir='`extra_headers={"X-Clinvk-Workdir": "{workdir}"}`',
        limits=NO_TOOLS,
        tested_by="tests/clients/openai/test_other_clients.py, tests/clients/anthropic/test_python_clients.py",
    ),
    Client(
        name="Vercel AI SDK",
        dialect="openai",
        place="JavaScript",
        language="js",
        settings='const openai = createOpenAI({ baseURL: "{url}/openai/v1", apiKey: "{key}" });\nawait generateText({ model: openai("{model}"), prompt, maxRetries: 0 });',
        workdir='`createOpenAI({ …, headers: { "X-Clinvk-Workdir": "{workdir}" } })`',
        limits=f"{NO_TOOLS} It repeats a failed run unless `maxRetries` is 0.",
        tested_by="tests/clients/openai/test_node_clients.py, tests/clients/anthropic/test_node_clients.py",
    ),
    Client(
        name="pydantic-ai",
        dialect="openai",
        place="Python",
        language="python",
        settings='Agent(OpenAIChatModel("{model}", provider=OpenAIProvider(base_url="{url}/openai/v1", api_key="{key}")))',
        limits=f"{NO_TOOLS} For structured output use `NativeOutput(Model)`: a plain `output_type` is sent as a tool.",
        tested_by="tests/clients/openai/test_other_clients.py",
    ),
    Client(
        name="instructor",
        dialect="openai",
        place="Python",
        language="python",
        settings='instructor.from_openai(OpenAI(base_url="{url}/openai/v1", api_key="{key}"), mode=instructor.Mode.JSON_SCHEMA)',
        workdir='`OpenAI(…, default_headers={"X-Clinvk-Workdir": "{workdir}"})`',
        limits="Modes that use tools (the default) are refused with 400; a backend without a schema option (demo) refuses JSON_SCHEMA.",
        tested_by="tests/clients/openai/test_isolated_clients.py",
    ),
    Client(
        name="llm (simonw)",
        dialect="openai",
        place='`extra-openai-models.yaml` in the folder that `llm logs path` shows; then `llm keys set clinvk` and `llm -m clinvk "…"`',
        language="yaml",
        settings='- model_id: clinvk\n  model_name: {model}\n  api_base: "{url}/openai/v1"\n  api_key_name: clinvk',
        workdir="`headers: {X-Clinvk-Workdir: {workdir}}`",
        limits="Tools (`--tool`) are refused.",
        tested_by="tests/clients/openai/test_isolated_clients.py",
    ),
    Client(
        name="Open WebUI",
        dialect="openai",
        place="Admin Panel → Settings → Connections → OpenAI API",
        language="text",
        settings="URL  {url}/openai/v1\nKey  {key}",
        limits="In Docker, see [below](#clients-in-docker). Titles and tags are requests of their own: each starts a run; switch them off under Interface.",
    ),
    Client(
        name="LibreChat",
        dialect="openai",
        place="`librechat.yaml`",
        language="yaml",
        settings=(
            "endpoints:\n  custom:\n    - name: clinvk\n      apiKey: {key}\n      baseURL: {url}/openai/v1\n"
            "      models: {default: [{model}], fetch: true}\n      titleConvo: false"
        ),
        workdir="`headers: {X-Clinvk-Workdir: {workdir}}`",
        limits="Agents and plugins use tools: refused.",
    ),
    Client(
        name="n8n",
        dialect="openai",
        place="a credential of the type OpenAI",
        language="text",
        settings="API Key   {key}\nBase URL  {url}/openai/v1",
        limits="The AI Agent node sends tools: add the credential's custom header `X-Clinvk-Tools: ignore`, or use the Basic LLM Chain node.",
    ),
    Client(
        name="Cursor",
        dialect="openai",
        place="Settings → Models → API Keys → Override OpenAI Base URL",
        language="text",
        settings="Base URL  https://your.host.name/openai/v1\nKey       {key}\nModel     {model}",
        limits="Requests come from Cursor's servers, so the address must be public with TLS; its agent sends tools, which are refused.",
    ),
    Client(
        name="Cline",
        dialect="openai",
        place="Settings → API Provider: OpenAI Compatible",
        language="text",
        settings="Base URL  {url}/openai/v1\nAPI Key   {key}\nModel ID  {model}\nHeader    X-Clinvk-Tools: ignore",
        workdir="a second header, `X-Clinvk-Workdir: {workdir}`",
        limits="The agent behind the server does the work with its own tools; Cline's are left out.",
    ),
    Client(
        name="Continue",
        dialect="openai",
        place="`~/.continue/config.yaml`",
        language="yaml",
        settings=(
            "name: my-configuration\nversion: 0.0.1\nschema: v1\nmodels:\n  - name: clinvk\n    provider: openai\n    model: {model}\n    apiBase: {url}/openai/v1\n    apiKey: {key}\n"
            "    roles: [chat, edit]\n    requestOptions:\n      headers: {X-Clinvk-Tools: ignore}"
        ),
        workdir="`X-Clinvk-Workdir: {workdir}` beside the other header",
        limits="Not for autocomplete: a run takes seconds.",
    ),
    Client(
        name="Zed",
        dialect="openai",
        place="`settings.json`; the key in the variable `CLINVK_API_KEY` or in the provider's form",
        language="json",
        settings=(
            '{"language_models": {"openai_compatible": {"clinvk": {"api_url": "{url}/openai/v1",\n'
            '  "available_models": [{"name": "{model}", "max_tokens": 200000, "capabilities": {"tools": false}}]}}}}'
        ),
        limits="Zed's agent panel needs tools; without them it only chats.",
    ),
    Client(
        name="opencode",
        dialect="openai",
        place="`opencode.json`",
        language="json",
        settings=(
            '{"provider": {"clinvk": {"npm": "@ai-sdk/openai-compatible", "name": "clinvk",\n'
            '  "options": {"baseURL": "{url}/openai/v1", "apiKey": "{key}", "headers": {"X-Clinvk-Tools": "ignore"}},\n'
            '  "models": {"{model}": {}}}}}'
        ),
        workdir='`"X-Clinvk-Workdir": "{workdir}"` beside the other header',
        limits="Its own tools are left out; the agent behind the server uses its own. It repeats a failed run up to five times.",
        tested_by="tests/clients/openai/test_opencode.py",
    ),
    Client(
        name="aider",
        dialect="openai",
        place="a shell",
        language="sh",
        settings="OPENAI_API_BASE={url}/openai/v1 OPENAI_API_KEY={key} aider --model openai/{model}",
        limits="aider edits files itself; keep the backend's `approval_mode` at its default, or two programs edit the same files.",
        not_run="its installation, 687 MB, takes minutes",
    ),
    Client(
        name="Codex",
        dialect="openai",
        place="`~/.codex/config.toml`",
        language="toml",
        settings=(
            'model = "{model}"\nmodel_provider = "clinvk"\n\n[model_providers.clinvk]\nname = "clinvk"\nbase_url = "{url}/openai/v1"\n'
            'wire_api = "responses"\nhttp_headers = {"X-Clinvk-Workdir" = "{workdir}"}'
        ),
        workdir="in `http_headers`, as shown",
        limits="`OPENAI_BASE_URL` alone is not enough. Codex's own tools are left out; the agent behind the server uses its own.",
        tested_by="tests/clients/openai/test_codex_client.py",
    ),
    Client(
        name="Claude Code",
        dialect="anthropic",
        place="a shell",
        language="sh",
        settings=(
            "ANTHROPIC_BASE_URL={url}/anthropic ANTHROPIC_API_KEY={key} ANTHROPIC_MODEL={model} \\\n"
            '  ANTHROPIC_CUSTOM_HEADERS="X-Clinvk-Workdir: $PWD" claude'
        ),
        workdir="in `ANTHROPIC_CUSTOM_HEADERS`, as shown",
        limits="Claude Code's own tools are left out; the agent behind the server uses its own.",
        tested_by="tests/clients/anthropic/test_claude_code.py",
    ),
    Client(
        name="Gemini CLI",
        dialect="openai",
        place="nowhere",
        language="text",
        settings="Not possible: Gemini CLI speaks Google's own API, which this server does not serve.",
        limits="Use it as a backend instead.",
    ),
)


def filled(text: str, **values: str) -> str:
    """``text`` with each `{name}` replaced. Not `str.format`: settings in JSON and YAML contain braces."""
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", value)
    return text
