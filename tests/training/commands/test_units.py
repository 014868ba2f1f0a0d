"""`training units` and `training find`, against the same by brute force; figures of faithfulness in a bundle."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from service.errors import BundleError
from service.model.bundle import CARD, LIMITS, UNITS, WEIGHTS, load
from service.model.interventions import Setting, run
from service.model.unit_cards import keys, read
from tests import corpora
from tests.bundles import Options, tiny_bundle
from training.cli import app
from training.scoring.evaluate import Subject
from training.studies.units import Texts


def command(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "200"})


@pytest.mark.parametrize("options", [{"layers": 2}, {"cell": "mingru", "bidirectional": False}, {"task": "ner"}])
def test_cards_say_where_a_unit_is_active_and_what_is_lost_without_it(tmp_path: Path, options: Options) -> None:
    made = tiny_bundle(tmp_path / "tiny", **options)
    tagger = made.manifest.task == "ner"
    data = corpora.ner(tmp_path / "set" / "dev.conll") if tagger else corpora.sentiment(tmp_path / "set" / "dev.tsv")
    done = command("units", made.path, "--data", data, "--places", "3", "--most", "1000")
    assert done.exit_code == 0, done.output
    written = load(made.path)
    cards = read(written.content(UNITS), written.manifest)
    assert cards.sha256 == hashlib.sha256(data.read_bytes()).hexdigest()
    assert cards.weights == made.manifest.files[WEIGHTS]
    subject = Subject(written)
    texts = Texts.read(subject, data)
    rows = [source.rows for source in texts.corpus.encoded]
    lines = data.read_text("utf-8").split("\n")
    labels = {label: number for number, label in enumerate(made.manifest.labels)}
    for layer, direction in keys(written.manifest):
        mine, unit = cards.of(layer, direction), 5
        traced = [np.array(subject.engine.trace([row]).gate((layer, direction, "hidden"), 0))[:, unit] for row in rows]
        farthest = sorted((np.abs(states).max() for states in traced), reverse=True)[:3]
        assert [abs(value) for *_, value in mine.places[unit]] == pytest.approx(farthest, abs=6e-4)
        for line, token, value in mine.places[unit]:
            number = next(n for n in range(len(rows)) if token < len(rows[n]) and texts.line(n, token) == line)
            assert traced[number][token] == pytest.approx(value, abs=6e-4)
            assert texts.tokens(number)[token] in lines[line - 1]
        held = [Setting(layer, direction, "hidden", 0.0, (unit,))]
        if tagger:
            continue
        before = np.concatenate([subject.engine.predict([row]) for row in rows]).argmax(axis=1)
        after = np.concatenate([run(subject.engine.network, [row], [held]).logits for row in rows]).argmax(axis=1)
        gold = np.array([labels[str(each)] for each in texts.corpus.gold])
        assert mine.cost[unit] == pytest.approx((before == gold).mean() - (after == gold).mean(), abs=1e-5)
        assert mine.changed[unit] == pytest.approx((before != after).mean(), abs=1e-5)
        assert (mine.effects is None) == (layer == made.manifest.layers - 1)


def test_a_bundle_with_cards_holds_no_text(tmp_path: Path) -> None:
    made, data = tiny_bundle(tmp_path / "tiny"), corpora.sentiment(tmp_path / "set" / "dev.tsv")
    result = command("units", made.path, "--data", data, "--most", "5", "--json")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(line["direction"], line["unit"]) for line in lines] == [
        (direction, unit) for direction in ("forward", "backward") for unit in range(8)
    ]
    stored = (made.path / UNITS).read_text("utf-8")
    assert not any(
        word in stored for line in data.read_text("utf-8").split("\n")[1:] for word in line.split(" ")[:1] if word
    )


def test_cards_over_the_limit_are_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, data = tiny_bundle(tmp_path / "tiny"), corpora.sentiment(tmp_path / "set" / "dev.tsv")
    monkeypatch.setitem(LIMITS, UNITS, 100)
    done = command("units", made.path, "--data", data, "--most", "2")
    assert isinstance(done.exception, BundleError)
    assert re.fullmatch(r"units.json has \d+ bytes, the limit is 100", str(done.exception))
    assert load(made.path) == made  # the bundle is as it was


def test_a_place_is_found_again_where_it_was(tmp_path: Path) -> None:
    made, data = tiny_bundle(tmp_path / "tiny"), corpora.sentiment(tmp_path / "set" / "dev.tsv")
    text = data.read_text("utf-8").split("\n")[4].split("\t")[0]
    arguments = ("find", made.path, "--data", data, "--text", text, "--tokens", "1-2", "--units", "0-3,6")
    result = command(*arguments, "--gate", "forget", "--direction", "backward", "--json")
    assert result.exit_code == 0, result.output
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert (found[0]["line"], found[0]["token"], found[0]["tokens"]) == (5, 1, 2)
    assert found[0]["distance"] < 1e-5
    assert [each["distance"] for each in found] == sorted(each["distance"] for each in found)
    subject = Subject(load(made.path))
    texts = Texts.read(subject, data)
    units, key = [0, 1, 2, 3, 6], (0, "backward", "forget")
    states = [np.array(subject.engine.trace([each.rows]).gate(key, 0))[:, units] for each in texts.corpus.encoded]  # type: ignore[arg-type]  # a selection of units
    pattern = states[3][1:3]
    best = sorted(
        min(float(np.sqrt(((each[at : at + 2] - pattern) ** 2).mean())) for at in range(len(each) - 1))
        for each in states
    )
    assert [each["distance"] for each in found] == pytest.approx(best[:10], abs=1e-4)
    shown = command(*arguments).stdout
    assert "[" in shown
    assert "line" in shown


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"--units": "8"}, "there are units 0 to 7"),
        ({"--units": "x"}, "is no unit and no range"),
        ({"--tokens": "0,2"}, "must follow each other"),
        ({"--tokens": "99"}, "is out of range"),
        ({"--gate": "update"}, "lstm has no gate 'update'"),
        ({"--layer": "1"}, "the model has no layer 1 forward"),
        ({"--text": " "}, "--text"),
    ],
)
def test_what_cannot_be_looked_for_is_refused(tmp_path: Path, changed: dict[str, str], reason: str) -> None:
    made, data = tiny_bundle(tmp_path / "tiny"), corpora.sentiment(tmp_path / "dev.tsv")
    options = {"--text": "a great film", "--tokens": "0", "--units": "1"} | changed
    done = command("find", made.path, "--data", data, *(part for pair in options.items() for part in pair))
    assert done.exit_code == 2
    assert reason in " ".join(done.output.replace("│", " ").split())


def test_figures_of_faithfulness_are_kept_in_manifest_and_card(tmp_path: Path) -> None:
    made, data = tiny_bundle(tmp_path / "tiny"), corpora.sentiment(tmp_path / "set" / "dev.tsv")
    arguments = ("faithfulness", made.path, "--data", data, "--most", "4", "--methods", "split,random", "--json")
    assert load(made.path).manifest.faithfulness == ()
    for most in ("4", "5"):  # the later figures on the same data count
        result = command(*arguments, "--record", "--most", most)
        assert result.exit_code == 0, result.output
    written = load(made.path)
    (found,) = written.manifest.faithfulness
    assert (found.data, found.inputs) == ("set dev", 5)
    line = json.loads(result.stdout.splitlines()[0])
    assert found.methods[0].method == line["method"] == "split"
    assert found.methods[0].deletion.mean == pytest.approx(line["figures"]["deletion"]["mean"], abs=1e-4)
    text = written.file(CARD).read_text("utf-8")
    assert f"| set dev | 5 | split | {found.methods[0].deletion.mean:.3f} [" in text
