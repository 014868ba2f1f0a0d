"""Who may ask for what, and how often: API keys, their scopes, and a rate for each of them.

Programs send a key as `Authorization: Bearer KEY`. A person's browser cannot, so it is asked for one at the page and
sends it by Basic authentication, as the password; the page's own requests carry it then.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable, Collection, Mapping
from mmap import mmap
from time import monotonic

from service.errors import Forbidden, RateLimited, Unauthorized
from service.http.accept import names_html
from service.http.security.keys import Grant, Keys, digest

HEALTH = frozenset(("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"))
"""Paths that are open without an API key, and logged at level debug: probes ask for them every few seconds."""
ADMIN = ("/admin/", "/v2/repository/models/")
"""How the paths begin that change what is served."""
METRICS = "/metrics"
GRANT, ADMIT = "grant", "admit"
"""Under which a WebSocket's scope has what its key allows, and, where it sent none, the check of one that comes later.
"""

PAGES, PAGE_FILES = ("/", "/docs"), ("/page/", "/docs/page/")
"""The gate explorer and the API's page: files that are the same for everyone, and cost nothing."""

_BEARER, _BASIC = b"bearer ", b"basic "
_SIGN_IN = 'Basic realm="Gatelight", charset="UTF-8"'
_OWN_SITE = (None, b"same-origin", b"none")
"""`Sec-Fetch-Site` of what a page of this service asks, or a person; of no browser, or an old one."""


class Buckets:
    """How many requests each key has left, in memory that forked processes share: limits are those of the service, not
    of each worker. Two processes that write at the same moment can let a request more in; none is lost."""

    SLOTS, TRIES = 16_384, 64

    def __init__(self) -> None:
        self._memory = memoryview(mmap(-1, 3 * 8 * self.SLOTS))
        part = 8 * self.SLOTS
        self._keys = self._memory[:part].cast("Q")
        self._left = self._memory[part : 2 * part].cast("d")
        self._then = self._memory[2 * part :].cast("d")

    def take(self, key: bytes, rate: float, now: float) -> float:
        """Take one request; the seconds until there is one where there is none, else 0."""
        slot, capacity = self._slot(int.from_bytes(key[:8], "little") | 1), max(1.0, rate)
        left = self._left[slot] + max(0.0, now - self._then[slot]) * rate if self._then[slot] else capacity
        left = min(capacity, left)
        self._left[slot], self._then[slot] = (left if left < 1 else left - 1), now or _EARLY
        return (1 - left) / rate if left < 1 else 0.0

    def _slot(self, key: int) -> int:
        """The key's place: its own, or a free one nearby; when none is free there, that of the longest silent."""
        places = [(key + step) % self.SLOTS for step in range(self.TRIES)]
        for place in places:
            if self._keys[place] in (0, key):
                self._keys[place] = key
                return place
        place = min(places, key=self._then.__getitem__)
        self._keys[place], self._then[place] = key, 0.0
        return place


SHARED = Buckets()
"""Made when this module is imported, and that is before the workers are forked."""
_EARLY = 1e-9
"""A time that is not 0, which stands for never."""


