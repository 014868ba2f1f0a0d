"""A tagger on raw text: entities by offsets, sentences that come back as they were, and entities that cannot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from service.model.bundle import TOKENIZER, load
from service.model.decoding import decoder
from service.model.tokenizer import Tokenizer
from tests import corpora
from tests.bundles import LABELS, architecture, tiny_bundle, tokenizer
from training.cli import app
from training.export.card import labels_across
from training.scoring.evaluate import corpus
from training.scoring.raw import RawReport, measure

TOKENS = tokenizer(architecture(task="ner"))
NAMES = {tuple(TOKENS.rows([word])[0].tolist()) for word in ("Ada", "London")}


def found(tmp_path: Path, text: str, limit: int = 100, types: Sequence[str] = ()) -> RawReport:
    """What a tagger comes to that tags every token shaped like ``Ada`` or ``London`` as a person of its own."""
    path = tmp_path / "set" / "dev.conll"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, "utf-8")
    data = corpus(path, "ner", LABELS["ner"], TOKENS, limit, types=types)

    def predict(rows: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        logits = np.zeros((len(rows), max(map(len, rows)), len(LABELS["ner"])), np.float32)
        for number, row in enumerate(rows):
            for position, features in enumerate(row.tolist()):
                name = "B-PER" if tuple(features) in NAMES else "O"
                logits[number, position, LABELS["ner"].index(name)] = 9
        return logits

    return measure(predict, data, decoder("ner", LABELS["ner"]), TOKENS, limit)


def test_sentences_that_come_back_score_the_same_by_token_and_by_offset(tmp_path: Path) -> None:
    report = found(tmp_path, "Ada\tB-PER\n,\tO\nLondon\tB-PER\n!\tO\n\n(\tO\nAda\tB-PER\n)\tO\n")
    assert (report.sentences, report.same, report.recut, report.across) == (2, 2, 0, 0)
    assert report.tokens.f1 == report.raw.f1 == 1.0
    assert (report.raw.correct, report.raw.predicted, report.raw.support) == (3, 3, 3)


def test_a_token_that_raw_text_cuts_is_counted(tmp_path: Path) -> None:
    # The corpus has one token where the tokenizer finds three: the name holds it whole, its edges are kept.
    report = found(tmp_path, "Ada-London\tB-PER\nran\tO\n\nAda\tB-PER\nran\tO\n")
    assert (report.sentences, report.same, report.recut, report.across) == (2, 1, 1, 0)
    assert report.raw.correct == 1
    assert (report.raw.predicted, report.raw.support) == (3, 2)


def test_scores_of_entities_are_compared_by_token_and_by_offset(tmp_path: Path) -> None:
    # Among tokens "Ada-London" is no known word; raw text has "Ada" and "London", and neither is the whole name.
    report = found(tmp_path, "Ada-London\tB-PER\nran\tO\n\nAda\tB-PER\nran\tO\n")
    assert [(each.kind, each.right) for each in report.scored_tokens] == [("PER", True)]
    assert [(each.kind, each.right) for each in report.scored_raw] == [("PER", False), ("PER", False), ("PER", True)]
    assert all(each.score > 0.99 for each in (*report.scored_tokens, *report.scored_raw))
    assert report.as_json()["calibration_error"] == pytest.approx(2 / 3, abs=0.01)
    nothing = found(tmp_path, "ran\tO\n")
    assert nothing.scored_raw == ()
    assert "calibration_error" not in nothing.as_json()


def test_entities_of_other_types_count_neither_by_token_nor_by_offset(tmp_path: Path) -> None:
    # Every name is taken for a person; the data have a place among them, and a type that the tagger has not.
    text = "Ada\tB-PER\nin\tO\nLondon\tB-LOC\n\nLatin\tB-MISC\n"
    for types, counts in ((["PER"], (1, 2, 1)), (["LOC"], (0, 0, 1))):
        report = found(tmp_path, text, types=types)
        assert report.data == f"set dev ({types[0]})"
        for each in (report.tokens, report.raw):
            assert (each.correct, each.predicted, each.support) == counts
        assert len(report.scored_tokens) == len(report.scored_raw) == counts[1]


def test_an_entity_that_ends_inside_a_token_of_raw_text_is_told(tmp_path: Path) -> None:
    # Joined, this is one token: 10:30.
    report = found(tmp_path, "10\tB-PER\n:\tO\n30\tO\n\nAda\tB-PER\nran\tO\n")
    assert (report.same, report.recut, report.across) == (1, 1, 1)
    sentence = labels_across(report.kept())
    assert sentence is not None
    assert sentence.startswith(
        "The tokenizer cuts 1 of 2 entities in set dev otherwise than the corpus does; 1 of them"
    )
    same = found(tmp_path, "Ada\tB-PER\nran\tO\n")
    assert labels_across(same.kept()) is None


def test_what_is_cut_at_the_limit_still_lines_up(tmp_path: Path) -> None:
    report = found(tmp_path, "Ada\tB-PER\nran\tO\nto\tO\nLondon\tB-PER\n", limit=2)
    assert (report.raw.correct, report.raw.support) == (1, 1)


def test_evaluate_gives_both_figures(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "m", task="ner")
    data = corpora.ner(tmp_path / "set" / "dev.conll")
    arguments = ["evaluate", str(bundle.path), "--data", str(data), "--raw"]
    line = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert line["raw"]["f1"] == pytest.approx(line["f1"]), "these sentences come back as they were"
    counts = {"same_tokens", "entities", "recut", "across"}
    assert line["raw"].keys() == {"precision", "recall", "f1", "calibration_error"} | counts
    assert line["raw"]["calibration_error"] == pytest.approx(line["calibration_error"], abs=1e-6)
    assert (line["raw"]["same_tokens"], line["raw"]["entities"]) == (1.0, 48)
    table = CliRunner().invoke(app, arguments).stdout
    assert "raw text: f1" in table
    assert "raw" not in json.loads(CliRunner().invoke(app, [*arguments[:-1], "--json"]).stdout)


def test_a_classifier_is_scored_on_its_texts_as_people_write_them(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "m")
    parted = ["It 's good .", "do n't ( ever ) go , please", "good", "It did n't work !", "so-called 7 / 10"]
    joined = ["It's good.", "don't (ever) go, please", "good", "It didn't work!", "so-called 7/10"]
    labels = ["positive", "negative", "positive", "negative", "positive"]

    def evaluated(name: str, texts: list[str], *more: str) -> dict[str, object]:
        file = tmp_path / name / "dev.tsv"
        file.parent.mkdir()
        rows = [f"{text}\t{label}" for text, label in zip(texts, labels, strict=True)]
        file.write_text("\n".join(["text\tlabel", *rows, ""]), "utf-8")
        arguments = ["evaluate", str(bundle.path), "--data", str(file), *more]
        done = CliRunner().invoke(app, [*arguments, "--json"])
        assert done.exit_code == 0, done.output
        if more:
            assert "raw text: same tokens" in CliRunner().invoke(app, arguments).stdout
        line: dict[str, object] = json.loads(done.stdout)
        return line

    raw, by_hand = evaluated("parted", parted, "--raw")["raw"], evaluated("joined", joined)
    tokens = Tokenizer.load(bundle.file(TOKENIZER), bundle.manifest.features)

    def words(text: str) -> list[str]:
        return [text[start:end] for _, (start, end) in tokens.split(text)]

    pairs = zip(parted, joined, strict=True)
    same = sum(words(one) == words(other) for one, other in pairs) / len(parted)
    assert same > 0
    metrics = ("accuracy", "macro_f1", "macro_recall", "calibration_error")
    assert raw == {**{metric: by_hand[metric] for metric in metrics}, "same_tokens": same}


def test_other_rules_and_another_export_measure_raw_text_anew(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path / "m", task="ner")
    data = corpora.ner(tmp_path / "set" / "dev.conll")
    runner, name = CliRunner(), str(bundle.path.parent)
    done = runner.invoke(app, ["export", name, "--dev", str(data)])
    assert done.exit_code == 0, done.output
    (measured,) = load(tmp_path / "m" / "2").manifest.raw_text
    assert (measured.data, measured.sentences, measured.recut) == ("set dev", 24, 0)
    assert runner.invoke(app, ["export", name]).exit_code == 0
    assert load(tmp_path / "m" / "3").manifest.raw_text == (measured,), "the same weights and rules"
    assert runner.invoke(app, ["retokenize", name, "--tokenizer", "treebank"]).exit_code == 0
    assert load(tmp_path / "m" / "4").manifest.raw_text == (), "figures of other rules"
    done = runner.invoke(app, ["retokenize", name, "--tokenizer", "treebank", "--test", str(data)])
    assert [each.data for each in load(tmp_path / "m" / "5").manifest.raw_text] == ["set dev"]
    assert done.exit_code == 0, done.output
