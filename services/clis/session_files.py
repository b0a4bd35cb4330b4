"""Where CLIs keep their own sessions on disk: finding, copying and deleting the files of one session.

A session is copied by its files, with its id replaced in names and contents. That is how a session is forked with every CLI
alike, at the moment it is asked for: `claude --fork-session`, `codex exec fork` need a prompt first, by which time the
session may have gone on, and gemini has nothing of the kind. Checked with claude 2.1.197, codex 0.169.0, gemini 0.61.0:
each continues a copy, and the original goes on beside it.

Nothing outside the CLI's own folder is ever touched: ids are UUIDs, patterns are relative, links are not followed.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
Extent = Mapping[str, tuple[int, str]]
"""How far a session goes: the name of each transcript → its bytes so far, and their SHA-256 in hexadecimal. Transcripts only grow
(seen with all three at a resumed turn), so what a session was is the beginning of what it is."""

HEAD_BYTES = 8_192
"""How far into a transcript its session's id is looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFiles:
    """Patterns below the CLI's folder: ``{}`` stands for the session's id, ``{short}`` for its first eight characters."""

    variable: str
    """Names the folder in the CLI's environment."""
    below: str = ""
    """Where in that folder the CLI's own is."""
    folder: str
    """The CLI's own folder in the user's home, where the variable is unset."""
    transcripts: tuple[str, ...]
    """What the CLI continues from: one of them must be there."""
    companions: tuple[str, ...] = ()
    """Files and folders that belong to the session too."""

    def root(self, env: Mapping[str, str]) -> str:
        moved = env.get(self.variable)
        return os.path.join(moved, self.below) if moved else os.path.join(env.get("HOME", "/"), self.folder)

    def has(self, session_id: str, env: Mapping[str, str]) -> bool:
        return bool(self.transcripts_of(session_id, env))

    def transcripts_of(self, session_id: str, env: Mapping[str, str]) -> list[str]:
        return self._find(self.transcripts, session_id, env)

    def delete(self, session_id: str, env: Mapping[str, str]) -> int:
        """Remove what belongs to the session; how many files and folders that were. What is not there is no error."""
        paths = self._find((*self.transcripts, *self.companions), session_id, env)
        for path in paths:
            if os.path.isdir(path):
                shutil.rmtree(path, ignore_errors=True)
            else:
                _unlink(path)
        return len(paths)

    def extent(self, session_id: str, env: Mapping[str, str]) -> Extent | None:
        """How far the session goes now. None: it is not there."""
        found = {os.path.basename(path): _read(path) for path in self._find(self.transcripts, session_id, env)}
        return {name: (len(content), _sum(content)) for name, content in found.items()} or None

    def copy(self, session_id: str, new_id: str, env: Mapping[str, str], extent: Extent | None = None) -> bool:
        """Give the session a second life as ``new_id``: as it is, or as it was at ``extent``. False: there is nothing like it."""
        transcripts = self._find(self.transcripts, session_id, env)
        if not UUID.fullmatch(new_id) or not transcripts:
            return False
        ends = {path: extent.get(os.path.basename(path), (0, _sum(b""))) for path in transcripts} if extent else {}
        if any(_sum(_read(path)[:size]) != sum_ for path, (size, sum_) in ends.items()):
            return False
        names = {session_id: new_id, session_id[:8]: new_id[:8]}
        for path in self._find((*self.companions, *self.transcripts), session_id, env):
            folder, name = os.path.split(path)
            target = os.path.join(folder, _replaced(name, names))
            for source, copied in _files(path, target, names):
                os.makedirs(os.path.dirname(copied), mode=0o700, exist_ok=True)
                size = ends[source][0] if source in ends else None
                content = _read(source)[:size].replace(session_id.encode(), new_id.encode())
                with open(os.open(copied, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    file.write(content)
        return True

    def _find(self, patterns: tuple[str, ...], session_id: str, env: Mapping[str, str]) -> list[str]:
        if not UUID.fullmatch(session_id):
            return []
        root = self.root(env)
        found: list[str] = []
        for pattern in patterns:
            filled = pattern.replace("{short}", session_id[:8]).replace("{}", session_id)
            paths = (path for path in glob.glob(os.path.join(glob.escape(root), filled)) if not os.path.islink(path))
            found += [path for path in paths if session_id in path or _is_of(path, session_id)]
        return list(dict.fromkeys(found))


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _files(path: str, target: str, names: Mapping[str, str]) -> list[tuple[str, str]]:
    """(file, where its copy goes) of a file, or of all files of a folder."""
    if not os.path.isdir(path):
        return [(path, target)]
    pairs: list[tuple[str, str]] = []
    for folder, _, files in os.walk(path):
        there = os.path.join(target, os.path.relpath(folder, path))
        plain = [name for name in files if not os.path.islink(os.path.join(folder, name))]
        pairs += [(os.path.join(folder, name), os.path.normpath(os.path.join(there, _replaced(name, names)))) for name in plain]
    return pairs


def _replaced(name: str, names: Mapping[str, str]) -> str:
    for old, new in names.items():
        if old in name:
            return name.replace(old, new)
    return name


def _is_of(path: str, session_id: str) -> bool:
    """Whether a file that has only the beginning of the id in its name is the session's."""
    try:
        with open(path, "rb") as file:
            return session_id.encode() in file.read(HEAD_BYTES)
    except OSError:
        return False


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        if os.path.exists(path):
            raise
