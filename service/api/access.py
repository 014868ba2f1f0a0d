"""Who may ask, and how often: API keys, and a rate for each of them."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable
from time import monotonic

from service.errors import RateLimited, Unauthorized

_SCHEME = b"bearer "


class Access:
    """The API keys, and how many requests each has left.

    A key has a bucket of `rate` requests (1 at least), which refills by `rate` a second; 0 for no limit. Without keys
    everyone may ask, as often as they like.
    """

    def __init__(self, keys: Iterable[str], rate: float, clock: Callable[[], float] = monotonic) -> None:
        self._digests = tuple(_digest(key.encode()) for key in keys)
        self._rate = rate
        self._capacity = max(1.0, rate)
        self._clock = clock
        self._buckets = {digest: (self._capacity, clock()) for digest in self._digests}

    def check(self, authorization: bytes | None) -> None:
        """Let a request with this ``Authorization`` header in. Raises `Unauthorized` or `RateLimited`."""
        if not self._digests:
            return
        key = self._key(authorization)
        if self._rate:
            self._take(key)

    def _key(self, authorization: bytes | None) -> bytes:
        """The digest of the valid key that came."""
        if authorization is None:
            raise Unauthorized("Send an API key: Authorization: Bearer KEY.")
        if not authorization[: len(_SCHEME)].lower() == _SCHEME:
            raise Unauthorized("The Authorization header has another scheme: Authorization: Bearer KEY.")
        sent = _digest(authorization[len(_SCHEME) :].strip())
        # Every key is compared, each in constant time: how long it takes says nothing about the keys.
        matches = [digest for digest in self._digests if hmac.compare_digest(digest, sent)]
        if not matches:
            raise Unauthorized("The API key is not valid.")
        return matches[0]

    def _take(self, key: bytes) -> None:
        left, then = self._buckets[key]
        now = self._clock()
        left = min(self._capacity, left + (now - then) * self._rate)
        if left < 1:
            self._buckets[key] = (left, now)
            raise RateLimited(
                f"This key may send {self._rate:g} requests a second.", retry_after=(1 - left) / self._rate
            )
        self._buckets[key] = (left - 1, now)


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
