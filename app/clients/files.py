"""Configuration files of clients on the disk: found, read, and replaced as a whole, with a backup beside them."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from app.clients.connections import Place
from app.clients.unreadable import Unreadable

BACKUP_SUFFIX = ".clinvk-backup"
LIMIT_BYTES = 16 << 20
PRIVATE_MODE = 0o600
BOM = "\ufeff"
VARIABLE = re.compile(r"\$(\w+)")
MAC_FOLDER = "/Library/"


class Changed(Exception):
    """The file was changed by another program while it was edited."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A file as it was read. ``content`` None: it does not exist."""

    path: Path
    content: bytes | None
    mode: int

    @property
    def text(self) -> str | None:
        """Raises Unreadable if it is not UTF-8."""
        if self.content is None:
            return None
        try:
            return self.content.decode().removeprefix(BOM)
        except UnicodeDecodeError as error:
            raise Unreadable(f"byte {error.start} is not UTF-8") from None

    @property
    def backup(self) -> Path:
        return self.path.with_name(self.path.name + BACKUP_SUFFIX)


def path_of(place: Place, project: Path | None) -> Path:
    """The file of ``place``: of the user, or in the folder ``project``."""
    if project:
        return project / place.project
    named = [path for path in place.user if (found := VARIABLE.match(path)) and os.environ.get(found[1])]
    usual = [path for path in place.user if path.startswith("~/") and (MAC_FOLDER not in path or sys.platform == "darwin")]
    known = [Path(os.path.expandvars(path)).expanduser() for path in named or usual]
    return next((path for path in known if path.exists()), known[0])


def read(path: Path, root: Path) -> Stored:
    """The file that ``path`` is or links to. Raises Unreadable, also for a link that leads out of the folder ``root``; OSError."""
    target = path.resolve()
    if path.is_symlink() and not target.is_relative_to(root.resolve()):
        raise Unreadable(f"it links to {target}, outside of {root}; edit that file by hand, or replace the link by a file")
    try:
        with target.open("rb") as file:
            content = file.read(LIMIT_BYTES + 1)
            mode = os.fstat(file.fileno()).st_mode & 0o7777
    except FileNotFoundError:
        return Stored(target, None, 0o666 & ~_umask())
    if len(content) > LIMIT_BYTES:
        raise Unreadable(f"it is larger than {LIMIT_BYTES >> 20} MiB")
    return Stored(target, content, mode)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def write(stored: Stored, text: str, *, mode: int, keeps_backup: bool) -> None:
    """Replace the file by ``text``; ``keeps_backup``: with what it was beside it. Raises Changed, OSError."""
    has_bom = (stored.content or b"").startswith(BOM.encode())
    stored.path.parent.mkdir(parents=True, exist_ok=True)
    if keeps_backup and stored.content is not None:
        _replace(stored.backup, stored.content, stored.mode)
    elif keeps_backup:
        stored.backup.unlink(missing_ok=True)
    _require_unchanged(stored)
    _replace(stored.path, (BOM if has_bom else "").encode() + text.encode(), mode)


def delete(stored: Stored) -> None:
    """Raises Changed, OSError."""
    _require_unchanged(stored)
    stored.path.unlink()


def _require_unchanged(stored: Stored) -> None:
    try:
        now = stored.path.read_bytes()
    except FileNotFoundError:
        now = None
    if now != stored.content:
        raise Changed(f"{stored.path} was changed by another program in this moment; try again")


def _replace(path: Path, content: bytes, mode: int) -> None:
    """A reader sees the old file or the new one."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
