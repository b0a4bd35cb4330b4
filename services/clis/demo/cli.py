"""The demo backend's CLI: a program of its own, standard library only, that answers without a model, an account or a network.

    python -I -S demo_cli.py [--model=NAME] [--system-prompt-file=PATH] [--max-tokens=N] [--session=ID]  < prompt

It writes JSON lines: ``started`` (session, model), ``text`` (text), ``done`` (reason, input, output) or ``error`` (message).
The same prompt always gives the same answer. ``[[demo tokens=200 delay_ms=20]]`` in a prompt makes a long or slow one,
``[[demo fail=some words]]`` one that fails after it has begun.

Only built-in modules are imported: `json`, `re` and `uuid` cost three times the start of Python itself.
"""

import os
import sys
import time

OPEN, CLOSE = "[[demo ", "]]"
KNOBS = ("tokens", "delay_ms", "fail")
QUOTE_LIMIT = 600
ESCAPES = {code: f"\\u{code:04x}" for code in (*range(32), 127)} | {ord('"'): '\\"', ord("\\"): "\\\\"}


def main(argv: list[str]) -> int:
    options = dict(arg.lstrip("-").split("=", 1) for arg in argv if "=" in arg)
    prompt = sys.stdin.buffer.read().decode("utf-8", "replace").strip()
    if not prompt:
        print("demo: no prompt on stdin", file=sys.stderr)
        return 2
    model = options.get("model", "demo-1")
    say(type="started", session=options.get("session") or new_session(), model=model)
    asked, knobs = without_directive(prompt)
    delay_s = min(count(knobs.get("delay_ms"), 5), 10_000) / 1000
    words = answer(asked, model, system_prompt(options), count(knobs.get("tokens"), 0))
    limit = count(options.get("max-tokens"), len(words))
    for i, word in enumerate(words[:limit]):
        if i and delay_s:
            time.sleep(delay_s)
        say(type="text", text=word)
        if "fail" in knobs and i >= 2:
            say(type="error", message=knobs["fail"] or "the demo was asked to fail")
            return 1
    reason = "max_tokens" if limit < len(words) else "end_turn"
    say(type="done", reason=reason, input=len(prompt.split()), output=min(limit, len(words)))
    return 0


def say(**line: "str | int") -> None:
    """Write one JSON line, as bytes: what the locale's encoding is shall not matter."""
    fields = (f'"{name}": {value}' if isinstance(value, int) else f'"{name}": "{value.translate(ESCAPES)}"' for name, value in line.items())
    sys.stdout.buffer.write(("{" + ", ".join(fields) + "}\n").encode("utf-8", "replace"))
    sys.stdout.buffer.flush()


def new_session() -> str:
    name = os.urandom(16).hex()
    return "-".join((name[:8], name[8:12], name[12:16], name[16:20], name[20:]))


def without_directive(prompt: str) -> "tuple[str, dict[str, str]]":
    """The prompt without its ``[[demo …]]``, and what that says. A value ends where the next knob begins."""
    before, opened, rest = prompt.partition(OPEN)
    words, closed, after = rest.partition(CLOSE)
    if not opened or not closed:
        return prompt, {}
    knobs: dict[str, str] = {}
    last = ""
    for word in words.split():
        name, has_value, value = word.partition("=")
        if has_value and name in KNOBS:
            knobs[name], last = value, name
        elif last:
            knobs[last] += " " + word
    return (before + after).strip(), knobs


def count(text: "str | None", default: int) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else default


def system_prompt(options: "dict[str, str]") -> str:
    if path := options.get("system-prompt-file"):
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    return ""


def answer(asked: str, model: str, system: str, tokens: int) -> "list[str]":
    """The answer as tokens."""
    if tokens:
        return ["word1", *(f" word{i}" for i in range(2, min(tokens, 1_000_000) + 1))]
    quote = asked if len(asked) <= QUOTE_LIMIT else asked[:QUOTE_LIMIT] + "…"
    text = f"Hello! This is {model}, clinvk's demo backend: no model thinks here, and nothing leaves this machine. You said: {quote}"
    if system:
        text += f"\n\nMy instructions begin with: {system[:200]}"
    return split(text)


def split(text: str) -> "list[str]":
    """Words, each with the white space before it; together they are ``text``."""
    tokens: list[str] = []
    begin = 0
    for i in range(1, len(text)):
        if text[i].isspace() and not text[i - 1].isspace():
            tokens.append(text[begin:i])
            begin = i
    return [*tokens, text[begin:]]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
