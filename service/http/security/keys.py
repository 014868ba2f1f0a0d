"""API keys: where they come from, and what each of them allows.

They come from the settings and from a file (a Docker or Kubernetes secret), which is read anew when it changes. In
memory there are SHA-256 digests alone. A line of the file is a key, and after it what is special about it:

    KEY                 every route but those that load and unload models
    KEY admin           these too
    KEY metrics         `/metrics`, and nothing else
    KEY rate=50         requests a second, in place of the setting `rate_limit`
    KEY name=acme       what the log calls whoever sends it; without a name, its place

Empty lines and lines that begin with # say nothing.
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
from service.watched import signature

Scope = Literal["use", "admin", "metrics"]

LOOK_EVERY = 1.0
"""Seconds between two looks at the file."""
MAX_FILE = 1 << 20
"""Bytes of a file of keys."""
SHORT = 16
"""Characters under which a key can be guessed, and is warned of."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Grant:
    """What a key allows: a scope, a rate of its own (requests a second), and the name that the log gives it. `place`
    says where a key stands, for the log to tell keys without names apart."""

    scope: Scope = "use"
    rate: float | None = None
    name: str | None = None
    place: str = field(default="", compare=False)

    @property
    def label(self) -> str:
        """How the log tells this key from others; never the key."""
        return self.name or self.place


class Keys:
    """Digest → grant, as of now.

    Raises `StartupError` when the file cannot be used at the start. Later, such a file is told of in the log and the
    keys are those that were read last: a half-written file neither opens the service nor closes it.
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
        self._clock = clock
        self._state: object = None
        self._look_at = clock() + LOOK_EVERY
        self._grants: Mapping[bytes, Grant] = self._given
        _warn_of_short(given)
        if file is not None:
            self._state = signature(file)
            try:
                self._grants = self._given | _read(file)
            except (OSError, ValueError) as error:
                raise StartupError(f"api_keys_file: {_why(error)} (--api-keys-file)") from error

    def __bool__(self) -> bool:
        """Whether keys are asked for at all: that is settled at the start."""
        return bool(self._given) or self._file is not None

    def current(self) -> Mapping[bytes, Grant]:
        """The grants by digest; the file is looked at once in `LOOK_EVERY` seconds."""
        if self._file is not None and self._clock() >= self._look_at:
            self._look_at = self._clock() + LOOK_EVERY
            self._look(self._file)
        return self._grants

    def _look(self, file: Path) -> None:
        state = signature(file)
        if state == self._state:
            return
        self._state = state
        try:
            self._grants = self._given | _read(file)
        except (OSError, ValueError) as error:
            _log.error("the API keys stay as they were", reason=_why(error))
        else:
            _log.info("API keys read", keys=len(self._grants))


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
