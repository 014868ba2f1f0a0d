"""``training units`` and ``training find``: a card for each unit, and a search for places with similar activations."""

from __future__ import annotations

import json as json_lines
import re
from collections.abc import Sequence
from pathlib import Path

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from service.errors import InvalidField
from service.model.bundle import UNITS, Manifest
from service.model.equations import gate_names
from service.model.unit_cards import MAX_PLACES, Cards, card, keys
from training.commands.console import PATH, console, json_option, model_argument, note, opened, option, seed_option
from training.commands.options import takes
from training.export.writing import replace_manifest
from training.limits import names_fit
from training.options import Columns
from training.scoring.evaluate import Subject
from training.studies.units import Texts, activations, cards
from training.studies.units import find as search
from training.terminal import show

_SHOWN = 12
_AROUND = 6
"""Tokens of a text that are shown on either side of a place."""


@click.command()
@model_argument
@option("--data", type=PATH, required=True, help="File of labelled data for the places: a dev set.")
@option("--places", type=click.IntRange(1, MAX_PLACES), default=4, help="Places for each unit.")
@option(
    "--most", type=click.IntRange(1), default=200, help="Number of random inputs that measure the loss without a unit."
)
@seed_option(default=1, help="Seed of the random inputs.")
@json_option
@takes(Columns)
def units(columns: Columns, model: Path, data: Path, places: int, most: int, seed: int, json: bool) -> None:
    """Make a card for each unit of a bundle, and write the cards into the bundle.

    A card lists the tokens of the file with the unit's hidden state farthest from 0. It also has the loss while that
    state is held at 0: probability of the predicted labels, accuracy or entities' F1, and the share of answers that
    change. A card names lines and tokens, and the file by its SHA-256. It stores no text. The explorer shows the texts
    if the reader has the file.
    """
    names_fit([data])
    found = opened(model, to_write=True)
    subject = Subject(found)
    texts = Texts.read(subject, data, columns.layout, note)
    count = found.manifest.hidden * len(keys(found.manifest))
    shown = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*shown, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("units", total=count)
        made = cards(subject, texts, places, most, seed, lambda done: bar.update(task, completed=done))
    written = replace_manifest(found, found.manifest, {UNITS: made.model_dump_json(exclude_none=True).encode()})
    told = f"{written.name} version {written.version}: cards of {count:,} units on {made.data}"
    if json:
        for layer in made.layers:
            for unit in range(found.manifest.hidden):
                one = card(found.manifest, subject.engine.head_weight, made, layer.layer, layer.direction, unit)
                print(json_lines.dumps({"model": written.name, "version": str(written.version), **one}))
    else:
        _print(told, found.manifest, made)


def _print(title: str, manifest: Manifest, made: Cards) -> None:
    """The units whose loss costs most."""
    rows = [(layer.lost[unit], layer, unit) for layer in made.layers for unit in range(manifest.hidden)]
    rows.sort(key=lambda row: row[0], reverse=True)
    caption = f"the {_SHOWN} that cost most; {made.metric} {made.score:.4f} with all units, over {made.ablated} inputs"
    table = Table(
        "layer",
        "direction",
        "unit",
        "probability lost",
        f"{made.metric} lost",
        "answers changed",
        "places",
        title=title,
    )
    table.caption = caption
    for lost, layer, unit in rows[:_SHOWN]:
        measured = (f"{layer.cost[unit]:+.4f}", f"{layer.changed[unit]:.1%}")
        places = " ".join(f"{line}:{token}" for line, token, _ in layer.places[unit])
        table.add_row(str(layer.layer), layer.direction, str(unit), f"{lost:+.4f}", *measured, places)
    show(table)


