"""What deletion, insertion and ERASER's measures come to, each against its definition written out."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from service.model.tokenizer import Encoded
from tests.bundles import Options, architecture, draft, network, random_rows
from training.scoring.evaluate import Corpus
from training.studies.attributions import Array, Case, Method, Subject
from training.studies.faithfulness import GRID, MEASURES, Figure, cases, measure, points


def subject(folder: Path, **options: object) -> Subject:
    return Subject(draft(network(architecture(**options)), folder))  # type: ignore[arg-type]  # options by name


def corpus(rows: list[np.ndarray], task: str = "sentiment") -> Corpus:
    encoded = [Encoded("", [(0, 0)] * len(row), row, False) for row in rows]
    return Corpus("made up", task, ["positive"] * len(rows), encoded)  # type: ignore[arg-type]  # the task is a string here


def by_number(_: Subject, case: Case) -> Array:
    """The first token first."""
    return -np.arange(len(case.row), dtype=np.float64)


def backwards(_: Subject, case: Case) -> Array:
    return np.arange(len(case.row), dtype=np.float64)


FIXED = {"first": Method("nothing", by_number, lambda _: None), "last": Method("nothing", backwards, lambda _: None)}


@pytest.mark.parametrize("tokens", [2, 7, 33])
def test_measures_are_what_their_definitions_say(tmp_path: Path, tokens: int) -> None:
    of = subject(tmp_path)
    case = Case(random_rows(architecture(), (tokens,))[0], 1)

    def chance(kept: list[int]) -> float:
        logits = of.logits(case.row[kept])
        return float(np.exp(logits[1]) / np.exp(logits).sum())

    found = measure(of, [case], FIXED)
    assert (found.inputs, found.tokens) == (1, tokens)
    for result, order in zip(found.results, (range(tokens), range(tokens)[::-1]), strict=True):
        whole = chance(list(range(tokens)))
        lost, short = {}, {}
        for percent in (1, 5, 10, 20, 50):
            top = math.ceil(percent * tokens / 100)
            lost[percent] = whole - chance(sorted(order[min(top, tokens - 1) :]))
            short[percent] = whole - chance(sorted(order[:top]))
            assert result.figures[f"comprehensiveness@{percent}"].mean == pytest.approx(lost[percent], abs=1e-6)
            assert result.figures[f"sufficiency@{percent}"].mean == pytest.approx(short[percent], abs=1e-6)
        assert result.figures["comprehensiveness"].mean == pytest.approx(np.mean(list(lost.values())), abs=1e-6)
        assert result.figures["sufficiency"].mean == pytest.approx(np.mean(list(short.values())), abs=1e-6)
        assert result.figures["log-odds"].mean == pytest.approx(math.log((whole - lost[20]) / whole), abs=1e-5)
        steps = points(tokens)
        deleted = [chance(sorted(order[min(step, tokens - 1) :])) for step in steps]
        inserted = [chance(sorted(order[: max(step, 1)])) for step in steps]
        for name, curve in (("deletion", deleted), ("insertion", inserted)):
            area = sum(
                (curve[k] + curve[k + 1]) / 2 * (steps[k + 1] - steps[k]) / tokens for k in range(len(steps) - 1)
            )
            assert result.figures[name].mean == pytest.approx(area, abs=1e-6)
        assert len(result.deletion) == len(result.insertion) == GRID + 1
        assert result.deletion[0] == pytest.approx(whole, abs=1e-6)
        assert result.insertion[-1] == pytest.approx(whole, abs=1e-6)


def test_the_explained_token_of_a_tagger_stays(tmp_path: Path) -> None:
    of = subject(tmp_path, task="ner")
    case = Case(random_rows(architecture(task="ner"), (6,))[0], 2, 3)
    logits = of.logits(case.row[[3]])[0]
    alone = float(np.exp(logits[2]) / np.exp(logits).sum())
    result = measure(of, [case], FIXED).results[0]
    assert result.deletion[-1] == pytest.approx(alone, abs=1e-6)
    assert result.insertion[0] == pytest.approx(alone, abs=1e-6)


def test_others_are_held_against_the_first_input_by_input(tmp_path: Path) -> None:
    of = subject(tmp_path)
    found = [Case(row, 1) for row in random_rows(architecture(), (5, 9, 12))]
    first, last = measure(of, found, FIXED).results
    for name in MEASURES:
        assert first.against_first[name] == Figure(0, 0, 0)
        difference = last.figures[name].mean - first.figures[name].mean
        assert last.against_first[name].mean == pytest.approx(difference, abs=1e-9)


def test_an_interval_holds_its_mean_and_narrows_with_more_inputs() -> None:
    random = np.random.default_rng(2)
    few, many = (Figure.of(random.normal(size=count)) for count in (20, 2_000))
    for figure in (few, many):
        assert figure.low < figure.mean < figure.high
    assert many.high - many.low < (few.high - few.low) / 5
    assert many.high - many.low == pytest.approx(2 * 1.96 / math.sqrt(2_000), rel=0.1)


@pytest.mark.parametrize(("tokens", "expected"), [(1, [0, 1]), (3, [0, 1, 2, 3]), (200, list(range(0, 201, 10)))])
def test_a_curve_has_a_point_for_each_step_of_the_grid_or_for_each_token(tokens: int, expected: list[int]) -> None:
    assert points(tokens) == expected


def test_cases_are_drawn_once_each_cut_and_with_the_predicted_label(tmp_path: Path) -> None:
    of = subject(tmp_path)
    rows = random_rows(architecture(), (1, 4, 30, 6))
    found = cases(of, corpus(rows), 10, 8, seed=3)
    assert sorted(len(case.row) for case in found) == [4, 6, 8]
    for case in found:
        assert case.label == int(of.logits(case.row).argmax())
        assert case.explained is None
    assert [len(case.row) for case in cases(of, corpus(rows), 2, 8, seed=3)] == [len(case.row) for case in found[:2]]


def test_a_taggers_cases_are_the_first_tokens_of_the_entities_that_it_finds(tmp_path: Path) -> None:
    options = Options(task="ner", crf=True)
    of = subject(tmp_path, **options)
    rows = random_rows(architecture(**options), (9, 12, 5, 7))
    found = cases(of, corpus(rows, "ner"), 10, 50, seed=1)
    assert found
    for case in found:
        assert case.explained is not None
        path = of.decoder.path(of.engine.predict([case.row])[0])  # type: ignore[union-attr]  # a tagger has a decoder with paths
        assert path[: case.explained] == [0] * case.explained
        assert path[case.explained] == case.label != 0
