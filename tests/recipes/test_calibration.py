"""Temperatures by length: fitted on one half of the texts, measured on the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from recipes import calibration
from recipes.calibration import FORMS, Texts, compared, fitted, gaps, loss, table
from service.model.bundle import load
from service.model.tokenizer import Encoded
from tests.bundles import tiny_bundle
from training.scoring.evaluate import Corpus


def _texts(temperature: dict[int, float], count: int = 4000) -> Texts:
    """Texts of some lengths, two labels, whose logits are too large by the temperature of their length."""
    generator = np.random.default_rng(1)
    lengths = generator.choice(list(temperature), count).astype(float)
    true = generator.normal(0, 1.5, count)
    gold = (generator.random(count) < 1 / (1 + np.exp(-true))).astype(np.intp)
    wide = true * np.array([temperature[int(each)] for each in lengths])
    return Texts(np.stack([np.zeros(count), wide], axis=1), lengths, gold)


@pytest.mark.parametrize("name", FORMS)
def test_a_form_without_parameters_set_changes_nothing(name: str) -> None:
    form, count = FORMS[name]
    assert form(np.zeros(count), np.array([1.0, 20.0, 4096.0])).tolist() == [1.0, 1.0, 1.0]


def test_forms_follow_the_length() -> None:
    lengths = np.array([4.0, 16.0, 45.25, 128.0, 2000.0])
    assert FORMS["two"][0](np.log([2.0, 8.0]), lengths) == pytest.approx([2, 2, 4, 8, 8], rel=1e-3)
    assert FORMS["power"][0](np.array([np.log(3), 0.5]), np.array([20.0, 80.0, 5.0])) == pytest.approx([3, 6, 1.5])


def test_the_temperatures_that_made_the_logits_are_found() -> None:
    form, count = FORMS["two"]
    found = fitted(form, count, [_texts({8: 2.0, 200: 0.5}, 20_000)])
    assert np.exp(found) == pytest.approx([2.0, 0.5], rel=0.1)
    assert loss(form, found, [_texts({8: 2.0, 200: 0.5})]) < loss(form, np.zeros(2), [_texts({8: 2.0, 200: 0.5})])


def test_length_helps_where_it_decides_and_not_elsewhere() -> None:
    sets = {"mixed": _texts({8: 2.0, 200: 0.5}), "even": _texts({8: 1.0, 200: 1.0})}
    found = compared(sets, ["mixed"])
    assert found["mixed"]["two"] < found["mixed"]["by chance"] + 0.01 < found["mixed"]["one"]
    assert found["even"]["as shipped"] < found["even"]["two"]


def test_a_form_is_measured_on_texts_that_it_was_not_fitted_on(monkeypatch: pytest.MonkeyPatch) -> None:
    taught: list[Texts] = []

    def spy(form: calibration.Form, count: int, sets: list[Texts]) -> np.ndarray:
        taught.extend(sets)
        return np.full(count, 9.0) if len(taught) > len(FORMS) else np.zeros(count)

    monkeypatch.setattr(calibration, "fitted", spy)
    texts = _texts({20: 1.0}, 400)
    found = compared({"a": texts}, ["a"])["a"]
    assert [len(each.gold) for each in taught] == [200] * 2 * len(FORMS)
    # The second half was measured with a temperature of 1, the first with one that makes every score 0.5.
    assert abs(found["one"] - found["as shipped"]) > 0.05
    assert (taught[0].logits[1] == texts.logits[2]).all()


def test_a_taggers_gaps_stand_in_bands_of_length() -> None:
    def row(length: int) -> Encoded:
        return Encoded(
            "a " * length, [(2 * at, 2 * at + 1) for at in range(length)], np.zeros((length, 1), np.int32), False
        )

    tags = ("B-PER", "O", "O")
    rows, gold = [row(3)] * 40 + [row(30)] * 20, [tags] * 40 + [("O",) * 30] * 20
    entity = {"label": "PER", "score": 0.75, "token_start": 0, "token_end": 1}
    other = entity | {"label": "MISC"}
    corpus = Corpus("some dev", "ner", list(gold), rows)
    found = gaps([{"entities": [entity, other]}] * 60, corpus)
    assert found == [pytest.approx(-0.25), None, None, None], "20 entities in longer sentences are too few"


def test_tables_of_a_classifier_and_of_a_tagger(tmp_path: Path) -> None:
    for name in ("toys", "films"):
        folder = tmp_path / "sentiment" / name
        folder.mkdir(parents=True)
        rows = "".join(f"word {number} here\t{('negative', 'positive')[number % 2]}\n" for number in range(8))
        (folder / "dev.tsv").write_text("text\tlabel\n" + rows, "utf-8")
    bundle = load(tiny_bundle(tmp_path / "models" / "m").path)
    lines = list(table(bundle, tmp_path, ["toys dev"]))
    assert lines[0] == "| data | as shipped | one | power | two | by chance |"
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| films dev", "| toys dev", "| mean"]
    with pytest.raises(ValueError, match="'toy dev' is none of the sets: films dev, toys dev"):
        list(table(bundle, tmp_path, ["toy dev"]))
    folder = tmp_path / "ner" / "tweebank"
    folder.mkdir(parents=True)
    (folder / "dev.conll").write_text("Ada\tB-PER\nran\tO\n\n" * 40, "utf-8")
    lines = list(table(load(tiny_bundle(tmp_path / "models" / "t", task="ner").path), tmp_path, []))
    assert lines[0].startswith("|  | 1 tokens or more | 10")
    assert lines[2].startswith("| tweebank dev |")
