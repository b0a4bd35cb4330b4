"""Codex as data, in two ways: `SPEC` talks to ``codex app-server`` (token deltas), `EXEC` runs ``codex exec --json`` (whole
messages).

Every line was checked by running codex 0.169.0 both ways against a fake model API; the app-server's fields are those of
``codex app-server generate-json-schema``:

    option            what it came to in the request, or in the agent's doing
    model             `model`
    system_prompt     300 KB: the first developer message, in the place of the CLI's own; on a resumed thread as well
    approval_mode     auto: a command wrote in the workdir, not outside; none: in both; always (app-server): asked, and refused
                      by our driver; `codex exec` exits 1 at it ("no longer supported"), so EXEC does not have it
    sandbox_mode      read-only: nothing written; workspace: in the workdir; full: everywhere; it goes before approval_mode's own
    json_schema       `text.format`, strict
    effort            `reasoning.effort`
    verbose           more on stderr
    resume            the earlier turns are in the request; of an ephemeral run: "no rollout found"
    images            `input_image`, where it stands (app-server)
    history           true messages, calls and results (app-server); see `services.clis.codex.messages`
    prompt            /command, !command and @path reach the model as they are; `$skill` of the user's own is expanded
    broken stream     asked for again under a new item id, after an `error` with willRetry: text is told once (`StreamReplay`)
"""

from __future__ import annotations

import os
import platform
from dataclasses import replace
from pathlib import Path

from services.clis.codex.connection import CodexConversation
from services.clis.codex.decoder import CodexAppServerDecoder
from services.clis.codex.exec_decoder import CodexExecDecoder
from services.clis.conversation import OneShot
from services.clis.option import Option
from services.clis.session_files import SessionFiles
from services.clis.spec import BackendSpec
from services.clis.versions import SupportedVersions
from services.clis.warmth import WarmLimits, Warmth

TRIPLES = {
    ("Linux", "x86_64"): "x86_64-unknown-linux-musl",
    ("Linux", "aarch64"): "aarch64-unknown-linux-musl",
    ("Darwin", "x86_64"): "x86_64-apple-darwin",
    ("Darwin", "arm64"): "aarch64-apple-darwin",
}


def native_binary(program: str) -> str:
    """The native program behind npm's JavaScript wrapper, or ``program`` itself where there is none.

    The wrapper costs 30 ms and 41 MB a run, and its child outlives a SIGKILL of it. Where npm puts the native program is
    what the wrapper itself looks up (bin/codex.js: the platform's package beside its own, or its own folder).
    """
    script = Path(os.path.realpath(program))
    triple = TRIPLES.get((platform.system(), platform.machine()))
    if script.suffix != ".js" or triple is None:
        return program
    package = script.parent.parent
    folders = (*package.parent.glob("codex-*"), *package.glob("node_modules/@openai/codex-*"), package)
    return next((str(path) for folder in folders if os.access(path := folder / "vendor" / triple / "bin" / "codex", os.X_OK)), program)


def in_thread(**fields: str) -> Option:
    return Option(fields={f"thread.{name}": value for name, value in fields.items()})


def config(**values: str) -> Option:
    """``-c key=value`` works before and after ``resume``, may be repeated (the last counts), and takes what no flag does."""
    return Option(argv=tuple(part for name, value in values.items() for part in ("-c", f"{name}={value}")))


# Codex asks for approval and fences its tools separately. The CLI's own headless default is to ask nothing within a
# read-only sandbox, so "edits go without asking" must open the sandbox, and "always" must ask (nobody answers: refused).
# sandbox_mode is applied after approval_mode, and so counts where both are given.
MODES = {
    "approval_mode": {
        "auto": {"approval": "never", "sandbox": "workspace-write"},
        "none": {"approval": "never", "sandbox": "danger-full-access"},
        "always": {"approval": "untrusted"},
    },
    "sandbox_mode": {
        "read-only": {"sandbox": "read-only"},
        "workspace": {"sandbox": "workspace-write"},
        "full": {"sandbox": "danger-full-access"},
    },
}


EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}
"""What the current models list (model/list); ``minimal`` is no more among it, ``low`` is the least."""

