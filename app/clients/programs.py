"""Every known program that can use this server: the data behind docs/clients.md, one entry per program.

What `clinvk connect` writes is in `app.clients.connections`. Texts may contain `{url}` (the server's address), `{key}`, `{model}` and
`{workdir}`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Dialect = Literal["openai", "anthropic"]

BASE_URLS: dict[Dialect, str] = {"openai": "{url}/openai/v1", "anthropic": "{url}/anthropic"}
"""The base URL that the SDKs and most programs expect. `{url}/v1` serves both dialects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """``settings`` is text to enter at ``place``: a file, a shell, or a form of the program; empty if `clinvk connect` does all of it."""

    name: str
    dialect: Dialect
    connect: str = ""
    """Its name in `app.clients.connections`; empty if it has no file that `clinvk connect` writes."""
    place: str = ""
    language: str = ""
    settings: str = ""
    workdir: str = ""
    """How the program sets the agent's working directory; empty if it cannot, so that the server's default applies."""
    limits: str = ""
    """What does not work."""
    tested_by: str = ""
    """The test that runs the program; empty if no test does."""
    not_run: str = ""
    """Why no test runs a program that could be installed for one."""


NO_TOOLS = "Client tools (function calling) are refused with 400 unless the request has the header `X-Clinvk-Tools: ignore`."

