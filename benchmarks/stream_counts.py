"""The counts in `/metrics` that must fall back once the clients of streams have gone: streams, bytes, connections."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress

import httpx

COUNTS = ("streams", "stream_waiting_bytes", "connections")
FALL_WITHIN = 60.0
"""Seconds in which the counts have to fall back: a worker learns of a client's end in its own time."""
_PAUSE = 0.1
_PATIENCE = 120.0


def counts(url: str) -> dict[str, float]:
    """The counts of the service at `url`, over all workers. Raises `httpx.HTTPError`, and `ValueError` if one is not
    there. The connection of the question itself counts too."""
    text = httpx.get(f"{url}/metrics", timeout=_PATIENCE).raise_for_status().text
    return {name: figure(text, name) for name in COUNTS}


def figure(text: str, name: str) -> float:
    """A figure without labels in the text of `/metrics`. Raises `ValueError` if it is not there."""
    for line in text.splitlines():
        if line.startswith(f"gatelight_{name} "):
            return float(line.split()[-1])
    raise ValueError(f"/metrics has no gatelight_{name}")


def left(url: str, before: Mapping[str, float], seconds: float = FALL_WITHIN) -> dict[str, float]:
    """Wait until no count is over that of before. Returns the excess of those that still are after `seconds`.

    A connection that fails is tried again: the worker that took it may have been killed. Raises `ValueError` if no
    question was answered.
    """
    limit, over = time.monotonic() + seconds, None
    while True:
        with suppress(httpx.HTTPError):
            now = counts(url)
            over = {name: now[name] - before[name] for name in COUNTS if now[name] > before[name]}
        if over == {}:
            return {}
        if time.monotonic() > limit:
            break
        time.sleep(_PAUSE)
    if over is None:
        raise ValueError(f"/metrics gave no answer within {seconds:g} seconds")
    return over


def told(over: Mapping[str, float]) -> str:
    """The counts that did not fall back, in words."""
    return ", ".join(f"{name} {excess:+g}" for name, excess in over.items()) or "none"
