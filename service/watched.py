"""Files that are read anew when they change."""

from __future__ import annotations

import os
from pathlib import Path


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
