"""Claude Code as data.

Every line was checked by running claude 2.1.197 once against a fake model API and reading the request it got:

    option            what it came to in the request, or in the agent's doing
    model             aliases are the CLI's own: sonnet → claude-sonnet-5, opus → claude-opus-4-8, haiku → claude-haiku-4-5-20251001
    system_prompt     by `initialize`, the same request as with the flag: third block of `system`, after two fixed ones
    approval_mode     auto: Write and Bash in the workdir done, Write outside refused; always: all refused ("requested permissions");
                      none: all done, but as root the CLI exits 1 unless IS_SANDBOX=1 is in its environment (the operator's choice)
    sandbox_mode      read-only: the writing tools are gone, with approval_mode auto and further --disallowedTools as well.
                      There is no sandbox to speak of: workspace and full cannot be promised
    max_tokens        `max_tokens` of every request; when it is reached the CLI lets the model go on three more times
    max_turns         error_max_turns, exit 1
    allowed_tools     Write done in a mode that asks; Bash(echo:*) does not cover a redirection
    json_schema       by `initialize`, the same request as with the flag: tool StructuredOutput, `structured_output` in the result
    effort            `output_config.effort`, for models that have it
    thinking_tokens   0: `thinking: disabled`; 2000: `budget_tokens: 2000` (claude-sonnet-4-5; newer models think adaptively)
    resume            the earlier turns are in the request; of an ephemeral run: "No conversation found". A system prompt of the
                      turn's own takes `FRESH_PROMPT`
    images            `image` block, where it stands
    history           true messages of user and assistant, calls and results; see `services.clis.claude.messages`
    warm              what is sent by `initialize` can be set when the run comes. Not the model: `set_model` and
                      `apply_flag_settings` put a `/model` command into the conversation; nor bypassPermissions, which needs its flag
    prompt            /cost, "  /cost", @file: reach the model as they are, a newline before the slash
"""

from __future__ import annotations

from services.clis.claude.conversation import SNAPSHOT, ClaudeConversation, ClaudeHandshake, parameters_of
from services.clis.claude.decoder import ClaudeDecoder
from services.clis.option import Option
from services.clis.session_files import SessionFiles
from services.clis.spec import BackendSpec, PromptEscaping
from services.clis.versions import Fault, SupportedVersions
from services.clis.warmth import WarmLimits, Warmth


def no_slash_command(prompt: str, _: str) -> tuple[str, dict[str, str]]:
    """``/cost`` at the start of a prompt runs a local command; after a newline it is text."""
    return "\n" + prompt if prompt.lstrip().startswith("/") else prompt, {}


FRESH_PROMPT = {f"initialize.{SNAPSHOT}": False}
"""Without it claude 2.1.332 goes on with the system prompt that the session began with, whatever its flags and ``initialize`` say.
2.1.197 takes the field and needs it not. The flag of the same meaning, ``--system-prompt-snapshot=off``, it refuses."""

WRITING_TOOLS = "Bash,Edit,MultiEdit,NotebookEdit,Write"
"""The built-in ones. A tool of an MCP server that the user has set up may still write."""

