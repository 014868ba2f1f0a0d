"""A file's content in memory, with its digest: read once, and from then on independent of the file.

Large contents lie in sealed files in memory. Forked processes share those page by page, as they would the file itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import mmap
import os
import stat
import sys
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from service.errors import BundleError

_PIECE = 1 << 18
_SEALS = 0x1 | 0x2 | 0x4 | 0x8
"""On Linux: a file can be neither written, nor grow or shrink, nor lose these seals."""
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Content:
    """A file's content at the time of reading. `data` is read-only, `sha256` is its digest in hexadecimal."""

    data: memoryview
    sha256: str

    def rest(self) -> None:
        """Have no page of shared memory counted as this process's until it is read again: after a use of all of it."""
        if isinstance(self.data.obj, mmap.mmap) and sys.platform == "linux":
            self.data.obj.madvise(mmap.MADV_DONTNEED)


def read(path: Path, most: int, *, share: bool = False) -> Content:
    """Read a plain file of at most `most` bytes; with `share` into memory that processes forked later have in common.

    The digest is that of the returned bytes, even if the file changes meanwhile. Raises `BundleError`; the message
    names the file without its folder.
    """
    try:
        _check(path.lstat(), path.name, most)
        with os.fdopen(os.open(path, _FLAGS), "rb") as file:
            found = os.fstat(file.fileno())
            _check(found, path.name, most)  # the name may mean another file by now
            if share and found.st_size:
                return _shared(file, found.st_size)
            data = file.read(found.st_size)
            return Content(memoryview(data), hashlib.sha256(data).hexdigest())
    except OSError as error:
        raise BundleError(f"{path.name}: {error.strerror}") from error


def _shared(file: BufferedReader, size: int) -> Content:
    """The first `size` bytes of a file, or all bytes of a shorter file. Each piece is hashed while it is in the
    cache."""
    found, piece = hashlib.sha256(), memoryview(bytearray(_PIECE))
    with _nameless() as memory:
        while more := file.readinto(piece[: size - memory.tell()]):
            memory.write(piece[:more])
            found.update(piece[:more])
        count = memory.tell()
        memory.flush()
        if sys.platform == "linux":
            with contextlib.suppress(OSError):  # a file on a disk cannot be sealed, but it has no name either
                fcntl.fcntl(memory, fcntl.F_ADD_SEALS, _SEALS)
        # Private, for a sealed file has no other mappings; nothing writes, so processes share its pages.
        mapped = mmap.mmap(memory.fileno(), count, mmap.MAP_PRIVATE, mmap.PROT_READ) if count else b""
    return Content(memoryview(mapped), found.hexdigest())


def _nameless() -> IO[bytes]:
    """A new file that no other program can open by a name. It lies in memory if the system has such files."""
    try:
        return os.fdopen(os.memfd_create("gatelight", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "w+b", 0)
    except (AttributeError, OSError):
        return TemporaryFile(buffering=0)


def _check(found: os.stat_result, name: str, most: int) -> None:
    """Only a plain file is read. Anything else may lie outside the bundle, or never end (a pipe)."""
    if not stat.S_ISREG(found.st_mode):
        raise BundleError(f"{name} is a link, a folder or a device; a bundle holds plain files")
    if found.st_size > most:
        raise BundleError(f"{name} has {found.st_size} bytes, the limit is {most}")
