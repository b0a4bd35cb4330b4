"""What `clinvk connect` does with one file: the text that it shows, and the changes that `--write` and `--remove` make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.clients import edit, files
from app.clients.connections import CLIENTS, Connection, Place, entries_of, is_ours
from app.clients.edit import FORMATS, MISSING, at
from app.clients.files import PRIVATE_MODE, Stored
from app.clients.unreadable import Unreadable


@dataclass(frozen=True, slots=True)
class Values:
    url: str
    model: str
    key: str = ""
    """To be written itself; empty: a reference to its variable."""

    def entries(self, connection: Connection) -> dict[edit.Path, Any]:
        return entries_of(connection, url=self.url, model=self.model, key=self.key)


@dataclass(frozen=True, slots=True)
class Change:
    """To one file. ``text`` None: it is deleted."""

    stored: Stored
    text: str | None
    mode: int
    is_first: bool = False
    """Nothing of ours was there before, so that the backup is what `removed` gives back."""
    is_restored: bool = False
    """It is what the backup is, which goes."""

    @property
    def is_none(self) -> bool:
        return self.text == self.stored.text and self.mode == self.stored.mode

    def apply(self) -> None:
        """Raises files.Changed, OSError."""
        if self.text is None:
            files.delete(self.stored)
        else:
            files.write(self.stored, self.text, mode=self.mode, keeps_backup=self.is_first)
        if self.is_restored:
            self.stored.backup.unlink(missing_ok=True)


def shown(connections: Sequence[Connection], values: Values) -> str:
    """The configuration as it would stand in a file of its own."""
    kind, text = FORMATS[connections[0].place.kind], ""
    for connection in connections:
        text = edit.put(kind, text, values.entries(connection))
    return text


def written(stored: Stored, connections: Sequence[Connection], values: Values) -> Change:
    """With the connections, which have one place. Raises Unreadable, also for what is there under their names and is not ours."""
    place = connections[0].place
    kind = FORMATS[place.kind]
    text = stored.text or ""
    before = kind.parse(text)
    if stored.text is None:
        text = _beginning(connections)
    for connection in connections:
        others = [path for path in connection.paths if at(before, path) is not MISSING]
        if others and not is_ours(connection, before):
            names = ", ".join(".".join(path) for path in others)
            raise Unreadable(f"it has {names} already, for something else; rename or remove that there, then try again")
        entries = values.entries(connection)
        text = edit.drop(kind, text, [path for path in others if path not in entries], before=text)
        text = edit.put(kind, text, entries)
    is_first = not any(is_ours(connection, before) for connection in _all_of(place))
    return Change(stored, text, PRIVATE_MODE if values.key else stored.mode, is_first=is_first)


def removed(stored: Stored, connections: Sequence[Connection]) -> Change | None:
    """Without the connections, which have one place; None if none of them is there. Raises Unreadable."""
    kind = FORMATS[connections[0].place.kind]
    if stored.text is None:
        return None
    data = kind.parse(stored.text)
    ours = [connection for connection in connections if is_ours(connection, data)]
    if not ours:
        return None
    backup = files.read(stored.backup, stored.path.parent)
    before = _beginning(connections) if backup.text is None else backup.text
    paths = [path for connection in ours for path in connection.paths]
    text = edit.drop(kind, stored.text, paths, before=before)
    if text != before:
        return Change(stored, text, stored.mode)
    return Change(stored, None if backup.text is None else text, backup.mode, is_restored=True)


def _beginning(connections: Sequence[Connection]) -> str:
    """Of a new file."""
    place = connections[0].place
    return edit.put(FORMATS[place.kind], "", {(name,): value for name, value in place.preamble.items()})


def _all_of(place: Place) -> list[Connection]:
    return [connection for client in CLIENTS.values() for connection in client.connections.values() if connection.place.user == place.user]


def by_file(connections: Sequence[Connection], project: Path | None) -> Mapping[Path, list[Connection]]:
    """The connections of each file, in their order."""
    found: dict[Path, list[Connection]] = {}
    for connection in connections:
        found.setdefault(files.path_of(connection.place, project), []).append(connection)
    return found
