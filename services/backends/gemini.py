"""Gemini CLI as data. Facts: gemini 0.61.0."""

from __future__ import annotations

from services.backends.spec import BackendSpec, Option
from services.decoders.gemini import GeminiDecoder

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
        "max_turns": Option(fields={"model.maxSessionTurns": "{}"}),
        "verbose": Option(argv=("--debug",)),
        "allowed_tools": Option(argv=("--allowed-tools={}",)),
    },
    defaults={"model": "gemini-2.5-flash"},
    decoder=GeminiDecoder,
    streams_tokens=True,
    resume_args=("--resume={}",),
    can_resume=True,
    aliases={"fast": "gemini-2.5-flash-lite", "balanced": "gemini-2.5-flash", "best": "gemini-2.5-pro", "gemini-1*": "gemini-2.5-flash"},
    models=("gemini-2.5-pro", "gemini-2.5-flash", "gemini-2.5-flash-lite"),
    claims=("gemini*",),
    vendor_env=("GEMINI_*", "GOOGLE_*", "!GEMINI_CLI", "!GEMINI_CLI_ACTIVITY_LOG_TARGET"),
    fixed_env={"GEMINI_CLI_NO_RELAUNCH": "true", "GEMINI_CLI_TRUST_WORKSPACE": "true"},
    fixed_fields={"general.maxAttempts": 1, "general.enableAutoUpdate": False},
    fields_env="GEMINI_CLI_SYSTEM_DEFAULTS_PATH",
    install_hint="install it with `npm install -g @google/gemini-cli`",
    login_hint="run `gemini` and log in, or set GEMINI_API_KEY",
    credentials=("GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GENAI_USE_VERTEXAI", "GOOGLE_GENAI_USE_GCA", "~/.gemini/oauth_creds.json"),
)
