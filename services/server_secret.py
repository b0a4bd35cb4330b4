"""The secret that signs values the server must recognize later, such as response ids."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from services.errors import StoreUnavailable

SECRET_BYTES = 32


class ServerSecret:
    """A file readable by the server's user only, created on first use. It is shared by every worker and server with the same
    home folder and survives restarts."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._value = b""

    def value(self) -> bytes:
        """Raises StoreUnavailable if the file can be neither read nor created."""
        if not self._value:
            try:
                self._value = self._read_or_create()
            except (OSError, ValueError) as error:
                raise StoreUnavailable(f"the server's secret {self._path} cannot be used: {error}") from error
        return self._value

    def _read_or_create(self) -> bytes:
        if not self._path.exists():
            self._create()
        value = bytes.fromhex(self._path.read_text().strip())
        if len(value) < SECRET_BYTES:
            raise ValueError(f"expected at least {SECRET_BYTES} bytes in hexadecimal digits")
        return value

    def _create(self) -> None:
        """Create the file atomically with link(2): the first of several workers wins, and no reader sees a partial secret."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = self._path.with_name(f".{self._path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            with open(descriptor, "w") as file:
                file.write(secrets.token_hex(SECRET_BYTES) + "\n")
                file.flush()
                os.fsync(descriptor)
            with suppress(FileExistsError):
                os.link(new, self._path)
        finally:
            os.unlink(new)
