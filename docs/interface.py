"""The reference page of the HTTP interface: the routes and fields of the API document, in tables."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from docs.tables import code, page, table
from service import settings
from service.http.app import create_app
from service.http.described import MESSAGES

_Json = dict[str, Any]
_SCHEMAS = "#/components/schemas/"
_BOUNDS = (
    ("minimum", "maximum", "exclusiveMinimum", ""),
    ("minLength", "maxLength", "", " characters"),
    ("minItems", "maxItems", "", " items"),
)
"""For numbers, texts and lists: the words of JSON Schema for the least, the most, and what is more than the least."""


def http_page() -> str:
    """Every route, with those for administrators, and every field of what is sent and answered."""
    built = whole_document()
    schemas = built["components"]["schemas"]
    routes = [
        [f"`{method.upper()} {path}`", operation["summary"], _bodies(operation), ", ".join(operation["responses"])]
        for path, operations in built["paths"].items()
        for method, operation in operations.items()
    ]
    headers = [
        [code(header["name"]), _kind(header["schema"]), header["description"]]
        for header in built["components"]["parameters"].values()
    ]
    return page(
        "HTTP",
        "What `GET /openapi.json` says, in tables; there each route has examples too. Routes below `/admin`, and those "
        "that load and unload below `/v2`, are there with `--admin`. Bodies are JSON; `/gates` also answers in "
        "safetensors. What the statuses mean is told under [errors](errors.md).",
        "## Routes",
        table(["route", "what it does", "takes and answers", "statuses"], routes),
        "## Headers",
        "Requests may have these, and every answer has `X-Request-ID`.",
        table(["header", "type", "meaning"], headers),
        "## Fields",
        "What is required has to be sent; in an answer it is always there. What has a default may be left out.",
        *(part for name in _in_order(built, schemas) for part in _fields(name, schemas[name])),
    )


def whole_document() -> _Json:
    """The API document of a service that has every route and asks for keys."""
    return create_app(settings.read({"admin": True, "api_keys": "a-key-of-the-docs"}, _env_file=None)).openapi()


def _bodies(operation: _Json) -> str:
    """The names of what a route takes, and of what it answers when all goes well."""
    good = next(each for status, each in operation["responses"].items() if status < "300")
    messages = operation.get(MESSAGES, {})
    bodies = [
        operation.get("requestBody", {}).get("content", messages.get("sent", {})),
        good.get("content", messages.get("answered", {})),
    ]
    found = [list(_references(body)) for body in bodies]
    return " → ".join(", ".join(map(_link, dict.fromkeys(names))) for names in found if names)


def _in_order(built: _Json, schemas: _Json) -> list[str]:
    """The schemas, as the routes come to them: each followed by those that it holds."""
    found: dict[str, None] = {}

    def visit(part: object) -> None:
        for name in _references(part):
            if name not in found:
                found[name] = None
                visit(schemas[name])

    for operation in (each for operations in built["paths"].values() for each in operations.values()):
        visit(operation.get("requestBody"))
        visit(operation["responses"])
        visit(operation.get(MESSAGES))
    visit(built["components"]["responses"])
    return list(found)


def _references(part: object) -> Iterator[str]:
    """The names of the schemas that a part of the document refers to."""
    if isinstance(part, dict):
        for key, value in part.items():
            if key == "$ref" and value.startswith(_SCHEMAS):
                yield value.removeprefix(_SCHEMAS)
            else:
                yield from _references(value)
    elif isinstance(part, list):
        for value in part:
            yield from _references(value)


def _fields(name: str, schema: _Json) -> tuple[str, str, str]:
    rows = [
        [code(field), _kind(each), _default(field, each, schema), each.get("description", "")]
        for field, each in schema["properties"].items()
    ]
    heading = f"### {name}"
    return heading, schema.get("description", ""), table(["field", "type", "default", "meaning"], rows)


def _default(field: str, each: _Json, schema: _Json) -> str:
    if field in schema.get("required", ()):
        return "required"
    return code(json.dumps(each["default"])) if "default" in each else ""


def _kind(schema: _Json) -> str:
    """A type in words, with its bounds."""
    if "$ref" in schema:
        return _link(schema["$ref"].removeprefix(_SCHEMAS))
    if "anyOf" in schema:
        return " or ".join(map(_kind, schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return " or ".join(code(json.dumps(value)) for value in schema.get("enum", [schema.get("const")]))
    kind = str(schema.get("type", "anything"))
    if kind == "array":
        kind = f"list of {_inner(schema['items'])}"
    elif isinstance(schema.get("additionalProperties"), dict):
        kind = f"object of {_inner(schema['additionalProperties'])}"
    bounds = [words for names in _BOUNDS if (words := _bounds(schema, *names))]
    if bounds and bounds[0].startswith("at least 1 "):
        return f"non-empty {kind}"
    return f"{kind} ({bounds[0]})" if bounds else kind


def _inner(schema: _Json) -> str:
    kind = _kind(schema)
    return f"({kind})" if " or " in kind else kind


def _bounds(schema: _Json, least: str, most: str, over: str, what: str) -> str:
    """Bounds in words, such as `0 to 1` or `at most 256 characters`; none where a schema has none."""
    if over in schema:
        return f"over {_number(schema[over])}{what}"
    if least in schema and most in schema:
        both = [_number(schema[least]), _number(schema[most])]
        return f"exactly {both[0]}" if both[0] == both[1] else " to ".join(both) + what
    found = [(words, schema[name]) for words, name in (("at least", least), ("at most", most)) if name in schema]
    return "".join(f"{words} {_number(bound)}{what}" for words, bound in found)


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:g}"


def _link(name: str) -> str:
    return f"[{name}](#{name.lower()})"