SPEC = BackendSpec(
    name="claude",
    command=("claude",),
    args=("-p", "--output-format=stream-json", "--input-format=stream-json", "--verbose", "--include-partial-messages"),
    conversation=ClaudeConversation,
    options={
        "model": Option(argv=("--model={}",)),
        "system_prompt": Option(fields={"initialize.systemPrompt": ["{}"]}),
        "approval_mode": Option(
            values={
                "auto": Option(argv=("--permission-mode=acceptEdits",)),
                "none": Option(argv=("--permission-mode=bypassPermissions",)),
                "always": Option(argv=("--permission-mode=default",)),
            }
        ),
        "sandbox_mode": Option(values={"read-only": Option(argv=(f"--disallowedTools={WRITING_TOOLS}",))}),
        "max_tokens": Option(env={"CLAUDE_CODE_MAX_OUTPUT_TOKENS": "{}"}),
        "max_turns": Option(argv=("--max-turns={}",)),
        "verbose": Option(),  # always on: stream-json demands it
        "allowed_tools": Option(argv=("--allowedTools={}",)),
        "json_schema": Option(fields={"initialize.jsonSchema": "{}"}),
        "effort": Option(
            values={
                "minimal": Option(argv=("--effort=low",)),
                **{effort: Option(argv=(f"--effort={effort}",)) for effort in ("low", "medium", "high", "xhigh", "max")},
            }
        ),
        "thinking_tokens": Option(env={"MAX_THINKING_TOKENS": "{}"}),
    },
    decoder=ClaudeDecoder,
    reports_cost=True,
    escaping=PromptEscaping(escape=no_slash_command, env={"CLAUDE_CODE_DISABLE_ATTACHMENTS": "1"}),
    takes_images=True,
    takes_history=True,
    thinks_after_calls=False,  # it drops the thinking of injected messages, and the vendor's API requires that of the current turn
    streams_tokens=True,
    resume_args=("--resume={}",),
    resumed_fields={"system_prompt": FRESH_PROMPT, "--append-system-prompt": FRESH_PROMPT},
    can_resume=True,
    session_files=SessionFiles(
        variable="CLAUDE_CONFIG_DIR",
        folder=".claude",
        transcripts=("projects/*/{}.jsonl",),
        companions=("projects/*/{}", "todos/{}-*.json", "tasks/{}", "file-history/{}", "session-env/{}", "debug/{}.txt"),
    ),
    ephemeral_args=("--no-session-persistence",),
    can_be_ephemeral=True,
    aliases={
        "fast": "haiku",
        "balanced": "sonnet",
        "best": "opus",
        "claude-2*": "sonnet",
        "claude-instant*": "haiku",
        "claude-3-opus*": "opus",
        "claude-3-sonnet*": "sonnet",
        "claude-3-haiku*": "haiku",
        "claude-3-5-sonnet*": "sonnet",
        "claude-3-5-haiku*": "haiku",
        "claude-3-7-sonnet*": "sonnet",
    },
    models=("sonnet", "opus", "haiku"),
    claims=("*claude*", "*sonnet*", "*opus*", "*haiku*"),
    allowed_extra={
        "--append-system-prompt": 1,
        "--disable-slash-commands": 0,
        "--disallowedTools": 1,
        "--fallback-model": 1,
        "--max-budget-usd": 1,
        "--strict-mcp-config": 0,
        "--tools": 1,
    },
    evasive={
        "--append-system-prompt": (),
        "--disable-slash-commands": (),
        "--disallowedTools": (),
        "--max-budget-usd": (),
        "--strict-mcp-config": (),
        "--tools": (),
        "--fallback-model": ("models",),
        "--model": ("models",),
        "--allowedTools": ("max_approval_mode",),
        "--allowed-tools": ("max_approval_mode",),
        "--permission-mode": ("max_approval_mode",),
        "--dangerously-skip-permissions": ("max_approval_mode",),
        "--allow-dangerously-skip-permissions": ("max_approval_mode",),
    },
    opened={"none": "full"},
    state=("$CLAUDE_CONFIG_DIR|~/.claude", "|~/.claude.json"),
    vendor_env=(
        "ANTHROPIC_*", "CLAUDE_*", "DISABLE_*", "API_TIMEOUT_MS",
        # A server started from within a Claude Code session is not part of that session, nor are its runs.
        "!CLAUDE_CODE_ENTRYPOINT", "!CLAUDE_CODE_SSE_PORT", "!CLAUDE_CODE_SESSION*", "!CLAUDE_CODE_PARENT*", "!CLAUDE_CODE_CHILD*",
        "!CLAUDE_PID", "!CLAUDE_EFFORT", "!CLAUDE_PROJECT_DIR", "!CLAUDE_ENV_FILE",
    ),
    fixed_env={
        "DISABLE_AUTOUPDATER": "1",  # not under a running server
        "CLAUDE_CODE_EAGER_FLUSH": "1",  # the session's file is whole when `result` comes; else up to 0.1 s later (measured)
        # A broken stream is else fetched again in one piece, and its text told twice (recordings claude/midstream-error).
        "CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK": "1",
    },
    versions=SupportedVersions(
        oldest="2.1.197",
        newest="2.1.332",
        faults=(
            Fault("2.1.208", "the end of a long answer and its result can be missing"),
            Fault("2.1.212", "in plan mode Bash commands that change files run without permission"),
            Fault("2.1.212", "SIGTERM leaves a tool's processes behind, which the server then ends by itself"),
            Fault("2.1.214", "checks of Bash commands against permission rules can be evaded"),
            Fault("2.1.214", "the end of an answer can be lost when it is read slowly"),
            Fault("2.1.221", "MCP servers may not be connected yet when a session starts"),
        ),
    ),
    install_hint="install it with `npm install -g @anthropic-ai/claude-code`",
    login_hint="run `claude` and `/login`, or set ANTHROPIC_API_KEY",
    credentials=(
        "ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN",
        "CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "~/.claude/.credentials.json",
    ),
    warmth=Warmth(
        handshake=lambda _, parameters: ClaudeHandshake(parameters),
        parameters=parameters_of,
        keeps_sessions=True,
        limits=WarmLimits(max=3),  # 150 MB each
        home_files=("settings.json", ".credentials.json", "CLAUDE.md"),
        # Read at the start, before anything is asked (measured): the rules, and what git says of the folder.
        project_files=(
            "CLAUDE.md", "CLAUDE.local.md", ".claude/settings.json", ".claude/settings.local.json", ".mcp.json",
            ".git", ".git/HEAD", ".git/index", ".git/logs/HEAD",
        ),
    ),
    interrupt_signal=2,  # ends its tools' shells as well, which SIGTERM leaves behind (recordings claude/sig*-in-tool)
)  # fmt: skip