SPEC = BackendSpec(
    name="codex",
    command=("codex",),
    args=("app-server",),
    conversation=CodexConversation,
    fixed_fields={"thread.approvalPolicy": "never"},  # as `codex exec` has it, whatever the user's own configuration says
    options={
        "model": in_thread(model="{}"),
        "system_prompt": in_thread(baseInstructions="{}"),
        **{
            name: Option(
                values={
                    value: in_thread(**{{"approval": "approvalPolicy"}.get(key, key): word for key, word in parts.items()})
                    for value, parts in table.items()
                }
            )
            for name, table in MODES.items()
        },
        "verbose": Option(env={"RUST_LOG": "info"}),
        "json_schema": Option(fields={"turn.outputSchema": "{}"}),
        "effort": Option(values={name: Option(fields={"turn.effort": word}) for name, word in EFFORTS.items()}),
    },
    decoder=CodexAppServerDecoder,
    takes_images=True,
    takes_history=True,
    takes_system_in_place=True,
    streams_tokens=True,
    can_resume=True,
    # Its databases hold copies of what is in the rollout files, and follow them (seen: a copied file is resumed, one that is
    # gone is "no rollout found"). `codex delete ID` refused to delete a thread that had been forked.
    session_files=SessionFiles(
        variable="CODEX_HOME",
        folder=".codex",
        transcripts=("sessions/*/*/*/rollout-*-{}.jsonl", "archived_sessions/rollout-*-{}.jsonl"),
    ),
    can_be_ephemeral=True,
    # Of a run that is kept its database keeps the first message, even when its rollout is deleted (thread_history_1.sqlite).
    branches_off=True,
    aliases={"fast": "gpt-6-luna", "balanced": "gpt-6.1-sol", "best": "gpt-6-astra", "codex-mini*": "gpt-6-luna"},
    models=("gpt-6.1-sol", "gpt-6-astra", "gpt-6-luna"),
    claims=("gpt-*", "o3*", "o4*", "codex*"),
    allowed_extra={"--disable": 1},
    # What follows `-c` counts as a flag too; the app-server is told the modes by each thread, which counts before these.
    evasive={
        "--disable": ("max_approval_mode", "max_sandbox_mode"),
        "--model": ("models",),
        "-m": ("models",),
        "model": ("models",),
        "--dangerously-bypass-approvals-and-sandbox": ("max_approval_mode", "max_sandbox_mode"),
        "--yolo": ("max_approval_mode", "max_sandbox_mode"),
        "approval_policy": ("max_approval_mode",),
        "sandbox_mode": ("max_sandbox_mode",),
    },
    opened={"auto": "workspace", "none": "full"},
    state=("$CODEX_HOME|~/.codex",),
    vendor_env=("OPENAI_*", "CODEX_*", "!CODEX_SANDBOX*", "!CODEX_THREAD_ID", "!CODEX_MANAGED_*", "!CODEX_INTERNAL_*", "!CODEX_CI"),
    versions=SupportedVersions(oldest="0.169.0", newest="0.171.0"),
    install_hint="install it with `npm install -g @openai/codex`",
    login_hint="run `codex login`, or set OPENAI_API_KEY",
    credentials=("OPENAI_API_KEY", "CODEX_API_KEY", "~/.codex/auth.json"),
    # One for each environment; 90 MB, and one more for every run that it has served.
    warmth=Warmth(is_multiplexed=True, limits=WarmLimits(max=2), home_files=("config.toml", "auth.json")),
    interrupt_signal=15,
    resolve=native_binary,
)

EXEC = replace(
    SPEC,
    args=("exec", "--json", "--skip-git-repo-check"),
    conversation=OneShot,
    warmth=None,
    fixed_fields={},
    options={
        "model": Option(argv=("--model={}",)),
        "system_prompt": Option(argv=("-c", "model_instructions_file={file}")),
        **{
            name: Option(
                values={
                    value: config(**{{"approval": "approval_policy", "sandbox": "sandbox_mode"}[key]: word for key, word in parts.items()})
                    for value, parts in table.items()
                    if parts.get("approval") != "untrusted"  # "no longer supported" here, measured; the app-server still has it
                }
            )
            for name, table in MODES.items()
        },
        "verbose": Option(env={"RUST_LOG": "info"}),
        "json_schema": Option(argv=("--output-schema={file}",)),
        "effort": Option(values={name: config(model_reasoning_effort=word) for name, word in EFFORTS.items()}),
    },
    decoder=CodexExecDecoder,
    takes_images=False,
    takes_history=False,
    takes_system_in_place=False,
    streams_tokens=False,
    branches_off=False,
    resume_args=("resume", "{}"),
    resumed_usage_is_total=True,  # openai/codex#17539
    ephemeral_args=("--ephemeral",),
    prompt_args=("-",),
)
