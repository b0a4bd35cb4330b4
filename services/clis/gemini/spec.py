"""Gemini CLI as data.

Every line was checked by running gemini 0.61.0 once against a fake model API and reading the request it got:

    option            what it came to in the request, or in the agent's doing
    model             in the path; `flash` and such are the CLI's own aliases and follow its releases
    system_prompt     300 KB: `systemInstruction`, in the place of the CLI's own
    approval_mode     default, always: no tool that writes is offered; auto: write_file done, no shell; none: all offered, done
    sandbox_mode      read-only: run_shell_command, write_file, replace are gone, with approval_mode none as well.
                      -s needs a container runtime: workspace and full cannot be promised
    max_tokens        `maxOutputTokens`, for every model
    max_turns         FatalTurnLimitedError, exit 53
    allowed_tools     the tools are offered in a mode that asks
    thinking_tokens   `thinkingBudget`, for the 2.5 family; later ones have levels
    resume            the earlier turns are in the request; of an ephemeral run: "Invalid session identifier"
    prompt            /command, @path, bob@example.com, @property, !{x}, {{args}}, newlines at the end: reach the model as they are
    broken stream     one request, one telling, then the error
    warm              the request is the same as of a run of its own, but for a newline before the prompt (`services.clis.gemini.deferred_stdin`)

What it takes as a flag goes as one; the rest it takes from its settings alone, and from a user's settings alone: a "system"
settings file must belong to root, in folders of root's, or it is skipped without a word (chunk `isPathSecureSync`, and
measured). So every run has a home of its own (`GEMINI_CLI_HOME`) with the real one linked into it.
"""

from __future__ import annotations

import json
import re

from services.clis.config_overlay import HOME, PrivateHome
from services.clis.gemini.decoder import WRITING_TOOLS, GeminiDecoder
from services.clis.gemini.deferred_stdin import DeferredStdin, first_character
from services.clis.option import Option
from services.clis.session_files import SessionFiles
from services.clis.spec import BackendSpec, PromptEscaping
from services.clis.versions import SupportedVersions
from services.clis.warmth import WarmLimits, Warmth

# Where the CLI sees ``@path`` (atCommandProcessor, AT_COMMAND_PATH_REGEX): it inlines the file, looks for one whose name
# holds the word where there is none, and puts a space before the @ of every one (`bob@example.com`, `@property`).
AT_PATH = re.compile(r'(?<!\\)@(?=["\\]|[^ \t\n\r,;!?()\[\]{}.]|\.(?!\Z|[ \t\n\r]))')

PLACEHOLDER = "{{args}}"
MARKS = ("!{", "@{", PLACEHOLDER)
"""What the CLI acts on in the text of a command."""


def as_command(prompt: str, run: str) -> tuple[str, dict[str, str]]:
    """The prompt as the text of a command of the run's own, where it would not pass as it is.

    Only the text of a command file reaches the model untouched. In it three marks have a meaning; one of them can be had
    through the command's argument. A prompt that holds two, and an ``@path`` as well, goes with ``\\@`` for ``@``.
    """
    if not prompt.startswith("/") and not AT_PATH.search(prompt):
        return prompt, {}
    mark = next((mark for mark in MARKS if mark in prompt), "")
    template = prompt.replace(mark, PLACEHOLDER) if mark else prompt
    if any(other in template for other in MARKS[:2]) or template.replace(PLACEHOLDER, mark or PLACEHOLDER) != prompt:
        return ("\n" if prompt.startswith("/") else "") + AT_PATH.sub(r"\\@", prompt), {}
    name = re.sub(r"[^A-Za-z0-9_-]", "-", run)[:50]
    text = json.dumps(template, ensure_ascii=False).replace("\x7f", "\\u007f")  # a JSON string is a TOML string, but for DEL
    return f"/{name} {mark}".rstrip(), {f"{HOME}/.gemini/commands/{name}.toml": f"prompt = {text}\n"}


def generate(base: str, **config: object) -> Option:
    """Of the request to the model. Every model's configuration is built on ``chat-base``, the 2.5 family's on ``chat-base-2.5``."""
    override = {"match": {"model": base}, "modelConfig": {"generateContentConfig": config}}
    return Option(fields={"modelConfigs.customOverrides": [override]})


