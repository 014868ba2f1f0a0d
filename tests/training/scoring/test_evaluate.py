"""Scores of labelled data: through torch, through a bundle, and as they are written down."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from service.model.bundle import Bundle, Score, Task
from service.model.decoding import decoder
from service.model.engine import Engine
from tests.bundles import LABELS, architecture, network, random_rows, tiny_bundle, tokenizer
from training.data.corpora import CorpusError
from training.nets.networks import Dropouts
from training.scoring.evaluate import (
    Corpus,
    Report,
    corpus,
    corpus_name,
    decoder_of,
    mark,
    measure,
    of_bundle,
    of_network,
)

SENTIMENT = "text\tlabel\na great film\tpositive\nIt's dull\tnegative\nnot good . " + "very " * 30 + "bad\tnegative\n"
NER = "Ada\tB-PER\nLovelace\tI-PER\nlived\tO\nin\tO\nLondon\tB-LOC\n\nAda\tB-PER\n.\tO\n"
CPU = torch.device("cpu")


@pytest.fixture
def sentiment(tmp_path: Path) -> Path:
    path = tmp_path / "sst2" / "dev.tsv"
    path.parent.mkdir()
    path.write_text(SENTIMENT, "utf-8")
    return path


@pytest.fixture
def ner(tmp_path: Path) -> Path:
    path = tmp_path / "uner-ewt" / "dev.conll"
    path.parent.mkdir()
    path.write_text(NER, "utf-8")
    return path


def read_sentiment(path: Path, limit: int = 100) -> Corpus:
    return corpus(path, "sentiment", LABELS["sentiment"], tokenizer(architecture()), limit)


def read_ner(path: Path, limit: int = 100) -> Corpus:
    return corpus(path, "ner", LABELS["ner"], tokenizer(architecture(task="ner")), limit)


def test_a_corpus_is_encoded_as_the_service_does_it(sentiment: Path) -> None:
    found = read_sentiment(sentiment)
    assert found.name == "sst2 dev"
    assert found.gold == ["positive", "negative", "negative"]
    assert [len(each) for each in found.encoded] == [3, 3, 34]
    assert found.truncated == 0


def test_long_inputs_are_cut_and_counted(sentiment: Path, ner: Path) -> None:
    found = read_sentiment(sentiment, limit=10)
    assert [len(each) for each in found.encoded] == [3, 3, 10]
    assert found.truncated == 1
    assert read_ner(ner, limit=2).truncated == 1


def test_a_label_that_the_model_has_not_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "dev.tsv"
    path.write_text("text\tlabel\na film\tneutral\n", "utf-8")
    with pytest.raises(CorpusError, match=r"dev\.tsv:2: the label 'neutral' is not in the training data"):
        read_sentiment(path)


@pytest.mark.parametrize(
    ("path", "name"),
    [("sst2/dev.tsv", "sst2 dev"), ("imdb/test.tsv.gz", "imdb test"), ("a/b/c.conll", "b c")],
)
def test_data_is_named_by_its_folder_and_file(tmp_path: Path, path: str, name: str) -> None:
    assert corpus_name(tmp_path / path) == name


def test_data_in_the_current_folder_is_named_by_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert corpus_name(Path("dev.tsv")) == f"{tmp_path.name} dev"


def test_a_classifier_is_measured(sentiment: Path) -> None:
    data = read_sentiment(sentiment)

    def predict(rows: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        # Short texts are positive, long ones negative: two of three are right.
        return np.array([[0, 1] if len(row) < 10 else [1, 0] for row in rows], np.float32)

    report = measure(predict, data, decoder("sentiment", LABELS["sentiment"]))
    confidence = report.metrics.pop("calibration_error")
    assert 0 < confidence < 1
    assert report.metrics == {
        "accuracy": pytest.approx(2 / 3),
        "macro_f1": pytest.approx(2 / 3),
        "macro_recall": pytest.approx(0.75),
    }
    assert report.headline == report.metrics["accuracy"]
    assert report.entities is None


def test_answers_go_back_to_their_inputs_whatever_the_order_of_the_batches(tmp_path: Path) -> None:
    """Labels alternate down the file, and batches are by length."""
    lengths = np.random.default_rng(3).integers(1, 60, 300).tolist()
    lines = [f"{'good ' * length}\t{('negative', 'positive')[length % 2]}\n" for length in lengths]
    (tmp_path / "dev.tsv").write_text("text\tlabel\n" + "".join(lines), "utf-8")

    def predict(rows: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        assert len(rows) <= 64
        return np.array([[0, 1] if len(row) % 2 else [1, 0] for row in rows], np.float32)

    report = measure(predict, read_sentiment(tmp_path / "dev.tsv"), decoder("sentiment", LABELS["sentiment"]))
    assert report.headline == 1.0


def tags(*rows: str) -> NDArray[np.float32]:
    """Logits [batch, time, labels] that say these tags, padded."""
    names = [row.split() for row in rows]
    logits = np.zeros((len(names), max(map(len, names)), len(LABELS["ner"])), np.float32)
    for number, row in enumerate(names):
        for position, name in enumerate(row):
            logits[number, position, LABELS["ner"].index(name)] = 9
    return logits


def test_a_tagger_is_measured_by_its_entities(ner: Path) -> None:
    # By length: "Ada ." first. London is missed, Lovelace too: of three entities one is right, of two found.
    logits = tags("B-PER O", "B-PER O O O O")
    report = measure(lambda rows: logits, read_ner(ner), decoder("ner", LABELS["ner"]))
    assert report.metrics == {
        "precision": pytest.approx(1 / 2),
        "recall": pytest.approx(1 / 3),
        "f1": pytest.approx(2 / 5),
        "calibration_error": pytest.approx(0.5, abs=0.01),  # one of two entities is right, both are as good as sure
    }
    assert report.headline == report.metrics["f1"]
    assert report.entities is not None
    assert report.entities.types["LOC"].recall == 0


def test_what_was_cut_off_counts_as_no_entity(ner: Path) -> None:
    logits = tags("B-PER I-PER", "B-PER O")
    report = measure(lambda rows: logits, read_ner(ner, limit=2), decoder("ner", LABELS["ner"]))
    assert report.metrics["precision"] == 1.0
    assert report.metrics["recall"] == pytest.approx(2 / 3)
    assert [len(gold) for gold in report.corpus.gold] == [5, 2]


def test_as_json(ner: Path) -> None:
    logits = tags("B-PER O", "B-PER I-PER O O O")
    report = measure(lambda rows: logits, read_ner(ner), decoder("ner", LABELS["ner"]))
    line = report.as_json("ner-bilstm", 3)
    assert "\n" not in line
    assert json.loads(line) == {
        "model": "ner-bilstm",
        "version": "3",
        "data": "uner-ewt dev",
        "inputs": 2,
        "truncated": 0,
        "set_aside": 0,
        "precision": 1.0,
        "recall": pytest.approx(2 / 3),
        "f1": pytest.approx(0.8),
        "calibration_error": pytest.approx(0.0, abs=0.01),
        "calibration_error_by_chance": pytest.approx(0.0, abs=0.01),
        "types": {
            "LOC": {"precision": 0.0, "recall": 0.0, "f1": 0.0},
            "PER": {"precision": 1.0, "recall": 1.0, "f1": 1.0},
        },
    }


def test_scores_are_what_the_manifest_keeps(sentiment: Path) -> None:
    report = Report(read_sentiment(sentiment, limit=10), {"accuracy": 88 / 104, "macro_f1": 0.5})
    assert report.scores() == (
        Score(data="sst2 dev", metric="accuracy", value=88 / 104, examples=3, truncated=1),
        Score(data="sst2 dev", metric="macro_f1", value=0.5, examples=3, truncated=1),
    )
    assert f"{report.scores()[0].value:.4f}" == "0.8462", "not 0.8461, from 0.84615"


def test_torch_and_the_bundle_score_the_same(tmp_path: Path, sentiment: Path) -> None:
    shape = architecture()
    net, rows = network(shape), random_rows(shape, (3, 9, 1))
    bundle = tiny_bundle(tmp_path / "m")
    assert of_network(net, CPU)(rows) == pytest.approx(Engine(bundle).predict(rows), abs=1e-3)
    report = of_bundle(bundle, sentiment)
    by_torch = measure(of_network(net, CPU), read_sentiment(sentiment), decoder("sentiment", LABELS["sentiment"]))
    assert report.metrics == pytest.approx(by_torch.metrics, abs=1e-3)
    assert report.corpus.gold == by_torch.corpus.gold


def test_a_network_predicts_in_evaluation_mode() -> None:
    net = network(architecture())
    net.dropouts = Dropouts(0.5, 0.5)
    net.train()
    rows = random_rows(net.architecture, (5, 5))
    predict = of_network(net, CPU)
    np.testing.assert_array_equal(predict(rows), predict(rows))


def test_a_bundle_cuts_at_its_own_limit(tmp_path: Path, sentiment: Path) -> None:
    bundle = tiny_bundle(tmp_path / "m")
    short = Bundle(bundle.name, 1, bundle.path, bundle.manifest.model_copy(update={"token_limit": 10}))
    assert of_bundle(bundle, sentiment).corpus.truncated == 0
    assert of_bundle(short, sentiment).corpus.truncated == 1


def test_a_tagger_through_its_bundle(tmp_path: Path, ner: Path) -> None:
    report = of_bundle(tiny_bundle(tmp_path / "m", task="ner"), ner)
    assert set(report.metrics) >= {"precision", "recall", "f1"}
    assert report.corpus.gold[0] == ("B-PER", "I-PER", "O", "O", "B-LOC")


@pytest.mark.parametrize("crf", [False, True])
@pytest.mark.parametrize("limit", [2, 100])
def test_the_mark_of_a_tagger_is_the_figure_that_is_measured(tmp_path: Path, ner: Path, crf: bool, limit: int) -> None:
    """And the loss that of the tokens that were read."""
    generator = np.random.default_rng(1)
    lines = [f"{word}\tO" if word else "" for word in generator.choice(["Ada", "in", "London", ".", ""], 400).tolist()]
    other = tmp_path / "other" / "dev.conll"
    other.parent.mkdir()
    other.write_text("\n".join(lines).replace("London\tO", "London\tB-LOC").replace("Ada\tO", "Ada\tB-PER"), "utf-8")
    net = network(architecture(task="ner", crf=crf))
    data = [read_ner(ner, limit), read_ner(other, limit)]
    found = mark(net, data, CPU)
    assert 0 < found.score < 1
    reports = [measure(of_network(net, CPU), each, decoder_of(net)) for each in data]
    assert found.score == np.mean([report.headline for report in reports])
    number = {label: row for row, label in enumerate(LABELS["ner"])}
    losses = []
    for each in data:
        total = 0.0
        for source, tags_ in zip(each.encoded, each.gold, strict=True):
            logits = torch.from_numpy(of_network(net, CPU)([source.rows]))
            wanted = torch.tensor([[number[tag] for tag in tags_[: len(source)]]])
            if net.crf is not None:
                total += net.crf.loss(logits, wanted, torch.tensor([len(source)])).item() * len(source)
            else:
                total += torch.nn.functional.cross_entropy(logits[0], wanted[0], reduction="sum").item()
        losses.append(total / sum(map(len, each.encoded)))
    assert found.loss == pytest.approx(np.mean(losses), rel=1e-5)


def test_the_mark_of_a_classifier_is_the_figure_that_is_measured(sentiment: Path) -> None:
    net, data = network(architecture()), read_sentiment(sentiment)
    found = mark(net, [data], CPU)
    assert 0 < found.score < 1
    assert found.score == measure(of_network(net, CPU), data, decoder_of(net)).headline


@pytest.mark.parametrize("task", ["sentiment", "ner"])
def test_a_network_whose_answers_are_no_numbers_has_no_mark(task: Task, sentiment: Path, ner: Path) -> None:
    net = network(architecture(task=task))
    net.head.bias.data[0] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        mark(net, [read_ner(ner) if task == "ner" else read_sentiment(sentiment)], CPU)
