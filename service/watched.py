"""Files that are read anew when they change."""

from __future__ import annotations

import os
from pathlib import Path


def signature(*files: Path) -> object:
    """What changes when one of the files does, though its size and its time of writing were kept; the number of the
    error where one cannot be looked at."""
    try:
        return [stamp(file.stat()) for file in files]
    except OSError as error:
        return error.errno


def stamp(found: os.stat_result) -> tuple[int, ...]:
    """One file's part of a signature."""
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