SPEC = BackendSpec(
    name="gemini",
    command=("gemini",),
    args=("--output-format=stream-json",),
    options={
        "model": Option(argv=("--model={}",)),
        "system_prompt": Option(env={"GEMINI_SYSTEM_MD": "{file}"}),
        "approval_mode": Option(
            values={
                "auto": Option(argv=("--approval-mode=auto_edit",)),
                "none": Option(argv=("--approval-mode=yolo",)),
                "always": Option(argv=("--approval-mode=default",)),
            }
        ),
        "sandbox_mode": Option(values={"read-only": Option(fields={"tools.exclude": WRITING_TOOLS})}),
        "max_tokens": generate("chat-base", maxOutputTokens="{}"),
        "max_turns": Option(fields={"model.maxSessionTurns": "{}"}),
        "verbose": Option(argv=("--debug",)),
        "allowed_tools": Option(argv=("--allowed-tools={}",)),
        "thinking_tokens": generate("chat-base-2.5", thinkingConfig={"thinkingBudget": "{}"}),
    },
    # Without a model the CLI asks a small model first which one to ask (recordings gemini/model-default).
    defaults={"model": "gemini-2.5-flash"},
    decoder=GeminiDecoder,
    escaping=PromptEscaping(escape=as_command),
    streams_tokens=True,
    resume_args=("--resume={}",),
    can_resume=True,
    session_files=SessionFiles(
        variable="GEMINI_CLI_HOME",
        below=".gemini",
        folder=".gemini",
        transcripts=("tmp/*/chats/session-*-{short}.jsonl",),
        # What the CLI itself deletes with a session (its deleteSessionArtifactsAsync), and its subagents' chats.
        companions=("tmp/*/chats/{}", "tmp/*/logs/session-{}.jsonl", "tmp/*/tool-outputs/session-{}", "tmp/*/{}"),
    ),
    can_be_ephemeral=True,
    private_home=PrivateHome(
        variable="GEMINI_CLI_HOME",
        folder=".gemini",
        settings="settings.json",
        # projects.json: its lock stalls starts for up to 50 s (proper-lockfile); a session is found without it.
        own=("commands", "projects.json*"),
        sessions=("tmp", "history"),
    ),
    # maxAttempts: a broken stream is asked for again, and its text told again with nothing to tell by. 1 switches that off,
    # and with it the retries of a refused connection, 429 and 5xx: they come at once, as what they are.
    # sessionRetention: its clean-up at a start also deletes forks of ours; how long sessions are kept is the server's to say.
    fixed_fields={
        "general.maxAttempts": 1,
        "general.enableAutoUpdate": False,
        "general.enableAutoUpdateNotification": False,
        "general.sessionRetention.enabled": False,
    },
    aliases={"fast": "gemini-2.5-flash-lite", "balanced": "gemini-2.5-flash", "best": "gemini-2.5-pro", "gemini-1*": "gemini-2.5-flash"},
    models=("gemini-2.5-pro", "gemini-2.5-flash", "gemini-2.5-flash-lite"),
    claims=("gemini*",),
    evasive={
        "--model": ("models",),
        "-m": ("models",),
        "--allowed-tools": ("max_approval_mode",),
        "--approval-mode": ("max_approval_mode",),
        "--yolo": ("max_approval_mode",),
        "-y": ("max_approval_mode",),
    },
    opened={"none": "full"},
    state=("$GEMINI_CLI_HOME/.gemini|~/.gemini",),
    vendor_env=("GEMINI_*", "GOOGLE_*", "!GEMINI_CLI", "!GEMINI_CLI_ACTIVITY_LOG_TARGET"),
    fixed_env={"GEMINI_CLI_NO_RELAUNCH": "true", "GEMINI_CLI_TRUST_WORKSPACE": "true"},
    versions=SupportedVersions(oldest="0.61.0", newest="0.61.0"),
    install_hint="install it with `npm install -g @google/gemini-cli`",
    login_hint="run `gemini` and log in, or set GEMINI_API_KEY",
    credentials=("GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GENAI_USE_VERTEXAI", "GOOGLE_GENAI_USE_GCA", "~/.gemini/oauth_creds.json"),
    warmth=Warmth(
        handshake=lambda invocation, _: DeferredStdin(first_character(invocation)),
        kind=first_character,
        limits=WarmLimits(max=3),  # 220 MB each
        # A process that never gets a prompt leaves a session's file behind all the same; its id finds it.
        idle_args=("--session-id={session_id}",),
        home_files=("GEMINI.md", ".env", "oauth_creds.json", "google_accounts.json", "trustedFolders.json"),
        project_files=("GEMINI.md", ".gemini/settings.json", ".gemini/.env", ".env", ".geminiignore", ".gitignore", ".git"),
        # Its getFolderStructure: MAX_ITEMS and DEFAULT_IGNORED_FOLDERS.
        names_read=200,
        names_skipped=frozenset({"node_modules", ".git", "dist", "__pycache__"}),
    ),
)