@click.command()
@model_argument
@option("--data", type=PATH, required=True, help="File of labelled data to search.")
@option("--text", required=True, help="Text with the activations to look for.")
@option("--tokens", required=True, metavar="N or N-M", help="Tokens of that text, from 0.")
@option("--units", "chosen", required=True, metavar="LIST", help="Units, such as 3,17 or 0-15.")
@option("--gate", default="hidden", help="Gate, or state.")
@option("--layer", type=click.IntRange(0), default=0, help="Layer, from 0.")
@option("--direction", type=click.Choice(["forward", "backward"]), default="forward", help="Direction.")
@option("--count", type=click.IntRange(1), default=10, help="Most places, at most one in each input.")
@json_option
@takes(Columns)
def find(
    columns: Columns,
    model: Path,
    data: Path,
    text: str,
    tokens: str,
    chosen: str,
    gate: str,
    layer: int,
    direction: str,
    count: int,
    json: bool,
) -> None:
    """Find the places of a file with activations of chosen units like those at some tokens of a text.

    The places are ordered by distance: the root of the mean square of the differences between the units' activations,
    over the units and the tokens.
    """
    found = opened(model)
    manifest = found.manifest
    subject = Subject(found)
    key = next((key for key in keys(manifest) if key == (layer, direction)), None)
    if key is None:
        has = ", ".join(f"{number} {way}" for number, way in keys(manifest))
        raise click.BadParameter(f"the model has no layer {layer} {direction}; it has {has}", param_hint="--layer")
    if gate not in gate_names(manifest.cell):
        names = ", ".join(gate_names(manifest.cell))
        raise click.BadParameter(f"{manifest.cell} has no gate {gate!r}; it has {names}", param_hint="--gate")
    wanted = numbers(chosen, manifest.hidden, "unit", "--units")
    try:
        source = subject.tokenizer.encode(text, manifest.token_limit, truncate=False)
    except InvalidField as error:
        raise click.BadParameter(str(error), param_hint="--text") from error
    span = numbers(tokens, len(source), "token", "--tokens")
    if span != list(range(span[0], span[-1] + 1)):
        raise click.BadParameter("the tokens must follow each other, such as 2-4", param_hint="--tokens")
    texts = Texts.read(subject, data, columns.layout, note)
    pattern = activations(subject, source.rows, (*key, gate))[span[0] : span[-1] + 1, wanted]
    matches = search(subject, texts, (*key, gate), pattern, wanted, count)
    if json:
        for match in matches:
            line = {"data": texts.corpus.name, "line": match.line, "token": match.token, "tokens": len(span)}
            print(json_lines.dumps(line | {"distance": round(match.distance, 5)}))
        return
    table = Table(
        "line", "token", "distance", "text", title=f"{found.name} version {found.version}: {gate} of {chosen}"
    )
    for match in matches:
        shown = _around(texts.tokens(match.input), match.token, len(span))
        table.add_row(str(match.line), str(match.token), f"{match.distance:.4f}", shown)
    show(table)


def _around(tokens: Sequence[str], first: int, count: int) -> str:
    """Some tokens with the place in brackets."""
    begin, end = max(0, first - _AROUND), first + count + _AROUND
    parts = [*tokens[begin:first], f"[{' '.join(tokens[first : first + count])}]", *tokens[first + count : end]]
    return ("… " if begin else "") + " ".join(parts) + (" …" if end < len(tokens) else "")


_RANGE = re.compile(r"\s*(\d{1,6})(?:\s*-\s*(\d{1,6}))?\s*", re.ASCII)


def numbers(listed: str, count: int, noun: str, option: str) -> list[int]:
    """``0-2,7`` → [0, 1, 2, 7], each below `count`, in order and once. Raises `click.BadParameter`."""
    found: set[int] = set()
    for part in listed.split(","):
        match = _RANGE.fullmatch(part)
        if match is None:
            raise click.BadParameter(f"{part.strip()!r} is no {noun} and no range; write 0-15,42", param_hint=option)
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last or last >= count:
            there = f"there are {noun}s 0 to {count - 1}"
            raise click.BadParameter(f"{part.strip()!r} is out of range: {there}", param_hint=option)
        found.update(range(first, last + 1))
    return sorted(found)
