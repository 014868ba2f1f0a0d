"""What the two foreign protocols have in common."""

from __future__ import annotations

import httpx


def error(response: httpx.Response, status: int) -> str:
    """Check that an answer is an error in the protocol's own form; its message."""
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/json"
    body = response.json()
    assert set(body) == {"error"}
    return str(body["error"])
