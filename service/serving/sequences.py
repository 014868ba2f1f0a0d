"""The states of `/v2`'s sequences, one file each, in shared memory if the system has a folder for it.

The worker of a request locks the sequence's file and leaves the next state in it. So no worker owns a sequence, and a
sequence outlives the worker that read its last piece. The states are sealed like those that clients keep.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from service.errors import InvalidField, Refusal, Unavailable

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # the folder below it is the user's own
_WHERE = "/parameters/sequence_id"
_HELD = ".held"
"""The file in a folder of sequences that living services lock; it says `_RANDOM` if no other service has the key."""
_RANDOM = b"random"
_OLDEST_SECONDS = 86_400.0
"""After this time no service uses a sequence: the most that its setting allows."""


@dataclass(slots=True)
class Held:
    """One sequence during a request. `before` is its state, None at the start. `after` is kept for the next request;
    None ends the sequence. With `over` a failure ends it, too."""

    before: str | None
    after: str | None = None
    over: bool = False


class Sequences:
    """At most `most` open sequences, each dropped after `seconds` without a request. Services on one machine share them
    if their `key` is the same."""

    def __init__(self, key: bytes, most: int, seconds: float) -> None:
        self._folder = _folder(key)
        self._most, self._seconds = most, seconds

    @property
    def count(self) -> int:
        """The number of open sequences."""
        with suppress(OSError):
            return sum(1 for _ in _files(self._folder))
        return 0

    @contextmanager
    def hold(self, model: str, number: int | str, *, start: bool) -> Iterator[Held]:
        """Lock a sequence. If its first request fails the sequence is removed; after a later failure it stays as it
        was, unless it is `over`.

        Raises `InvalidField` for an unknown sequence, one that is open already, and one locked by another request;
        `Unavailable` if too many are open.
        """
        name = hashlib.sha256(repr((model, number)).encode()).hexdigest()
        path = self._folder / name
        descriptor = self._begin(path, number) if start else self._find(path, number)
        try:
            held = Held(None if start else os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode("ascii"))
            try:
                yield held
            except BaseException:
                if start or held.over:
                    path.unlink(missing_ok=True)
                raise
            if held.after is None:
                path.unlink(missing_ok=True)
            else:
                content = held.after.encode("ascii")
                os.pwrite(descriptor, content, 0)
                os.ftruncate(descriptor, len(content))
        finally:
            os.close(descriptor)  # closing releases the lock

    def close(self) -> None:
        """Remove the folder if no sequence is open."""
        with suppress(OSError):
            self._folder.rmdir()

    def drop_old(self) -> None:
        """Drop the expired sequences."""
        with suppress(OSError):
            for path in _files(self._folder):
                with suppress(OSError):
                    if self._is_old(path.stat()):
                        path.unlink()

    def _is_old(self, found: os.stat_result) -> bool:
        return found.st_mtime + self._seconds < time.time()

    def _begin(self, path: Path, number: int | str) -> int:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        if self.count >= self._most:
            self.drop_old()
            if self.count >= self._most:
                raise Unavailable(
                    f"{self._most} sequences are open, which is the limit (setting max_sequences).",
                    retry_after=1.0,
                    reason=Refusal.STREAMS,
                )
        with suppress(OSError):
            if self._is_old(path.stat()):
                path.unlink()
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise InvalidField(
                _WHERE, f"Sequence {number!r} is open already: end it, or begin one of another number."
            ) from None
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return descriptor

    def _find(self, path: Path, number: int | str) -> int:
        unknown = InvalidField(
            _WHERE,
            f"There is no open sequence {number!r}: it was not begun with sequence_start, has ended, or was silent for "
            f"{self._seconds:g} seconds.",
        )
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            raise unknown from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = os.fstat(descriptor)
            if self._is_old(found) or not found.st_size or not found.st_nlink:
                path.unlink(missing_ok=True)
                raise unknown
        except BlockingIOError:
            os.close(descriptor)
            raise InvalidField(
                _WHERE, f"Another request of sequence {number!r} is under way; send them one after the other."
            ) from None
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


@contextmanager
def kept(key: bytes, *, random: bool) -> Iterator[None]:
    """Keep the folder of sequences while a service runs, and remove what services that were killed left behind.

    Only this service has a `random` key, and its sequences end with it. Others stay for the next service with the key.
    """
    sweep()
    folder = _folder(key)
    descriptor = _hold(folder, random=random)
    try:
        yield
    finally:
        if descriptor is not None:
            _release(folder, descriptor)


def sweep() -> None:
    """Remove this user's folders of sequences that no living service holds, if none can use them any more."""
    with suppress(OSError):
        for folder in list(_base().glob(f"gatelight-{os.getuid()}-*")):
            with suppress(OSError):
                found = folder.lstat()
                if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
                    continue  # not made by a service of this user
                try:
                    descriptor = os.open(folder / _HELD, os.O_RDWR | os.O_NOFOLLOW)
                except FileNotFoundError:
                    _remove(folder)
                else:
                    _release(folder, descriptor)


def _hold(folder: Path, *, random: bool) -> int | None:
    """Lock a folder until the descriptor is closed, here and in forked processes; None if that is impossible."""
    with suppress(OSError):
        while True:
            folder.mkdir(mode=0o700, exist_ok=True)
            try:
                descriptor = os.open(folder / _HELD, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            except FileNotFoundError:
                continue  # removed in between
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            if os.fstat(descriptor).st_nlink:
                os.pwrite(descriptor, _RANDOM if random else b"", 0)
                return descriptor
            os.close(descriptor)
    return None


def _release(folder: Path, descriptor: int) -> None:
    """Close a folder's file `_HELD`. The last to do so removes what no service can use."""
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails if another service holds it
            if os.pread(descriptor, len(_RANDOM), 0) == _RANDOM:
                shutil.rmtree(folder)
            else:
                _remove(folder)
    finally:
        os.close(descriptor)


def _remove(folder: Path) -> None:
    """Remove sequences that no service uses any more, and the folder if none is left."""
    for path in _files(folder):
        if path.stat().st_mtime + _OLDEST_SECONDS < time.time():
            path.unlink()
    if not any(_files(folder)):
        (folder / _HELD).unlink(missing_ok=True)
        folder.rmdir()


def _files(folder: Path) -> Iterator[Path]:
    """The sequences in a folder. Raises `OSError`."""
    return (path for path in folder.iterdir() if path.name != _HELD)


def _folder(key: bytes) -> Path:
    name = hashlib.sha256(b"gatelight sequences\0" + key).hexdigest()[:24]
    return _base() / f"gatelight-{os.getuid()}-{name}"


def _base() -> Path:
    return _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
