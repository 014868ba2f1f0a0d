"""The reference pages that are made of the code: HTTP, settings, metrics, commands, errors and gates.

`python -m docs.generated NAME` prints one.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator
from inspect import cleandoc
from typing import get_args

import click
from pydantic import SecretStr

from docs.interface import http_page
from docs.tables import code, page, table
from service import settings as configuration
from service.__main__ import main as service
from service.commands.console import EXITS
from service.errors import RequestError
from service.model.equations import CellName, Form, GruReset, gates
from service.observability.metrics import DERIVED, FAMILIES, PREFIX
from service.settings import Settings
from training.cli import PREFIX as PREFIX_OF_TRAINING
from training.cli import app as training

PROGRAMS: dict[str, tuple[click.Group, str | None]] = {
    "python -m service": (service, None),
    "python -m training": (training, PREFIX_OF_TRAINING),
}
"""The programs, and what their options' variables begin with by themselves."""
_FACTS = re.compile(r"  \[([^\[\]]+)\]$")


def settings_page() -> str:
    rows = []
    for name, field in Settings.model_fields.items():
        default = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
        shown = "" if default is None else str(default).lower() if isinstance(default, bool) else str(default)
        rows.append(
            [
                f"`{configuration.flag(name)}`",
                f"`{configuration.variable(name)}`",
                f"`{shown}`" if shown else "none",
                field.description or "",
            ]
        )
    return page(
        "Settings",
        "Every setting of the service is a flag of `python -m service serve`, an environment variable, and a line that "
        "a file `.env` can hold. Flags go before variables, variables before the file.",
        table(["flag", "variable", "default", "what it sets"], rows),
    )


def metrics_page() -> str:
    rows = [
        [f"`{PREFIX}{each.name}`", each.kind, ", ".join(f"`{label}`" for label in each.labels) or "none", each.help]
        for each in (*FAMILIES, *DERIVED)
    ]
    return page(
        "Metrics",
        "`GET /metrics` answers in Prometheus's text format, summed over all worker processes. Labels never hold what "
        "a client wrote.",
        table(["metric", "kind", "labels", "what it counts"], rows),
    )


def errors_page() -> str:
    kinds = sorted(_subclasses(RequestError), key=lambda kind: (kind.status, kind.slug))
    rows = [[str(kind.status), f"`{kind.slug}`", kind.title] for kind in kinds]
    rows.append([str(RequestError.status), f"`{RequestError.slug}`", RequestError.title])
    unique = [list(row) for row in dict.fromkeys(map(tuple, rows))]
    exits = [[str(status), meaning] for status, meaning in EXITS.items()]
    return page(
        "Errors",
        "Errors of the service are `application/problem+json` (RFC 9457): `type` ends in the name below, `detail` says "
        "what was wrong and what would be right, `errors` has a JSON pointer for each wrong field, and the log has the "
        "request under `request_id`. Below `/v1` a member `error` has the text of `detail` again. Below `/v2` and at "
        '`POST /models/{name}` the same statuses come as `{"error": "…"}`, the form of those protocols. `Retry-After` '
        "stands on every 429 and 503.",
        table(["status", "name", "meaning"], sorted(unique)),
        "## Exit statuses of the commands",
        table(["status", "meaning"], exits),
    )


_FORMS: dict[CellName, dict[Form | None, str]] = {
    "gru": {reset: f"gru, reset {reset} the recurrent product" for reset in get_args(GruReset)},
    "peephole": {"diagonal": "peephole, diagonal", "full": "peephole, full matrices"},
}


def gates_page() -> str:
    parts = []
    for cell in get_args(CellName):
        for form, title in _FORMS.get(cell, {None: cell}).items():
            rows = [
                [f"`{gate.name}`", f"`{gate.equation}`", f"{_bound(gate.low)} to {_bound(gate.high)}"]
                for gate in gates(cell, form)
            ]
            parts += [f"## {title}", table(["gate", "equation", "range"], rows)]
    return page(
        "Gates",
        "What `/gates` calls each activation of a cell. `x_t` is the input at step t, `h` the hidden state, `C` the "
        "cell state, `*` element-wise, `W [h_{t-1}, x_t]` a matrix times the concatenation. Row t of every array "
        "belongs to token t, in both directions, and the numbers obey these equations.",
        *parts,
    )


def commands_page() -> str:
    parts = []
    for program, (group, prefix) in PROGRAMS.items():
        context = group.context_class(group, info_name=program, auto_envvar_prefix=prefix, **group.context_settings)
        parts += [f"## `{program}`", _help(group), _parameters(group, context)]
        for name in group.list_commands(context):
            command = group.commands[name]
            inner = command.context_class(command, info_name=name, parent=context)
            parts += [f"### `{program} {name}`", _help(command), _parameters(command, inner)]
            for below, one in command.commands.items() if isinstance(command, click.Group) else ():
                at = one.context_class(one, info_name=below, parent=inner)
                parts += [f"#### `{program} {name} {below}`", _help(one), _parameters(one, at)]
    return page(
        "Commands",
        "Each command prints this with `--help`. A flag goes before its environment variable.",
        *parts,
    )


def _help(command: click.Command) -> str:
    """A command's help; what stands under a ``\\b`` is an example, as it is."""
    lines: list[str] = []
    example = False
    for line in cleandoc(command.help or "").splitlines():
        if line.strip() == "\b":
            example = True
            lines.append("```text")
        elif example and not line.strip():
            example = False
            lines += ["```", ""]
        else:
            lines.append(line.strip() if example else line)
    return "\n".join([*lines, "```"] if example else lines)


def _parameters(command: click.Command, context: click.Context) -> str:
    rows = [_row(each, *record) for each in command.params if (record := each.get_help_record(context))]
    return table(["option", "default", "variable", "meaning"], rows) if rows else ""


def _row(parameter: click.Parameter, names: str, text: str) -> list[str]:
    """A row for an option or argument of `--help`: its names, and its meaning with facts in brackets."""
    found = _FACTS.search(text)
    facts = found[1].split("; ") if found else []
    named = dict(fact.split(": ", 1) for fact in facts if ": " in fact)
    default = "required" if parameter.required else code(named.get("default", ""))
    bounds = "".join(f" ({fact})" for fact in facts if ": " not in fact and fact != "required")
    meaning = (text[: found.start()] if found else text) + bounds
    return [code(names), default, code(named.get("env var") or named.get("env", "")), meaning]


def _subclasses(kind: type[RequestError]) -> Iterator[type[RequestError]]:
    for each in kind.__subclasses__():
        if each.__module__ == "service.errors":
            yield each
            yield from _subclasses(each)


def _bound(value: float) -> str:
    return {float("inf"): "∞", float("-inf"): "-∞"}.get(value, f"{value:g}")


PAGES: dict[str, Callable[[], str]] = {
    "http": http_page,
    "settings": settings_page,
    "metrics": metrics_page,
    "commands": commands_page,
    "errors": errors_page,
    "gates": gates_page,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m docs.generated", description="Print a reference page in Markdown.")
    parser.add_argument("name", choices=PAGES, metavar="NAME", help=", ".join(PAGES))
    print(PAGES[parser.parse_args().name](), end="")
