"""Files that are read anew when they change."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from time import monotonic


class Watch:
    """Files that are looked at again every `every` seconds, by the time of `clock`."""

    def __init__(self, *files: Path, every: float, clock: Callable[[], float] = monotonic) -> None:
        self._files, self._every, self._clock = files, every, clock
        self._seen = signature(*files)
        self._look_at = clock() + every

    def changed(self) -> bool:
        """True if a look is due, and the files have changed since the last one."""
        if self._clock() < self._look_at:
            return False
        self._look_at = self._clock() + self._every
        before, self._seen = self._seen, signature(*self._files)
        return self._seen != before


def signature(*files: Path) -> object:
    """A signature of the files. It also differs after a change that keeps size and modification time. The error's
    number stands for a file that cannot be read."""
    try:
        return [stamp(file.stat()) for file in files]
    except OSError as error:
        return error.errno


def stamp(found: os.stat_result) -> tuple[int, ...]:
    """One file's part of a signature."""
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
