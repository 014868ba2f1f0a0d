"""A file's content in memory, with its digest: read once, and from then on independent of the file.

Large contents lie in shared memory that has no name. Forked processes share it page by page, as they would the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

from service.errors import BundleError

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Content:
    """What a file held when it was read. `data` is read-only, `sha256` is its digest in hexadecimal."""

    data: memoryview
    sha256: str


def read(path: Path, most: int, *, share: bool = False) -> Content:
    """Read a plain file of at most `most` bytes; with `share` into memory that processes forked later have in common.

    The digest is of the bytes that are returned, whatever happens to the file meanwhile. Raises `BundleError`, whose
    message names the file without its folder.
    """
    with _plain(path, most) as file:
        size = os.fstat(file.fileno()).st_size
        data = _shared(file, size) if share and size else memoryview(file.read(size))
    if len(data) < size:
        raise BundleError(f"{path.name} became shorter while it was read")
    return Content(data, hashlib.sha256(data).hexdigest())


def digest(path: Path, most: int) -> str:
    """A plain file's SHA-256, in hexadecimal. Raises `BundleError`."""
    with _plain(path, most) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _shared(file: BufferedReader, size: int) -> memoryview:
    """The first `size` bytes of a file, fewer where it ends before."""
    memory = mmap.mmap(-1, size)
    return memoryview(memory).toreadonly()[: file.readinto(memory)]


@contextlib.contextmanager
def _plain(path: Path, most: int) -> Iterator[BufferedReader]:
    """Open a plain file. Anything else may lie outside the bundle, or never end (a pipe)."""
    try:
        _check(path.lstat(), path.name, most)
        with os.fdopen(os.open(path, _FLAGS), "rb") as file:
            _check(os.fstat(file.fileno()), path.name, most)  # the name may mean another file by now
            yield file
    except OSError as error:
        raise BundleError(f"{path.name}: {error.strerror}") from error


def _check(found: os.stat_result, name: str, most: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise BundleError(f"{name} is a link, a folder or a device; a bundle holds plain files")
    if found.st_size > most:
        raise BundleError(f"{name} has {found.st_size} bytes, the limit is {most}")
