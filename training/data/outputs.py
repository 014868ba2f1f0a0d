"""Files that a command writes: none may be one that it reads, or be written twice or by two processes at once, and
errors name them."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from service.model.bundle import FILES, MANIFEST, UNITS

Named = Mapping[str, Path | Iterable[Path] | None]
"""Files by the option or argument that names them."""
_OF_A_BUNDLE = (MANIFEST, *FILES, UNITS)
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)
"""Errors of a file system without locks: there a second process is not noticed."""


def clash(outputs: Named, inputs: Named) -> str | None:
    """Why these files cannot be written: one is also read, or written under two names. None if they can be.

    Links to a file count as the file, and the files of a bundle as read where its folder is. A folder is added to, so
    one may be both.
    """
    taken = [(option, part, "reads") for option, path in _each(inputs) for part in _parts(path)]
    for option, path in _each(outputs):
        if path.is_dir() or (path.exists() and not path.is_file()):
            continue  # a device such as /dev/null loses nothing
        for other, file, what in taken:
            if _same(path, file):
                return f"{option}: {path} would be written over; it is the file that {other} {what}"
        taken.append((option, path, "writes"))
    return None


@contextmanager
def held(out: Path, folder: bool = False) -> Iterator[None]:
    """Within the block no other process holds this output: a file, or a `folder`, which is made.

    The lock is the system's and ends with the process. It is on the folder itself; for a file it is on an empty file
    beside it, ``.NAME.lock``, which is removed. Folders that were made here and are still empty are removed too. Raises
    `BlockingIOError` at once if another process holds the output.
    """
    if out.exists() and not folder and not out.is_file():
        yield  # a device
        return
    lock = out if folder else out.resolve().with_name(f".{out.resolve().name}.lock")
    place = lock if folder else lock.parent
    made = [each for each in (place, *place.parents) if not each.exists()]
    try:
        descriptor = _locked(lock, folder)
    except OSError as error:
        error.filename = str(out)
        raise
    if descriptor is None:
        busy = "another process is writing it: wait until that ends, or stop it"
        raise BlockingIOError(errno.EWOULDBLOCK, busy, str(out))
    try:
        yield
    finally:
        if not folder:
            lock.unlink(missing_ok=True)
        with suppress(OSError):  # one is no longer empty
            for each in made:
                each.rmdir()
        os.close(descriptor)


def _locked(path: Path, folder: bool) -> int | None:
    """The descriptor of a lock on a file or a folder, which is made; None if another process has the lock."""
    while True:
        (path if folder else path.parent).mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY if folder else os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(descriptor)
                raise
        with suppress(OSError):  # the process that had the lock has just removed it
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        os.close(descriptor)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Gives an error of the system the name of the file that is written: that of a full disk has none."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    except SafetensorError as error:
        raise OSError(errno.EIO, str(error), str(path)) from error


def _each(named: Named) -> Iterator[tuple[str, Path]]:
    for option, found in named.items():
        for path in () if found is None else (found,) if isinstance(found, Path) else found:
            yield option, path


def _parts(path: Path) -> Iterator[Path]:
    """A file itself; of a folder the files of the bundles NAME/VERSION and NAME that it may be."""
    yield path
    if path.is_dir():
        for folder in (path, *(each for each in path.iterdir() if each.is_dir())):
            yield from (folder / name for name in _OF_A_BUNDLE)


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one is not there yet
        return one.resolve() == other.resolve()
