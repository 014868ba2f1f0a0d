"""The page on faithfulness: its tables say what the bundles hold."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache

import pytest

from service.model.bundle import Faithful, load, versions
from tests.integration.conftest import ROOT
from tests.test_docs import DOCS
from training.studies.attributions import chosen

PAGE = DOCS / "explanation" / "faithfulness.md"
COLUMNS = {
    "split": "split",
    "whole steps": "whole-steps",
    "state differences": "state-differences",
    "states": "states",
    "leave-one-out": "leave-one-out",
    "gradient × input": "gradient-x-input",
    "integrated gradients": "integrated-gradients",
    "LRP": "lrp",
    "random": "random",
}
DATA = {
    "SST-2": "sst2 dev",
    "IMDb": "imdb dev",
    "tweets": "tweets dev",
    "airline tweets": "airline-tweets dev",
    "airline-tweets": "airline-tweets dev",
    "UNER-EWT": "uner-ewt dev",
    "CoNLL-2003": "conll2003 dev",
}
TWEETS = "sentiment-bilstm-tweets"
PLACES = (("SST-2 dev", "SST-2"), ("IMDb dev", "IMDb"), ("UNER-EWT dev", "UNER-EWT"), ("CoNLL-2003 dev", "CoNLL-2003"))
"""Words of the paragraph above a table of one corpus, and the corpus."""
Row = tuple[str, str, dict[str, str]]
"""A model, a corpus of `DATA`, and a column → its text."""


@cache
def recorded(model: str, data: str) -> dict[str, Faithful]:
    folder = ROOT / "models" / model
    for each in load(folder / str(versions(folder)[-1])).manifest.faithfulness:
        if each.data == data:
            return {one.method: one for one in each.methods}
    return {}


def tables() -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Each table of what was found: the paragraph above it, its columns, its rows."""
    found = PAGE.read_text("utf-8").split("## What was found")[1].split("## A test")[0]
    above = ""
    for paragraph in found.split("\n\n"):
        if not paragraph.startswith("| "):
            above = paragraph
            continue
        heading, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in paragraph.splitlines())
        yield above, heading, rows


def rows(start: str) -> list[Row]:
    """The rows of the tables whose first paragraph begins so, or of all tables of deletion."""
    found = []
    for above, heading, lines in tables():
        other = above.startswith(("Comprehensiveness", "Insertion"))
        if not (above.startswith(start) if start else not other):
            continue
        corpus = next((name for words, name in PLACES if words in above), "")
        for first, *cells in lines:
            model, _, named = first.replace("`", "").partition(", ")
            if heading[0] == "data":
                model, named = TWEETS, first
            found.append((model, named or corpus, dict(zip(heading[1:], cells, strict=True))))
    return found


def numbers(text: str) -> list[float]:
    return [float(each.replace("−", "-")) for each in re.split(", | / ", text)]


def check(found: Sequence[Row], measures: Sequence[str], within: Sequence[float]) -> int:
    compared = 0
    for model, corpus, cells in found:
        measured = recorded(model, DATA[corpus])
        assert measured, (model, corpus)
        for column, text in cells.items():
            if column not in COLUMNS:
                continue
            of = measured.get(COLUMNS[column])
            assert (of is None) == (text == "–"), (model, corpus, column)
            if of is None:
                continue
            for measure, value, near in zip(measures, numbers(text), within, strict=True):
                assert getattr(of, measure).mean == pytest.approx(value, abs=near), (model, corpus, column, measure)
                compared += 1
    return compared


def test_the_deletion_curves_areas_are_those_of_the_bundles() -> None:
    found = rows("")
    assert len(found) == 27
    assert check(found, ["deletion"], [0.0006]) > 200


def test_the_costs_are_those_of_the_bundles() -> None:
    for model, corpus, cells in rows(""):
        text = cells["cost: split / integrated gradients"]
        if text != "–":
            measured = recorded(model, DATA[corpus])
            split, gradients = numbers(text)
            assert (split, gradients) == (measured["split"].cost, round(measured["integrated-gradients"].cost)), model


def test_comprehensiveness_and_sufficiency_are_those_of_the_bundles() -> None:
    found = rows("Comprehensiveness")
    assert len(found) == 18
    assert check(found, ["comprehensiveness", "sufficiency"], [0.0006, 0.0006]) > 100


def test_insertion_and_log_odds_are_those_of_the_bundles() -> None:
    found = rows("Insertion")
    assert len(found) == 27
    assert check(found, ["insertion", "log_odds"], [0.0006, 0.006]) > 200


def test_every_bundle_has_every_method_that_can_explain_it() -> None:
    """`chosen` says which can: the cards leave none out."""
    for model in {model for model, _, _ in rows("")}:
        folder = ROOT / "models" / model
        manifest = load(folder / str(versions(folder)[-1])).manifest
        used, _ = chosen(manifest, None)
        for each in manifest.faithfulness:
            assert [one.method for one in each.methods] == list(used), (model, each.data)
            assert all(one.insertion and one.log_odds for one in each.methods), (model, each.data)
