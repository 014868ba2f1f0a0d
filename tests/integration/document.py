"""Holds answers against the API document: the status, the headers and the body of each."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import httpx
import jsonschema_rs

from docs.interface import whole_document
from service.http.problems import Form, form_of

_EVERYWHERE = {
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "access-control-max-age",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-security-policy",
    "content-type",
    "cross-origin-opener-policy",
    "date",
    "etag",
    "referrer-policy",
    "strict-transport-security",
    "transfer-encoding",
    "vary",
    "x-content-type-options",
}
"""Headers of HTTP itself and of its safety, which every answer may have."""
_WITHOUT_A_ROUTE = {400, 401, 403, 404, 405, 408, 429, 431, 500, 503}
"""What a request can be answered of which no route is known."""
_MOST_BYTES = 4 << 20
"""Bodies that are larger are not looked into."""

document = cache(whole_document)


def check(response: httpx.Response) -> None:
    """Raises `AssertionError` for an answer of the service that is not in its API document. The body may be unread."""
    request = response.request
    if "x-request-id" not in response.headers or request.method == "OPTIONS":
        return  # of another server, or a browser's question before its question
    path = request.url.path.rstrip("/") or "/"
    said = f"{request.method} {path}: {response.status_code}"
    body = response.content if response.is_stream_consumed else None
    media_type = response.headers.get("content-type", "").partition(";")[0]
    described = _described(request.method, path, response, body)
    names = {name.lower(): _resolved(header) for name, header in described.get("headers", {}).items()}
    unknown = set(response.headers) - set(names) - _EVERYWHERE
    assert not unknown, f"{said} has headers that the document does not have: {unknown}"
    missing = {name for name, header in names.items() if header.get("required")} - set(response.headers)
    assert not missing, f"{said} lacks headers of the document: {missing}"
    if request.method == "HEAD" or not body:
        return
    content = described.get("content", {})
    assert media_type in content, f"{said} is {media_type}, the document has {list(content)}"
    if media_type.endswith("json") and len(body) < _MOST_BYTES and "schema" in content[media_type]:
        _validator(json.dumps(content[media_type]["schema"])).validate(response.json())


def _described(method: str, path: str, response: httpx.Response, body: bytes | None) -> dict[str, Any]:
    """What the document has for an answer's status."""
    status, components = response.status_code, document()["components"]["responses"]
    form = form_of(method, path)
    foreign = form is Form.PROTOCOL
    slug = "protocol-error" if foreign else ""
    if status >= 400 and not foreign and body and method != "HEAD":
        problem = response.json()
        assert problem.get("error") == (problem["detail"] if form is Form.EXTENDED else None)
        slug = problem["type"].rpartition("/")[2]
        assert components[slug]["content"]["application/problem+json"]["example"]["status"] == status
    operation = _operation("GET" if method == "HEAD" else method, path)
    unrouted = slug == "route-not-found" or (foreign and b"There is no route" in (body or b"")) or status == 405
    if operation is None or unrouted:
        assert status in _WITHOUT_A_ROUTE, f"{method} {path}: {status}"
    else:
        responses = operation["responses"]
        assert str(status) in responses, f"{method} {path} answers {status}, the document has {list(responses)}"
        if status < 400 or not slug:
            return _resolved(responses[str(status)])
    if slug:
        return components[slug]
    headers = {name: header for component in components.values() for name, header in component["headers"].items()}
    return {"headers": {name: {**_resolved(header), "required": False} for name, header in headers.items()}}


def _operation(method: str, path: str) -> dict[str, Any] | None:
    """The operation of the most literal path that matches."""
    paths = document()["paths"]
    found = [template for template in paths if method.lower() in paths[template] and _pattern(template).fullmatch(path)]
    return paths[min(found, key=lambda template: template.count("{"))][method.lower()] if found else None


@cache
def _pattern(template: str) -> re.Pattern[str]:
    inside = ".*" if template.endswith("{path}") else "[^/]+"
    return re.compile(re.sub(r"\\{\w+\\}", inside, re.escape(template)))


def _resolved(part: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in part:
        found: Any = document()
        for step in part["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        part = found
    return part


@cache
def _validator(schema: str) -> Any:
    return jsonschema_rs.Draft202012Validator({**json.loads(schema), "components": document()["components"]})
