"""A CLI that keeps sessions, for tests: it remembers its prompts in $NOTES_HOME/chats/<id>.txt and answers with all of them.

``python -I -S notes_cli.py [--session=ID]``, prompt on stdin. ``hang`` in a prompt: it says its first word and waits.
``fail``: it ends with an error after the first word. Each turn uses one input token for every prompt that it knows.
"""

import os
import sys
import time
import uuid


def say(kind, **fields):
    pairs = ", ".join(f'"{key}": "{value}"' for key, value in {"type": kind, **fields}.items())
    os.write(1, ("{" + pairs + "}\n").encode())


given = next((arg.partition("=")[2] for arg in sys.argv[1:] if arg.startswith("--session=")), "")
session = given or str(uuid.uuid4())
path = f"{os.environ['NOTES_HOME']}/chats/{session}.txt"
if given and not os.path.exists(path):
    say("error", message="No conversation found")
    sys.exit(1)
prompt = sys.stdin.read().replace('"', "'").replace("\n", "/")
if "--ephemeral" not in sys.argv:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "a") as file:
        file.write(prompt + "\n")
known = [prompt]
if os.path.exists(path):
    with open(path) as file:
        known = file.read().split("\n")[:-1]
say("started", session=session, model="notes-1")
say("text", text="known: ")
if "hang" in prompt:
    time.sleep(600)
if "fail" in prompt:
    say("error", message="told to fail")
    sys.exit(1)
say("text", text=" | ".join(known))
os.write(1, b'{"type": "done", "usage": {"input": %d, "output": 2}}\n' % len(known))
