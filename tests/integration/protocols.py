"""Errors in the forms of the foreign protocols."""

from __future__ import annotations

import httpx

from service.http.schemas.responses import Problem


def error(response: httpx.Response, status: int) -> str:
    """Check that an answer is an error in the protocol's own form; its message."""
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/json"
    body = response.json()
    assert set(body) == {"error"}
    return str(body["error"])


def v1_error(response: httpx.Response, status: int) -> str:
    """Check that an answer is an error of `/v1`, a problem with the member `error`; its message."""
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    problem = Problem.model_validate_json(response.content)
    assert (problem.status, problem.request_id) == (status, response.headers["X-Request-ID"])
    assert problem.error == problem.detail
    return problem.detail
