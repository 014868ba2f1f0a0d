"""Who may ask for what, and how often: API keys, their scopes, and a rate for each of them."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection, Mapping
from time import monotonic

from service.api.keys import Grant, Keys, digest
from service.errors import Forbidden, RateLimited, Unauthorized

ADMIN = ("/admin/", "/v2/repository/models/")
"""How the paths begin that change what is served."""
METRICS = "/metrics"

_SCHEME = b"bearer "


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
    ) -> None:
        self._keys = keys
        self._asked_for = bool(keys)
        self._rate = rate
        self._origins = frozenset(origin.encode() for origin in origins)
        self._clock = clock
        self._buckets: dict[bytes, tuple[float, float]] = {}
        """Of each key that came: requests left, and when that was so."""

    def check(self, headers: Mapping[bytes, bytes], path: str) -> Grant | None:
        """Let a request in; what its key allows. Raises `Unauthorized`, `Forbidden` or `RateLimited`."""
        admin = path.startswith(ADMIN)
        if admin and (origin := headers.get(b"origin")) is not None and origin not in self._origins:
            raise Forbidden("Web pages of other origins cannot load and unload models.")
        if not self._asked_for:
            return None
        grants = self._keys.current()
        key = _find(grants, headers.get(b"authorization"))
        grant = grants[key]
        if rate := self._rate if grant.rate is None else grant.rate:
            self._take(key, rate)
        if admin and grant.scope != "admin" and any(each.scope == "admin" for each in grants.values()):
            raise Forbidden("This key cannot load and unload models.")
        if grant.scope == "metrics" and (admin or path != METRICS):
            raise Forbidden(f"This key is for {METRICS} alone.")
        return grant

    def _take(self, key: bytes, rate: float) -> None:
        now, capacity = self._clock(), max(1.0, rate)
        if len(self._buckets) > 2 * len(self._keys.current()) + 16:  # of keys that have gone, for the most part
            self._buckets.clear()
        left, then = self._buckets.get(key, (capacity, now))
        left = min(capacity, left + (now - then) * rate)
        if left < 1:
            self._buckets[key] = (left, now)
            raise RateLimited(f"This key may send {rate:g} requests a second.", retry_after=(1 - left) / rate)
        self._buckets[key] = (left - 1, now)


def _find(grants: Mapping[bytes, Grant], authorization: bytes | None) -> bytes:
    """The digest of the valid key that came. Raises `Unauthorized`."""
    if authorization is None:
        raise Unauthorized("Send an API key: Authorization: Bearer KEY.")
    if not authorization[: len(_SCHEME)].lower() == _SCHEME:
        raise Unauthorized("The Authorization header has another scheme: Authorization: Bearer KEY.")
    sent = digest(authorization[len(_SCHEME) :].strip())
    # Every key is compared, each in constant time: how long it takes says nothing about the keys.
    matches = [each for each in grants if hmac.compare_digest(each, sent)]
    if not matches:
        raise Unauthorized("The API key is not valid.")
    return matches[0]
