"""API keys: their sources and their rights.

Keys come from the settings and from a file (a Docker or Kubernetes secret), which is read again when it changes. Memory
holds only SHA-256 digests. A line of the file is a key with options:

    KEY                 every route but those that load and unload models
    KEY admin           those too
    KEY metrics         only `/metrics`
    KEY rate=50         requests a second, instead of the setting `rate_limit`
    KEY name=acme       the key's name in the log; by default its line number

Empty lines and lines that begin with # are ignored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Literal

import structlog

from service.errors import StartupError
from service.watched import Watch

Scope = Literal["use", "admin", "metrics"]

LOOK_EVERY = 1.0
"""Interval between two checks of the file, in seconds."""
MAX_FILE = 1 << 20
"""Limit on the file's size, in bytes."""
SHORT = 16
"""A shorter key, in characters, can be guessed; the log warns of it."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Grant:
    """The rights of a key: a scope, its own rate (requests a second), and its name in the log. `place` identifies a key
    without a name."""

    scope: Scope = "use"
    rate: float | None = None
    name: str | None = None
    place: str = field(default="", compare=False)

    @property
    def label(self) -> str:
        """The key's identity in the log; never the key."""
        return self.name or self.place

    @property
    def counted(self) -> str:
        """The name under which a rate of this key is counted: keys of one name are still two."""
        return f"{self.label}\0{self.place}"


class Keys:
    """The current keys: digest to grant.

    Raises `StartupError` if the file is unusable at the start. Later, such a file is logged and the last valid keys
    stay: a half-written file neither opens nor closes the service.
    """

    def __init__(
        self,
        keys: Iterable[str] = (),
        admin_keys: Iterable[str] = (),
        file: Path | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        given = {key: Grant(place=f"api_keys {number}") for number, key in enumerate(keys, 1)}
        given |= {key: Grant("admin", place=f"admin_keys {number}") for number, key in enumerate(admin_keys, 1)}
        self._given = {digest(key.encode()): grant for key, grant in given.items()}
        self._file = file
        self._grants: Mapping[bytes, Grant] = self._given
        _warn_of_short(given)
        if file is not None:
            self._watch = Watch(file, every=LOOK_EVERY, clock=clock)
            try:
                self._grants = self._given | _read(file)
            except (OSError, ValueError) as error:
                raise StartupError(f"api_keys_file: {_why(error)} (--api-keys-file)") from error

    def __bool__(self) -> bool:
        """True if keys are required. This is decided at the start."""
        return bool(self._given) or self._file is not None

    def current(self) -> Mapping[bytes, Grant]:
        """The grants by digest. The file is checked every `LOOK_EVERY` seconds."""
        if self._file is not None and self._watch.changed():
            try:
                self._grants = self._given | _read(self._file)
            except (OSError, ValueError) as error:
                _log.error("the API keys stay as they were", reason=_why(error))
            else:
                _log.info("API keys read", keys=len(self._grants))
        return self._grants


def digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def parse(text: str) -> dict[bytes, Grant]:
    """The grants of a file. Raises `ValueError`, which names the line and never shows it."""
    grants: dict[bytes, Grant] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        key, *options = words
        if not (key.isascii() and key.isprintable()):
            raise ValueError(f"line {number}: a key holds printable ASCII characters without spaces")
        if digest(key.encode()) in grants:
            raise ValueError(f"line {number}: the key stands there twice")
        try:
            grants[digest(key.encode())] = replace(_grant(options), place=f"api_keys_file line {number}")
        except ValueError:
            raise ValueError(
                f"line {number}: after the key, admin or metrics, rate=N with N over 0, name=NAME, each once"
            ) from None
    if not grants:
        raise ValueError("the file holds no key")
    return grants


def _grant(options: list[str]) -> Grant:
    grant, seen = Grant(), set()
    for option in options:
        what, _, value = option.partition("=")
        kind = "scope" if option in ("admin", "metrics") else what
        if kind in seen:
            raise ValueError(option)
        seen.add(kind)
        if option == "admin":
            grant = replace(grant, scope="admin")
        elif option == "metrics":
            grant = replace(grant, scope="metrics")
        elif what == "rate" and 0 < float(value) <= 1_000_000:
            grant = replace(grant, rate=float(value))
        elif what == "name" and value.isascii() and value.isprintable() and 0 < len(value) <= 64:
            grant = replace(grant, name=value)
        else:
            raise ValueError(option)
    return grant


def _read(file: Path) -> dict[bytes, Grant]:
    with file.open("rb") as opened:
        content = opened.read(MAX_FILE + 1)
    if len(content) > MAX_FILE:
        raise ValueError(f"over {MAX_FILE} bytes")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("the file is not UTF-8") from None
    grants = parse(text)
    _warn_of_short(line.split()[0] for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    return grants


def _why(error: OSError | ValueError) -> str:
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)


def _warn_of_short(keys: Iterable[str]) -> None:
    short = sum(len(key) < SHORT for key in keys)
    if short:
        _log.warning(f"API keys of fewer than {SHORT} characters can be guessed", keys=short)
