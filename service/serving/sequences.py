"""The states of `/v2`'s sequences, one file each, in shared memory if the system has a folder for it.

The worker of a request locks the sequence's file and leaves the next state in it. So no worker owns a sequence, and a
sequence outlives the worker that read its last piece. The states are sealed like those that clients keep.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from service.errors import InvalidField, Refused, Unavailable

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # the folder below it is the user's own
_WHERE = "/parameters/sequence_id"


@dataclass(slots=True)
class Held:
    """One sequence during a request. `before` is its state, None at the start. `after` is kept for the next request;
    None ends the sequence."""

    before: str | None
    after: str | None = None


class Sequences:
    """At most `most` open sequences, each dropped after `seconds` without a request. Services on one machine share them
    if their `key` is the same."""

    def __init__(self, key: bytes, most: int, seconds: float) -> None:
        base = _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else Path(tempfile.gettempdir())
        name = hashlib.sha256(b"gatelight sequences\0" + key).hexdigest()[:24]
        self._folder = base / f"gatelight-{os.getuid()}-{name}"
        self._most, self._seconds = most, seconds

    @property
    def count(self) -> int:
        """The number of open sequences."""
        with suppress(OSError):
            return sum(1 for _ in self._folder.iterdir())
        return 0

    @contextmanager
    def hold(self, model: str, number: int | str, *, start: bool) -> Iterator[Held]:
        """Lock a sequence. If its first request fails the sequence is removed; after a later failure it stays as it
        was.

        Raises `InvalidField` for an unknown sequence, one that is open already, and one locked by another request;
        `Unavailable` if too many are open.
        """
        name = hashlib.sha256(repr((model, number)).encode()).hexdigest()
        path = self._folder / name
        descriptor = self._begin(path, number) if start else self._find(path, number)
        try:
            held = Held(None if start else os.pread(descriptor, 1 << 20, 0).decode("ascii"))
            try:
                yield held
            except BaseException:
                if start:
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
            for path in self._folder.iterdir():
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
                    reason=Refused.STREAMS,
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
