"""A stream's state as text for its client: packed, and sealed with a key that only the service has.

The seal is HMAC-SHA256 over everything, so nobody without the key can make or change a state. It covers the model, its
version, its files, and the time of expiry. The state is not secret from the client, because it holds the client's own
text.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
import zlib
from dataclasses import dataclass

import orjson

from service.errors import InvalidField, TooLarge

MOST_BYTES = 16 * 1024
"""Limit on a sealed state, as text, of a model that needs at most `MODEL_BYTES` of it."""
MODEL_BYTES = 2048
"""An LSTM of 245 units and seven labels. The limit of a larger model is higher by its further bytes, as text."""
_MAC = 32
_PURPOSE = b"gatelight stream state 1\0"
_WRONG = "This is no state of this service, or it was changed, or it was sealed with another key (setting state_key)."


@dataclass(frozen=True, slots=True)
class Owner:
    """The model of a state: its name, its version, and the SHA-256 of its manifest, which covers all of its files."""

    name: str
    version: str
    digest: str

    def check(self, other: Owner) -> None:
        """Raises `InvalidField` if a state of this owner would continue with another."""
        if (self.name, self.version) != (other.name, other.version):
            raise InvalidField(
                "/state",
                f"The state is of {self.name!r}, version {self.version}; this is {other.name!r}, version "
                f"{other.version}. Send the text again from its beginning.",
            )
        if self.digest != other.digest:
            raise InvalidField(
                "/state",
                f"The state is of other files of {self.name!r}, version {self.version}, than are served now. Send the "
                "text again from its beginning.",
            )


class Seal:
    """Seals and opens states. Processes with the same `key` open each other's states. `seconds` is the lifetime of a
    state."""

    def __init__(self, key: bytes, seconds: float) -> None:
        self._key = hashlib.sha256(_PURPOSE + key).digest()
        self._seconds = seconds

    def close(self, owner: Owner, content: bytes, model_bytes: int = 0, now: float | None = None) -> str:
        """The sealed state: letters, digits, ``-`` and ``_``, without padding.

        Raises `TooLarge` for a state over the limit of a model that needs `model_bytes` of it.
        """
        until = (time.time() if now is None else now) + self._seconds
        head = orjson.dumps([owner.name, owner.version, owner.digest, until])
        body = zlib.compress(len(head).to_bytes(4, "big") + head + content, 1)
        sealed = _written(self._mac(body) + body).decode("ascii")
        most = MOST_BYTES + 4 * max(0, model_bytes - MODEL_BYTES) // 3  # base64 writes three bytes as four letters
        if len(sealed) > most:
            raise TooLarge("Characters of the stream's state", len(sealed), most)
        return sealed

    def open(self, sealed: str, now: float | None = None) -> tuple[Owner, bytes]:
        """The model and the bytes in a sealed state. Raises `InvalidField` if the string was not sealed with this key,
        or has expired."""
        try:
            raw = base64.b64decode(sealed + "=" * (-len(sealed) % 4), b"-_", validate=True)
        except (ValueError, binascii.Error):
            raise InvalidField("/state", _WRONG) from None
        body = raw[_MAC:]
        # The last character has unused bits, and the decoder takes more alphabets. Only the text that was sent is good.
        as_sent = hmac.compare_digest(_written(raw), sealed.encode("ascii"))
        if not (as_sent and hmac.compare_digest(raw[:_MAC], self._mac(body))):
            raise InvalidField("/state", _WRONG)
        packed = zlib.decompress(body)
        end = 4 + int.from_bytes(packed[:4], "big")
        name, version, digest, until = orjson.loads(packed[4:end])
        if until < (time.time() if now is None else now):
            raise InvalidField(
                "/state", f"The state is too old: one is good for {self._seconds:g} seconds (setting state_seconds)."
            )
        return Owner(name, version, digest), packed[end:]

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, "sha256")


def _written(raw: bytes) -> bytes:
    """A sealed state as text."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=")