class Access:
    """Lets requests in.

    A key has a bucket of `rate` requests (1 at least), which refills by `rate` a second; 0 for no limit. Without keys
    everyone may ask, as often as they like. Where a key is for administration, the routes of that want such a key;
    where none is, any key will do. Pages of other origins than `origins` never reach these routes: a browser sends
    some requests without asking first, to a service on its own machine too.
    """

    def __init__(
        self,
        keys: Keys,
        rate: float = 0.0,
        origins: Collection[str] = (),
        clock: Callable[[], float] = monotonic,
        buckets: Buckets | None = None,
    ) -> None:
        self._keys = keys
        self._asked_for = bool(keys)
        self._rate = rate
        self._origins = frozenset(origin.encode() for origin in origins)
        self._clock = clock
        self._buckets = buckets or Buckets()

    def check(self, headers: Mapping[bytes, bytes], path: str) -> Grant | None:
        """Let a request in; what its key allows. Raises `Unauthorized`, `Forbidden` or `RateLimited`."""
        admin = path.startswith(ADMIN)
        if admin and (origin := headers.get(b"origin")) is not None and origin not in self._origins:
            raise Forbidden("Web pages of other origins cannot load and unload models.")
        if not self._asked_for:
            return None
        grants = self._keys.current()
        try:
            key = _find(grants, _sent(headers, path))
        except Unauthorized as error:
            if path in PAGES and names_html(headers.get(b"accept")):
                error.challenge = _SIGN_IN
            raise
        grant = grants[key]
        try:
            rate = self._rate if grant.rate is None else grant.rate
            if rate and not path.startswith(PAGE_FILES):
                self._take(key, rate)
            if admin and grant.scope != "admin" and any(each.scope == "admin" for each in grants.values()):
                raise Forbidden("This key cannot load and unload models.")
            if grant.scope == "metrics" and (admin or path != METRICS):
                raise Forbidden(f"This key is for {METRICS} alone.")
        except (Forbidden, RateLimited) as error:
            error.key = grant.label
            raise
        return grant

    def check_socket(self, headers: Mapping[bytes, bytes], path: str) -> tuple[Grant | None, bool]:
        """Let a WebSocket in: what its key allows, and whether a key has to come in its opening message, since the
        scripts of a browser cannot send a header. Pages of other origins than `origins` and the service's own are kept
        out: no browser asks whether they may. Raises as `check` does."""
        origin = headers.get(b"origin")
        own = origin is not None and origin.partition(b"://")[2] == headers.get(b"host")
        if origin is not None and not own and not {origin, b"*"} & self._origins:
            raise Forbidden(
                "Web pages of this origin may not open streams; the setting cors_origins names those that may."
            )
        if self._asked_for and b"authorization" not in headers:
            return None, True
        return self.check(headers, path), False

    def admit(self, headers: Mapping[bytes, bytes], path: str, key: str | None) -> Grant | None:
        """Let in the key of an opening message. Raises as `check` does."""
        if key is None:
            raise Unauthorized('Send an API key: Authorization: Bearer KEY, or "key" in the opening message.')
        sent = {**headers, b"authorization": _BEARER + key.encode("utf-8", "replace")}
        return self.check(sent, path)

    def _take(self, key: bytes, rate: float) -> None:
        wait = self._buckets.take(key, rate, self._clock())
        if wait:
            raise RateLimited(f"This key may send {rate:g} requests a second.", retry_after=wait)


def _sent(headers: Mapping[bytes, bytes], path: str) -> bytes:
    """The key that came. Raises `Unauthorized`."""
    authorization = headers.get(b"authorization")
    if authorization is None:
        raise Unauthorized("Send an API key: Authorization: Bearer KEY.")
    if authorization[: len(_BEARER)].lower() == _BEARER:
        return authorization[len(_BEARER) :].strip()
    if authorization[: len(_BASIC)].lower() == _BASIC and _may_be_basic(headers, path):
        return _password(authorization[len(_BASIC) :])
    raise Unauthorized("The Authorization header has another scheme: Authorization: Bearer KEY.")


def _may_be_basic(headers: Mapping[bytes, bytes], path: str) -> bool:
    """A browser adds its password by itself, also to what pages of others ask: those get no further than the page."""
    if path in PAGES or path.startswith(PAGE_FILES):
        return True
    return not path.startswith(ADMIN) and headers.get(b"sec-fetch-site") in _OWN_SITE


def _password(credentials: bytes) -> bytes:
    """The password of Basic credentials, or the user's name where there is none; empty for what cannot be read."""
    try:
        user, _, password = base64.b64decode(credentials.strip(), validate=True).partition(b":")
    except binascii.Error:
        return b""
    return password or user


def _find(grants: Mapping[bytes, Grant], key: bytes) -> bytes:
    """The digest of a valid key. Raises `Unauthorized`."""
    sent = digest(key)
    # Every key is compared, each in constant time: how long it takes says nothing about the keys.
    matches = [each for each in grants if hmac.compare_digest(each, sent)]
    if not matches:
        raise Unauthorized("The API key is not valid.")
    return matches[0]
