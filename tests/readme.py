"""Answers and tables of the README and of two pages, made by the service and from the bundles.

`python -m tests.readme URL` writes them.

Every ``sh`` block that calls curl is followed by a ``json`` block with its answer; each table stands between two
comments. `tests/integration/test_readme.py` holds the documents to what the service says today.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from service.model import bundle as bundles

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
DOCUMENTS = (README, ROOT / "docs" / "how-to" / "ask.md", ROOT / "docs" / "models.md")
RESULTS = ROOT / "benchmarks" / "results.json"
_CALL = re.compile(r"```sh\n(curl [^`]*?)```\n\n```json\n(.*?)```", re.DOTALL)
_TABLES = re.compile(r"<!-- (models|field) -->\n(.*?)<!-- /\1 -->", re.DOTALL)
_FLAT = re.compile(r"\[[^\[\]{}]*\]|\{[^\[\]{}]*\}")
LINE = 140
FIGURES = 7
"""Of a model in the table, at most; its card has all."""


@dataclass(frozen=True, slots=True)
class Call:
    """One curl line of a document, and the answer that stands below it."""

    command: str
    shown: str

    def run(self, client: httpx.Client) -> Any:
        words = shlex.split(self.command.replace("\\\n", " "))
        url = next(word for word in words if word.startswith("http"))
        if "-d" not in words:
            return client.get(urlsplit(url).path).raise_for_status().json()
        body = words[words.index("-d") + 1]
        headers = {"content-type": "application/json"}
        return client.post(urlsplit(url).path, content=body.encode(), headers=headers).raise_for_status().json()


def calls(text: str) -> Iterator[Call]:
    for command, shown in _CALL.findall(text):
        yield Call(command, shown)


def pretty(answer: object) -> str:
    """JSON, indented, with lists and objects of plain values on one line where they fit."""
    return _FLAT.sub(_on_one_line, json.dumps(answer, indent=2, ensure_ascii=False))


def _on_one_line(found: re.Match[str]) -> str:
    line = re.sub(r"\s*\n\s*", " ", found[0])
    line = f"{line[0]}{line[1:-1].strip()}{line[-1]}"
    return line if len(line) <= LINE else found[0]


def models() -> str:
    """The models that ship and their figures, as the manifests have them."""
    rows = ["| model | cell | figures |", "| --- | --- | --- |"]
    for name, versions in bundles.discover(ROOT / "models"):
        if name.startswith("my-"):
            continue
        manifest = bundles.load(ROOT / "models" / name / str(versions[-1])).manifest
        wanted = {"sentiment": "accuracy", "ner": "f1"}[manifest.task]
        figures = [
            f"{score.data} {'F1' if wanted == 'f1' else 'accuracy'} {100 * score.value:.1f}"
            for score in manifest.quality
            if score.metric == wanted
        ]
        shown = ", ".join(figures[:FIGURES]) + (", more in its card" if len(figures) > FIGURES else "")
        ways = {1: "one direction", 2: "two directions"}[len(manifest.directions)]
        form = f"{manifest.peepholes} peepholes, " if manifest.peepholes == "full" else ""
        window = f", a window of {manifest.window_words} words" if manifest.window_words > 1 else ""
        rows.append(f"| `{name}` | {manifest.cell}, {form}{ways}{window}, {manifest.hidden} units | {shown} |")
    return "\n".join(rows) + "\n"


def field() -> str:
    """Requests a second beside what else one could take, as `make bench` last wrote them: the ratio, and the rate."""
    found: dict[str, dict[str, str]] = {}
    for row in json.loads(RESULTS.read_text("utf-8"))["field"]["rows"]:
        if row["measure"] == "requests/s":
            case, server = row["case"].split(": ", 1)
            found.setdefault(server, {})[case] = f"{row['ratio']:,.1f} ({row['subject']:,.0f}/s)"
    cases = list(next(iter(found.values())))
    rows = [f"| server | {' | '.join(cases)} |", f"| --- |{' ---: |' * len(cases)}"]
    rows += [f"| {server} | {' | '.join(rates[case] for case in cases)} |" for server, rates in found.items()]
    return "\n".join(rows) + "\n"


TABLES = {"models": models, "field": field}
"""What makes each table."""


def rewritten(text: str, client: httpx.Client) -> str:
    """A document with the answers and the tables of today."""

    def answered(found: re.Match[str]) -> str:
        return found[0].replace(found[2], pretty(Call(found[1], found[2]).run(client)) + "\n")

    text = _CALL.sub(answered, text)
    return _TABLES.sub(lambda found: f"<!-- {found[1]} -->\n{TABLES[found[1]]()}<!-- /{found[1]} -->", text)


def shown_tables(text: str) -> dict[str, str]:
    """By its name, what stands in each table's place."""
    return dict(_TABLES.findall(text))


if __name__ == "__main__":
    with httpx.Client(base_url=sys.argv[1], timeout=60) as service:
        for document in DOCUMENTS:
            document.write_text(rewritten(document.read_text(encoding="utf-8"), service), encoding="utf-8")
