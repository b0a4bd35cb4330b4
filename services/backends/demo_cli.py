"""The demo backend's CLI: a program of its own, standard library only, that answers without a model, an account or a network.

    python -I -S demo_cli.py [--model=NAME] [--system-prompt-file=PATH] [--max-tokens=N] [--session=ID]  < prompt

It writes JSON lines: ``started`` (session, model), ``text`` (text), ``done`` (reason, usage) or ``error`` (message).
The same prompt always gives the same answer. ``[[demo tokens=200 delay_ms=20]]`` in a prompt makes a long or slow one,
``[[demo fail=some words]]`` one that fails after it has begun.
"""

import json
import re
import sys
import time
import uuid

DIRECTIVE = re.compile(r"\[\[demo ([^\]]*)\]\]")
QUOTE_LIMIT = 600


def main(argv: list[str]) -> int:
    options = dict(arg.lstrip("-").split("=", 1) for arg in argv if "=" in arg)
    prompt = sys.stdin.buffer.read().decode("utf-8", "replace").strip()
    if not prompt:
        print("demo: no prompt on stdin", file=sys.stderr)
        return 2
    model = options.get("model", "demo-1")
    say(type="started", session=options.get("session") or str(uuid.uuid4()), model=model)
    knobs = directives(prompt)
    delay_s = min(count(knobs.get("delay_ms"), 5), 10_000) / 1000
    words = answer(prompt, model, system_prompt(options), count(knobs.get("tokens"), 0))
    limit = count(options.get("max-tokens"), len(words))
    for i, word in enumerate(words[:limit]):
        if i and delay_s:
            time.sleep(delay_s)
        say(type="text", text=word)
        if "fail" in knobs and i >= 2:
            say(type="error", message=knobs["fail"] or "the demo was asked to fail")
            return 1
    usage = {"input": len(re.findall(r"\S+", prompt)), "output": min(limit, len(words))}
    say(type="done", reason="max_tokens" if limit < len(words) else "end_turn", usage=usage)
    return 0


def say(**line: object) -> None:
    sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def directives(prompt: str) -> dict[str, str]:
    found = DIRECTIVE.search(prompt)
    if not found:
        return {}
    pairs = re.findall(r"(\w+)=(.*?)(?=\s+\w+=|$)", found.group(1))
    return {name: value.strip() for name, value in pairs}


def count(text: "str | None", default: int) -> int:
    return int(text) if text and text.isdecimal() and len(text) < 10 else default


def system_prompt(options: dict[str, str]) -> str:
    if path := options.get("system-prompt-file"):
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    return ""


def answer(prompt: str, model: str, system: str, tokens: int) -> list[str]:
    """The answer as tokens: words with the space before them."""
    if tokens:
        return ["word1", *(f" word{i}" for i in range(2, min(tokens, 1_000_000) + 1))]
    asked = DIRECTIVE.sub("", prompt).strip()
    quote = asked if len(asked) <= QUOTE_LIMIT else asked[:QUOTE_LIMIT] + "…"
    text = f"Hello! This is {model}, clinvk's demo backend: no model thinks here, and nothing leaves this machine. You said: {quote}"
    if system:
        text += f"\n\nMy instructions begin with: {system[:200]}"
    return re.findall(r"\s*\S+", text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
