"""The write end of a CLI's stdin. Never blocks: a CLI may write before it has read everything, and then waits for its reader."""

from __future__ import annotations

import fcntl
import os
import sys
import termios

import gevent

from services.processes.descriptors import close_fd


def queued_bytes(pipe: int) -> int:
    """Bytes in the pipe. Works at either end."""
    count = bytearray(4)
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return int.from_bytes(count, sys.byteorder)


class Stdin:
    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._unsent = bytearray()
        self._is_ending = self._is_closed = False
        self._watcher = gevent.get_hub().loop.io(fd, 2)

    @property
    def is_read(self) -> bool:
        """Whether the CLI has read everything so far."""
        return self._is_closed or not (self._unsent or queued_bytes(self._fd))

    def send(self, data: bytes) -> None:
        """What the pipe does not take now is written from the event loop. Dropped once the CLI has closed its end."""
        if not self._is_ending:
            self._unsent += data
            self._write()

    def try_send(self, data: bytes) -> bool:
        """Whether all of ``data`` could be written at once."""
        if self._is_ending or self._unsent:
            return False
        try:
            return os.write(self._fd, data) == len(data)
        except OSError:
            return False

    def end(self) -> None:
        """Close it when everything has been written: the CLI reads EOF."""
        self._is_ending = True
        if not self._unsent:
            self.close()

    def close(self) -> None:
        self._is_ending = True
        if not self._is_closed:
            self._is_closed = True
            self._watcher.stop()
            self._watcher.close()
            close_fd(self._fd)

    def _write(self) -> None:
        """Also runs in the event loop."""
        try:
            while self._unsent:
                del self._unsent[: os.write(self._fd, self._unsent)]
        except BlockingIOError:
            if not self._watcher.active:
                self._watcher.start(self._write)
            return
        except OSError:  # the CLI has closed it or has exited: its exit code and output tell why
            self._unsent.clear()
        self._watcher.stop()
        if self._is_ending:
            self.close()
