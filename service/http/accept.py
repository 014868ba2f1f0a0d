"""The form of an answer by its request's ``Accept`` header, with weights (RFC 9110)."""

from __future__ import annotations

import re

from service.http.render import JSON

HTML = "text/html"
EVENT_STREAM = "text/event-stream"

_WEIGHT = re.compile(rb"\s*q\s*=\s*([01](?:\.\d{0,3})?)\s*")


def prefers(media_type: str, accept: bytes | None) -> bool:
    """True if the answer should have this media type, false for JSON, the default.

    A header that excludes both gets JSON, as for `/predict`. RFC 9110 allows it.
    """
    ranges = weights(accept)
    json, other = _weight(ranges, JSON), _weight(ranges, media_type)
    # At equal weight a client that names the other form gets it: clients add `*/*` by themselves.
    return other > json or (other == json > 0 and media_type.encode() in ranges)


def wants_index(accept: bytes | None) -> bool:
    """True if the client of ``/`` wants JSON instead of the page, the default."""
    ranges = weights(accept)
    return _weight(ranges, JSON) > _weight(ranges, HTML)


def names_html(accept: bytes | None) -> bool:
    """True for a browser: only browsers name HTML."""
    return HTML.encode() in weights(accept)


def weights(accept: bytes | None) -> dict[bytes, float]:
    """The entries of a preference header in lower case, with their weights; 1 if no weight is given."""
    return dict(_range(part) for part in (accept or b"").lower().split(b",") if part.strip())


def _range(part: bytes) -> tuple[bytes, float]:
    """A media range and its weight; 1 if the weight is missing or invalid."""
    name, *parameters = part.split(b";")
    weights = [match for match in map(_WEIGHT.fullmatch, parameters) if match]
    return name.strip(), float(weights[0][1]) if weights else 1.0


def _weight(ranges: dict[bytes, float], media_type: str) -> float:
    """The weight of the most specific range that matches a media type; 0 if none does."""
    for name in (media_type.encode(), media_type.partition("/")[0].encode() + b"/*", b"*/*"):
        if name in ranges:
            return min(1.0, ranges[name])
    return 0.0
