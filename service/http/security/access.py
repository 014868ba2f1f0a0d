"""Access: API keys, their scopes, and a rate limit for each of them.

Programs send a key as `Authorization: Bearer KEY`. A browser cannot, so it asks its user for the key and sends it as
the password of Basic authentication; the page's own requests then carry it.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable, Collection, Mapping
from time import monotonic

from service.errors import Forbidden, RateLimited, Unauthorized
from service.http.accept import names_html
from service.http.security.keys import Grant, Keys, digest
from service.serving.rates import Buckets

HEALTH = frozenset(("/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"))
"""Paths open without an API key and logged at level debug, because probes request them every few seconds."""
ADMIN = ("/admin/", "/v2/repository/models/")
"""Prefixes of the paths that change the served models."""
METRICS = "/metrics"

PAGES, PAGE_FILES = ("/", "/docs"), ("/page/", "/docs/page/")
"""The gate explorer and the API's page: files that are the same for everyone and cost nothing."""

_BEARER, _BASIC = b"bearer ", b"basic "
_SIGN_IN = {"WWW-Authenticate": 'Basic realm="Gatelight", charset="UTF-8"'}
_OWN_SITE = (None, b"same-origin", b"none")
"""`Sec-Fetch-Site` of requests by the service's own pages, by a person, and by programs and old browsers."""


class Access:
    """Accepts or rejects requests.

    A key has a bucket of `rate` requests (at least 1), which refills by `rate` a second; a rate of 0 means no limit.
    Without keys every request is accepted. If any admin key exists, admin routes require one; otherwise any valid key
    is accepted. Pages of origins outside `origins` never reach these routes, because a browser sends some requests
    without asking first, also to a service on its own machine.
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
        self.open = not keys
        """True if every request but those of admin routes is accepted."""
        self._rate = rate
        self._origins = frozenset(origin.encode() for origin in origins)
        self._clock = clock
        self._buckets = buckets or Buckets()

    def check(self, headers: Mapping[bytes, bytes], path: str) -> Grant | None:
        """Accept a request. Returns the rights of its key. Raises `Unauthorized`, `Forbidden` or `RateLimited`."""
        admin = path.startswith(ADMIN)
        if admin and (origin := headers.get(b"origin")) is not None and origin not in self._origins:
            raise Forbidden("Web pages of other origins cannot load and unload models.")
        if self.open:
            return None
        grants = self._keys.current()
        try:
            key = _find(grants, _sent(headers, path))
        except Unauthorized as error:
            if path in PAGES and names_html(headers.get(b"accept")):
                error.headers = _SIGN_IN
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
        """Accept a WebSocket. Returns the rights of its key, and whether its opening message must bring a key.

        A browser's scripts cannot send the key in a header. Pages of origins outside `origins` and the service's own
        are rejected here, because no browser asks first. Raises the errors of `check`.
        """
        origin = headers.get(b"origin")
        own = origin is not None and origin.partition(b"://")[2] == headers.get(b"host")
        if origin is not None and not own and not {origin, b"*"} & self._origins:
            raise Forbidden(
                "Web pages of this origin may not open streams; the setting cors_origins names those that may."
            )
        if not self.open and b"authorization" not in headers:
            return None, True
        return self.check(headers, path), False

    def admit(self, headers: Mapping[bytes, bytes], path: str, key: str | None) -> Grant | None:
        """Accept the key of an opening message. Raises the errors of `check`."""
        if key is None:
            raise Unauthorized('Send an API key: Authorization: Bearer KEY, or "key" in the opening message.')
        sent = {**headers, b"authorization": _BEARER + key.encode("utf-8", "replace")}
        return self.check(sent, path)

    def _take(self, key: bytes, rate: float) -> None:
        wait = self._buckets.take(key, rate, self._clock())
        if wait:
            raise RateLimited(f"This key may send {rate:g} requests a second.", retry_after=wait)


def _sent(headers: Mapping[bytes, bytes], path: str) -> bytes:
    """The key of a request. Raises `Unauthorized`."""
    authorization = headers.get(b"authorization")
    if authorization is None:
        raise Unauthorized("Send an API key: Authorization: Bearer KEY.")
    if authorization[: len(_BEARER)].lower() == _BEARER:
        return authorization[len(_BEARER) :].strip()
    if authorization[: len(_BASIC)].lower() == _BASIC and _may_be_basic(headers, path):
        return _password(authorization[len(_BASIC) :])
    raise Unauthorized("The Authorization header has another scheme: Authorization: Bearer KEY.")


def _may_be_basic(headers: Mapping[bytes, bytes], path: str) -> bool:
    """True if Basic authentication counts. A browser adds it by itself, also to requests of foreign pages; those may
    only get the page."""
    if path in PAGES or path.startswith(PAGE_FILES):
        return True
    return not path.startswith(ADMIN) and headers.get(b"sec-fetch-site") in _OWN_SITE


def _password(credentials: bytes) -> bytes:
    """The password of Basic credentials, or the user name if there is none; empty if they are invalid."""
    try:
        user, _, password = base64.b64decode(credentials.strip(), validate=True).partition(b":")
    except binascii.Error:
        return b""
    return password or user


def _find(grants: Mapping[bytes, Grant], key: bytes) -> bytes:
    """The digest of a valid key. Raises `Unauthorized`."""
    sent = digest(key)
    # Every key is compared in constant time, so that the time reveals nothing about the keys.
    matches = [each for each in grants if hmac.compare_digest(each, sent)]
    if not matches:
        raise Unauthorized("The API key is not valid.")
    return matches[0]
