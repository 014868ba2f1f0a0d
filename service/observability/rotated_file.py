"""A file that lines are appended to, and that is put aside when it has grown to a size; or a device."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

_OPEN_FILES = ("/dev/fd", "/proc/self/fd")
_LINKS = 8
"""Symbolic links that lead from a path to an open file, at most."""
_RIGHTS = 0o600
"""Rights of a new file: only the service's own user reads the texts."""


class RotatedFile:
    """One file that grows to a size and is then put aside: ``NAME.1`` is the newest that was, the oldest goes."""

    def __init__(self, path: Path, most_bytes: int, kept: int) -> None:
        self._path = path
        self._most = most_bytes
        self._kept = kept
        self._device = is_device(path)
        self._number: int | None = None
        self._identity = 0, 0
        self._size = 0
        self._plain = True  # a file by a name of its own, which can be shortened and put aside
        self._torn = False  # part of a line has gone into a pipe, and cannot be taken back

    def write(self, line: bytes) -> None:
        """Append a line, whole or not at all. Raises `OSError`; the next line is tried anew."""
        number = self._opened()
        if self._plain and self._size and self._size + len(line) > self._most:
            self.close()
            self._rotate()
            number = self._opened()
        done, content = 0, b"\n" * self._torn + line
        try:
            while done < len(content):
                done += os.write(number, content[done:])
        except OSError:
            self._torn = not self._plain and (self._torn or bool(done))
            if self._plain:
                with contextlib.suppress(OSError):
                    os.ftruncate(number, self._size)
            self.close()
            raise
        self._torn = False
        self._size += len(line)

    def _opened(self) -> int:
        if self._number is not None and self._plain:
            self._look()
        if self._number is None:
            self._number = open_file(self._path)
            found = os.fstat(self._number)
            self._plain = stat.S_ISREG(found.st_mode) and not self._device
            self._identity, self._size = (found.st_dev, found.st_ino), found.st_size
        return self._number

    def _look(self) -> None:
        """Close a file that somebody has deleted or put aside, and take note of one that was cut short."""
        try:
            found = self._path.stat()
        except OSError:
            self.close()
            return
        if (found.st_dev, found.st_ino) != self._identity:
            self.close()
        self._size = found.st_size

    def close(self) -> None:
        if self._number is not None:
            with contextlib.suppress(OSError):
                os.close(self._number)
            self._number = None

    def _rotate(self) -> None:
        for number in range(self._kept, 0, -1):
            older = self._aside(number)
            if older.exists():
                if number == self._kept:
                    older.unlink()
                else:
                    older.rename(self._aside(number + 1))
        if self._kept:
            self._path.rename(self._aside(1))
        else:
            self._path.unlink()

    def _aside(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


def is_device(path: Path) -> bool:
    """True for what no name can stand beside: a device, a pipe, an open file by its number."""
    return (path.exists() and not path.is_file()) or _open_number(path) is not None


def _open_number(path: Path) -> int | None:
    """The number of the open file of this process that a path stands for, such as 1 for ``/dev/stdout``."""
    path = path.absolute()
    for _ in range(_LINKS):
        if str(path.parent) in _OPEN_FILES and path.name.isdecimal():
            return int(path.name)
        if not path.is_symlink():
            break
        path = path.parent / path.readlink()
    return None


def open_file(path: Path) -> int:
    """Open a file, or a device, to append to it; the number of the open file. Raises `OSError`."""
    number = _open_number(path)
    if number is not None and stat.S_ISREG(os.fstat(number).st_mode):
        return os.dup(number)  # opened anew it would have another position, and the two would overwrite each other
    # O_NONBLOCK: a pipe that nobody reads is an error, and not a thread that waits for ever.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    return os.open(path, flags, _RIGHTS)