PROGRAMS: tuple[Program, ...] = (
    Program(
        name="OpenAI SDK (Python)",
        dialect="openai",
        place="Python",
        language="python",
        settings='client = OpenAI(base_url="{url}/openai/v1", api_key="{key}")\nclient.chat.completions.create(model="{model}", messages=[…])',
        workdir='`OpenAI(…, default_headers={"X-Clinvk-Workdir": "{workdir}"})`',
        limits=NO_TOOLS,
        tested_by="tests/clients/openai/test_chat.py",
    ),
    Program(
        name="OpenAI SDK (Node)",
        dialect="openai",
        place="JavaScript",
        language="js",
        settings='const client = new OpenAI({ baseURL: "{url}/openai/v1", apiKey: "{key}" });',
        workdir='`new OpenAI({ …, defaultHeaders: { "X-Clinvk-Workdir": "{workdir}" } })`',
        limits=NO_TOOLS,
        tested_by="tests/clients/openai/test_node_clients.py",
    ),
    Program(
        name="Anthropic SDK (Python)",
        dialect="anthropic",
        place="Python",
        language="python",
        settings='client = Anthropic(base_url="{url}/anthropic", api_key="{key}")\nclient.messages.create(model="{model}", max_tokens=1024, messages=[…])',
        workdir='`Anthropic(…, default_headers={"X-Clinvk-Workdir": "{workdir}"})`',
        limits=NO_TOOLS,
        tested_by="tests/clients/anthropic/test_messages.py",
    ),
    Program(
        name="Anthropic SDK (Node)",
        dialect="anthropic",
        place="JavaScript",
        language="js",
        settings='const client = new Anthropic({ baseURL: "{url}/anthropic", apiKey: "{key}" });',
        workdir='`new Anthropic({ …, defaultHeaders: { "X-Clinvk-Workdir": "{workdir}" } })`',
        limits=NO_TOOLS,
        tested_by="tests/clients/anthropic/test_node_clients.py",
    ),
    Program(
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
    Program(
        name="LlamaIndex",
        dialect="openai",
        place="Python",
        language="python",
        settings='OpenAILike(api_base="{url}/openai/v1", api_key="{key}", model="{model}", is_chat_model=True)',
        workdir='`default_headers={"X-Clinvk-Workdir": "{workdir}"}`',
        limits=f"{NO_TOOLS} Leave `is_function_calling_model` off; embeddings need another provider.",
        tested_by="tests/clients/openai/test_isolated_clients.py",
    ),
    Program(
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
    Program(
        name="Vercel AI SDK",
        dialect="openai",
        place="JavaScript",
        language="js",
        settings='const openai = createOpenAI({ baseURL: "{url}/openai/v1", apiKey: "{key}" });\nawait generateText({ model: openai("{model}"), prompt, maxRetries: 0 });',
        workdir='`createOpenAI({ …, headers: { "X-Clinvk-Workdir": "{workdir}" } })`',
        limits=f"{NO_TOOLS} It repeats a failed run unless `maxRetries` is 0.",
        tested_by="tests/clients/openai/test_node_clients.py, tests/clients/anthropic/test_node_clients.py",
    ),
    Program(
        name="pydantic-ai",
        dialect="openai",
        place="Python",
        language="python",
        settings='Agent(OpenAIChatModel("{model}", provider=OpenAIProvider(base_url="{url}/openai/v1", api_key="{key}")))',
        limits=f"{NO_TOOLS} For structured output use `NativeOutput(Model)`: a plain `output_type` is sent as a tool.",
        tested_by="tests/clients/openai/test_other_clients.py",
    ),
    Program(
        name="instructor",
        dialect="openai",
        place="Python",
        language="python",
        settings='instructor.from_openai(OpenAI(base_url="{url}/openai/v1", api_key="{key}"), mode=instructor.Mode.JSON_SCHEMA)',
        workdir='`OpenAI(…, default_headers={"X-Clinvk-Workdir": "{workdir}"})`',
        limits="Modes that use tools (the default) are refused with 400; a backend without a schema option (demo) refuses JSON_SCHEMA.",
        tested_by="tests/clients/openai/test_isolated_clients.py",
    ),
    Program(
        name="llm (simonw)",
        dialect="openai",
        place='`extra-openai-models.yaml` in the folder that `llm logs path` shows; then `llm keys set clinvk` and `llm -m clinvk "…"`',
        language="yaml",
        settings='- model_id: clinvk\n  model_name: {model}\n  api_base: "{url}/openai/v1"\n  api_key_name: clinvk',
        workdir="`headers: {X-Clinvk-Workdir: {workdir}}`",
        limits="Tools (`--tool`) are refused.",
        tested_by="tests/clients/openai/test_isolated_clients.py",
    ),
    Program(
        name="Open WebUI",
        dialect="openai",
        place="Admin Panel → Settings → Connections → OpenAI API",
        language="text",
        settings="URL  {url}/openai/v1\nKey  {key}",
        limits="In Docker, see [below](#clients-in-docker). Titles and tags are requests of their own: each starts a run; switch them off under Interface.",
    ),
    Program(
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
    Program(
        name="n8n",
        dialect="openai",
        place="a credential of the type OpenAI",
        language="text",
        settings="API Key   {key}\nBase URL  {url}/openai/v1",
        limits="The AI Agent node sends tools: add the credential's custom header `X-Clinvk-Tools: ignore`, or use the Basic LLM Chain node.",
    ),
    Program(
        name="Claude Code",
        dialect="anthropic",
        connect="claude",
        place="a shell, for one session",
        language="sh",
        settings=(
            "ANTHROPIC_BASE_URL={url}/anthropic ANTHROPIC_API_KEY={key} ANTHROPIC_MODEL={model} \\\n"
            '  ANTHROPIC_CUSTOM_HEADERS="X-Clinvk-Workdir: $PWD" claude'
        ),
        workdir='`"ANTHROPIC_CUSTOM_HEADERS": "X-Clinvk-Workdir: {workdir}"` in `env`',
        limits="As a model provider, Claude Code's own tools are left out; the agent behind the server uses its own.",
        tested_by="tests/clients/anthropic/test_claude_code.py",
    ),
    Program(
        name="Codex",
        dialect="openai",
        connect="codex",
        workdir='`http_headers = {"X-Clinvk-Workdir" = "{workdir}"}` in the provider\'s table',
        limits="`OPENAI_BASE_URL` alone is not enough. As a model provider, Codex's own tools are left out; the agent behind the server uses its own.",
        tested_by="tests/clients/openai/test_codex_client.py",
    ),
    Program(name="Gemini CLI", dialect="openai", connect="gemini"),
    Program(
        name="opencode",
        dialect="openai",
        connect="opencode",
        workdir='`"X-Clinvk-Workdir": "{workdir}"` beside the other header',
        limits="As a model provider, its own tools are left out; the agent behind the server uses its own. It repeats a failed run up to five times.",
    ),
    Program(
        name="Qwen Code",
        dialect="openai",
        connect="qwen",
        workdir='`"X-Clinvk-Workdir": "{workdir}"` beside the other header',
        limits="As a model provider, its own tools are left out; the agent behind the server uses its own.",
    ),
    Program(
        name="Cline",
        dialect="openai",
        connect="cline",
        workdir='`"X-Clinvk-Workdir": "{workdir}"` beside the other header',
        limits="As a model provider, Cline's own tools are left out; the agent behind the server uses its own.",
    ),
    Program(
        name="Cursor",
        dialect="openai",
        connect="cursor",
        limits="As a model provider: requests come from Cursor's servers, and its agent sends tools, which are refused.",
    ),
    Program(
        name="Continue",
        dialect="openai",
        connect="continue",
        workdir="`X-Clinvk-Workdir: {workdir}` beside the other header",
        limits="Not for autocomplete: a run takes seconds. `cn` does not start while an MCP server does not answer.",
    ),
    Program(name="VS Code", dialect="openai", connect="vscode"),
    Program(
        name="Zed",
        dialect="openai",
        connect="zed",
        limits="As a model provider: Zed's agent panel needs tools; without them it only chats.",
    ),
    Program(
        name="aider",
        dialect="openai",
        connect="aider",
        place="a shell, for one session",
        language="sh",
        settings="OPENAI_API_BASE={url}/openai/v1 OPENAI_API_KEY={key} aider --model openai/{model}",
        limits="aider edits files itself; keep the backend's `approval_mode` at its default, or two programs edit the same files.",
        not_run="its installation, 687 MB, takes minutes",
    ),
)
