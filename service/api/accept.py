"""Which of the two forms of a trace a client wants: its ``Accept`` header, weights included (RFC 9110)."""

from __future__ import annotations

import re

from service.api.render import JSON, SAFETENSORS

_WEIGHT = re.compile(rb"\s*q\s*=\s*([01](?:\.\d{0,3})?)\s*")


def wants_safetensors(accept: bytes | None) -> bool:
    """Whether the answer is to be safetensors rather than JSON, the default.

    A header that excludes both gets JSON all the same, as `/predict` does: RFC 9110 allows it.
    """
    if accept is None or not accept.strip():
        return False
    ranges = dict(_range(part) for part in accept.lower().split(b",") if part.strip())
    json, safetensors = _weight(ranges, JSON), _weight(ranges, SAFETENSORS)
    # At equal weight whoever names the binary form wants it: `*/*` is what clients add by themselves.
    return safetensors > json or (safetensors == json > 0 and SAFETENSORS.encode() in ranges)


def _range(part: bytes) -> tuple[bytes, float]:
    """A media range and its weight, 1 where none is given or it cannot be read."""
    name, *parameters = part.split(b";")
    weights = [match for match in map(_WEIGHT.fullmatch, parameters) if match]
    return name.strip(), float(weights[0][1]) if weights else 1.0


def _weight(ranges: dict[bytes, float], media_type: str) -> float:
    """The weight of the most specific range that takes a media type; 0 where none does."""
    for name in (media_type.encode(), b"application/*", b"*/*"):
        if name in ranges:
            return min(1.0, ranges[name])
    return 0.0
